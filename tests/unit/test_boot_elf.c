/* SPDX-License-Identifier: MIT */
#include "tests/unit/test_boot.h"

#include <elf.h>
#include <errno.h>
#include <stdlib.h>

#include "boot/boot.h"

#define RAM MIB(64)
#define LOAD_GPA MIB(1)
#define CODE_OFFSET 0x1000
#define CODE_BYTES 0x800
#define BSS_BYTES 0x300
#define NOTE_OFFSET 0x200
#define ENTRY (LOAD_GPA + 0x40)
#define IMAGE_BYTES (CODE_OFFSET + CODE_BYTES)

/* One loadable segment and one with notes, in either class. */
struct image {
	union {
		uint8_t bytes[IMAGE_BYTES];
		struct {
			Elf64_Ehdr ehdr;
			Elf64_Phdr load, note;
		} e64;
		struct {
			Elf32_Ehdr ehdr;
			Elf32_Phdr load, note;
		} e32;
	};
	size_t note_len;
};

static void add_note(struct image *image, const char *name, uint32_t type, const void *desc,
		     uint32_t len)
{
	Elf64_Nhdr note = {(uint32_t)strlen(name) + 1, len, type};
	uint8_t *at = image->bytes + NOTE_OFFSET + image->note_len;
	size_t name_len = align_up(note.n_namesz, 4);

	memcpy(at, &note, sizeof(note));
	memcpy(at + sizeof(note), name, note.n_namesz);
	memcpy(at + sizeof(note) + name_len, desc, len);
	image->note_len += sizeof(note) + name_len + align_up(len, 4);
	image->e64.note.p_filesz = image->note_len;
}

static void image_make64(struct image *image)
{
	const uint32_t entry = ENTRY;

	memset(image, 0, sizeof(*image));
	image->e64.ehdr = (Elf64_Ehdr){
		.e_ident = {0x7F, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
		.e_type = ET_EXEC,
		.e_machine = EM_X86_64,
		.e_phoff = sizeof(Elf64_Ehdr),
		.e_phentsize = sizeof(Elf64_Phdr),
		.e_phnum = 2,
	};
	image->e64.load = (Elf64_Phdr){
		.p_type = PT_LOAD,
		.p_offset = CODE_OFFSET,
		.p_vaddr = 0xFFFFFFFF80000000,
		.p_paddr = LOAD_GPA,
		.p_filesz = CODE_BYTES,
		.p_memsz = CODE_BYTES + BSS_BYTES,
	};
	image->e64.note = (Elf64_Phdr){.p_type = PT_NOTE, .p_offset = NOTE_OFFSET, .p_align = 4};
	memset(image->bytes + CODE_OFFSET, 0x90, CODE_BYTES);
	add_note(image, "GNU", 3, "\1\2\3\4\5", 5);
	add_note(image, "Xen", 18, &entry, sizeof(entry));
}

static void image_make32(struct image *image)
{
	struct image wide;

	image_make64(&wide);
	*image = wide;
	memset(image->bytes, 0, NOTE_OFFSET);
	image->e32.ehdr = (Elf32_Ehdr){
		.e_ident = {0x7F, 'E', 'L', 'F', ELFCLASS32, ELFDATA2LSB, EV_CURRENT},
		.e_type = ET_EXEC,
		.e_machine = EM_386,
		.e_phoff = sizeof(Elf32_Ehdr),
		.e_phentsize = sizeof(Elf32_Phdr),
		.e_phnum = 2,
	};
	image->e32.load = (Elf32_Phdr){
		.p_type = PT_LOAD,
		.p_offset = CODE_OFFSET,
		.p_paddr = LOAD_GPA,
		.p_filesz = CODE_BYTES,
		.p_memsz = CODE_BYTES + BSS_BYTES,
	};
	image->e32.note = (Elf32_Phdr){
		.p_type = PT_NOTE,
		.p_offset = NOTE_OFFSET,
		.p_filesz = (uint32_t)wide.note_len,
	};
}

static int try_load(const struct image *image, size_t len, struct boot_options opts,
		    struct vm *vm, struct vcpu_entry *entry, bool *is_linux)
{
	struct test_file file = file_make(image->bytes, len);
	struct boot *boot;
	int ret;

	opts.kernel = file.path;
	if (!opts.cmdline)
		opts.cmdline = "hello";
	machine_init(vm, RAM);
	/* What an earlier guest left where the segment's zeroes belong. */
	memset(mem_at(&vm->mem, LOAD_GPA, MIB(1)), 0xAA, MIB(1));
	ret = boot_open(&opts, &boot);
	if (ret == 0) {
		*is_linux = boot_info(boot)->is_linux;
		assert_int_equal(boot_info(boot)->kind, BOOT_ELF_PVH);
		ret = boot_load(boot, vm, entry);
		boot_close(boot);
	}
	file_drop(&file);
	return ret;
}

/* hvm_start_info, as Xen's headers have it. */
struct start_info {
	uint32_t magic, version, flags, nr_modules;
	uint64_t modlist, cmdline, rsdp, memmap;
	uint32_t memmap_entries, reserved;
};

static void check_loaded(const struct vm *vm, const struct vcpu_entry *entry,
			 struct start_info *info)
{
	const uint8_t *code = mem_at(&vm->mem, LOAD_GPA, CODE_BYTES + BSS_BYTES + 1);
	uint64_t map[3];

	assert_int_equal(entry->mode, VCPU_PROTECTED_32);
	assert_int_equal(entry->rip, ENTRY);
	assert_int_equal(code[0], 0x90);
	assert_int_equal(code[CODE_BYTES - 1], 0x90);
	assert_int_equal(code[CODE_BYTES], 0);
	assert_int_equal(code[CODE_BYTES + BSS_BYTES - 1], 0);
	assert_int_equal(code[CODE_BYTES + BSS_BYTES], 0xAA);

	assert_int_equal(mem_read(&vm->mem, entry->rbx, info, sizeof(*info)), 0);
	assert_int_equal(info->magic, 0x336EC578);
	assert_int_equal(info->version, 1);
	assert_string_equal(mem_at(&vm->mem, info->cmdline, 8), "hello");
	assert_memory_equal(mem_at(&vm->mem, info->rsdp, 8), "RSD PTR ", 8);
	assert_int_equal(info->memmap_entries, 6);
	mem_read(&vm->mem, info->memmap + 3 * 24, map, sizeof(map));
	assert_int_equal(map[0], MIB(1));
	assert_int_equal(map[1], RAM - MIB(1));
	assert_int_equal(map[2], 1);
}

static void test_load(void **state)
{
	struct vcpu_entry entry;
	struct start_info info;
	struct image image;
	bool is_linux;
	struct vm vm;

	image_make64(&image);
	assert_int_equal(try_load(&image, IMAGE_BYTES, (struct boot_options){0}, &vm, &entry,
				  &is_linux), 0);
	check_loaded(&vm, &entry, &info);
	assert_int_equal(info.nr_modules, 0);
	assert_false(is_linux);
	machine_finish(&vm);

	image_make32(&image);
	assert_int_equal(try_load(&image, IMAGE_BYTES, (struct boot_options){0}, &vm, &entry,
				  &is_linux), 0);
	check_loaded(&vm, &entry, &info);
	machine_finish(&vm);
}

static void test_initrd(void **state)
{
	struct test_file initrd = file_make("initrd", 6);
	struct vcpu_entry entry;
	struct start_info info;
	struct image image;
	uint64_t module[4];
	bool is_linux;
	struct vm vm;

	image_make64(&image);
	assert_int_equal(try_load(&image, IMAGE_BYTES,
				  (struct boot_options){.initrd = initrd.path}, &vm, &entry,
				  &is_linux), 0);
	check_loaded(&vm, &entry, &info);
	assert_int_equal(info.nr_modules, 1);
	mem_read(&vm.mem, info.modlist, module, sizeof(module));
	assert_int_equal(module[0], RAM - 4096);
	assert_int_equal(module[1], 6);
	assert_int_equal(module[2], 0);
	assert_memory_equal(mem_at(&vm.mem, module[0], 6), "initrd", 6);
	machine_finish(&vm);
	file_drop(&initrd);
}

static bool tells_linux(const struct image *image)
{
	struct vcpu_entry entry;
	bool is_linux = false;
	struct vm vm;

	assert_int_equal(try_load(image, IMAGE_BYTES, (struct boot_options){0}, &vm, &entry,
				  &is_linux), 0);
	machine_finish(&vm);
	return is_linux;
}

static void test_is_linux(void **state)
{
	static const char banner[] = "Linux version ";
	struct image image;

	image_make64(&image);
	memcpy(image.bytes + IMAGE_BYTES - 14, banner, 14);
	assert_true(tells_linux(&image));
	image_make64(&image);
	memcpy(image.bytes + IMAGE_BYTES - 13, banner, 13);
	assert_false(tells_linux(&image));
	/* Outside of what is loaded it says nothing. */
	memcpy(image.bytes + 0x800, banner, 14);
	assert_false(tells_linux(&image));
	image_make64(&image);
	add_note(&image, "Linux", 0x101, "\0\0\0\0", 4);
	assert_true(tells_linux(&image));
	image_make64(&image);
	add_note(&image, "Xen", 6, "linux", 6);
	assert_true(tells_linux(&image));
}

/* The banner across the border between two chunks of the search. */
static void test_is_linux_border(void **state)
{
	struct test_file file;
	struct boot_options opts = {.cmdline = ""};
	struct image image;
	struct boot *boot;

	for (uint64_t at = MIB(1) - 15; at <= MIB(1) + 1; at++) {
		image_make64(&image);
		image.e64.load.p_filesz = image.e64.load.p_memsz = MIB(2);
		file = file_make(image.bytes, IMAGE_BYTES);
		assert_int_equal(ftruncate(file.fd, CODE_OFFSET + MIB(2)), 0);
		assert_int_equal(pwrite_full(file.fd, "Linux version ", 14, CODE_OFFSET + at),
				 0);
		opts.kernel = file.path;
		assert_int_equal(boot_open(&opts, &boot), 0);
		assert_true(boot_info(boot)->is_linux);
		boot_close(boot);
		file_drop(&file);
	}
}

static void big_endian(struct image *i) { i->e64.ehdr.e_ident[EI_DATA] = ELFDATA2MSB; }
static void arm(struct image *i) { i->e64.ehdr.e_machine = EM_AARCH64; }
static void object(struct image *i) { i->e64.ehdr.e_type = ET_REL; }
static void no_phdrs(struct image *i) { i->e64.ehdr.e_phnum = 0; }
static void many_phdrs(struct image *i) { i->e64.ehdr.e_phnum = 0xFFFF; }
static void odd_phdrs(struct image *i) { i->e64.ehdr.e_phentsize = 1; }
static void far_phdrs(struct image *i) { i->e64.ehdr.e_phoff = UINT64_MAX - 8; }
static void far_segment(struct image *i) { i->e64.load.p_offset = UINT64_MAX; }
static void long_segment(struct image *i) { i->e64.load.p_filesz++; i->e64.load.p_memsz += 2; }
static void short_memory(struct image *i) { i->e64.load.p_memsz = CODE_BYTES - 1; }
static void wrapping(struct image *i) { i->e64.load.p_paddr = UINT64_MAX - 0x400; }
static void too_high(struct image *i) { i->e64.load.p_memsz = GIB(3) - MIB(1) + 1; }
static void past_ram(struct image *i) { i->e64.load.p_memsz = RAM; }
static void too_low(struct image *i) { i->e64.load.p_paddr = 0xFF000; }
static void no_note(struct image *i) { i->e64.note.p_type = PT_NULL; }
static void cut_note(struct image *i) { i->e64.note.p_filesz -= 4; }
static void far_note(struct image *i) { i->e64.note.p_offset = IMAGE_BYTES; }
static void huge_note(struct image *i) { i->e64.note.p_filesz = GIB(1); }
static void no_load(struct image *i) { i->e64.load.p_type = PT_NULL; }
static void entry_outside(struct image *i) { i->e64.load.p_paddr = MIB(2); }

static void test_refusals(void **state)
{
	static const struct {
		void (*spoil)(struct image *image);
		const char *needle;
	} cases[] = {
		{big_endian, "not for x86"},	    {arm, "not for x86"},
		{object, "not an executable"},	    {no_phdrs, "program headers"},
		{many_phdrs, "program headers"},    {odd_phdrs, "program headers"},
		{far_phdrs, "truncated"},	    {far_segment, "truncated"},
		{long_segment, "truncated"},	    {short_memory, "does not fit"},
		{wrapping, "does not fit"},	    {too_high, "does not fit"},
		{past_ram, "use --mem 65M"},	    {too_low, "below 1 MiB"},
		{no_note, "without a PVH entry"},   {cut_note, "without a PVH entry"},
		{far_note, "notes"},		    {huge_note, "notes"},
		{no_load, "outside its segments"},  {entry_outside, "outside its segments"},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct vcpu_entry entry;
		struct image image;
		bool is_linux;
		struct vm vm;

		image_make64(&image);
		cases[i].spoil(&image);
		caught_begin();
		assert_true(try_load(&image, IMAGE_BYTES, (struct boot_options){0}, &vm, &entry,
				     &is_linux) < 0);
		assert_one_error(caught_end(), cases[i].needle);
		machine_finish(&vm);
	}
}

static void test_truncated(void **state)
{
	struct image image;

	image_make64(&image);
	for (size_t len = 4; len < IMAGE_BYTES; len += 61) {
		struct vcpu_entry entry;
		bool is_linux;
		struct vm vm;

		caught_begin();
		assert_true(try_load(&image, len, (struct boot_options){0}, &vm, &entry,
				     &is_linux) < 0);
		assert_one_error(caught_end(), "truncated");
		machine_finish(&vm);
	}
}

static void test_many_segments(void **state)
{
	struct image image;
	struct vcpu_entry entry;
	bool is_linux;
	struct vm vm;

	image_make64(&image);
	image.e64.ehdr.e_phoff = 0x400;
	image.e64.ehdr.e_phnum = 33;
	for (int i = 0; i < 33; i++)
		memcpy(image.bytes + 0x400 + i * sizeof(Elf64_Phdr), &image.e64.load,
		       sizeof(Elf64_Phdr));
	caught_begin();
	assert_true(try_load(&image, IMAGE_BYTES, (struct boot_options){0}, &vm, &entry,
			     &is_linux) < 0);
	assert_one_error(caught_end(), "more than 32");
	machine_finish(&vm);
}

/* The room for a command line is the limit, or what Linux keeps. */
static void test_cmdline(void **state)
{
	char *text = calloc(1, 0x10001);
	struct vcpu_entry entry;
	struct image image;
	bool is_linux;
	struct vm vm;

	memset(text, 'x', 0xFFFF);
	image_make64(&image);
	assert_int_equal(try_load(&image, IMAGE_BYTES, (struct boot_options){.cmdline = text},
				  &vm, &entry, &is_linux), 0);
	machine_finish(&vm);
	add_note(&image, "Linux", 0x101, "\0\0\0\0", 4);
	caught_begin();
	assert_int_equal(try_load(&image, IMAGE_BYTES, (struct boot_options){.cmdline = text},
				  &vm, &entry, &is_linux), -E2BIG);
	assert_one_error(caught_end(), "2047 at most");
	machine_finish(&vm);
	image_make64(&image);
	text[0xFFFF] = 'x';
	caught_begin();
	assert_int_equal(try_load(&image, IMAGE_BYTES, (struct boot_options){.cmdline = text},
				  &vm, &entry, &is_linux), -E2BIG);
	assert_one_error(caught_end(), "65535 at most");
	machine_finish(&vm);
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_load),
		cmocka_unit_test(test_initrd),
		cmocka_unit_test(test_is_linux),
		cmocka_unit_test(test_is_linux_border),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_truncated),
		cmocka_unit_test(test_many_segments),
		cmocka_unit_test(test_cmdline),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
