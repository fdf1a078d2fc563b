/* SPDX-License-Identifier: MIT */
#include "tests/unit/test_boot.h"

#include <errno.h>
#include <stdlib.h>

#include <asm/bootparam.h>

#include "boot/boot.h"

#define SECTS 4
#define CODE_OFFSET ((SECTS + 1) * 512)
#define CODE_BYTES 4096
#define IMAGE_BYTES (CODE_OFFSET + CODE_BYTES)
#define RAM MIB(64)

struct image {
	uint8_t bytes[IMAGE_BYTES];
};

static struct setup_header *header(struct image *image)
{
	return (struct setup_header *)(image->bytes + 0x1F1);
}

static void image_make(struct image *image)
{
	struct setup_header hdr = {
		.setup_sects = SECTS,
		.syssize = CODE_BYTES / 16,
		.boot_flag = 0xAA55,
		.jump = 0x66EB, /* the header ends at 0x268 */
		.header = 0x53726448,
		.version = 0x20F,
		.loadflags = LOADED_HIGH,
		.initrd_addr_max = 0x7FFFFFFF,
		.kernel_alignment = MIB(2),
		.relocatable_kernel = 1,
		.xloadflags = XLF_KERNEL_64,
		.cmdline_size = 2047,
		.pref_address = MIB(16),
		.init_size = MIB(4),
	};

	for (size_t i = 0; i < IMAGE_BYTES; i++)
		image->bytes[i] = (uint8_t)(i * 7);
	memcpy(image->bytes + 0x1F1, &hdr, sizeof(hdr));
}

struct loaded {
	struct vm vm;
	struct vcpu_entry entry;
	struct boot_params params;
};

/* Open and load: what boot_open or boot_load said. */
static int try_load(const struct image *image, size_t len, struct boot_options opts,
		    uint64_t ram, struct loaded *out)
{
	struct test_file file = file_make(image, len);
	struct boot *boot;
	int ret;

	opts.kernel = file.path;
	machine_init(&out->vm, ram);
	ret = boot_open(&opts, &boot);
	if (ret == 0) {
		ret = boot_load(boot, &out->vm, &out->entry);
		boot_close(boot);
	}
	if (ret == 0)
		mem_read(&out->vm.mem, out->entry.rsi, &out->params, sizeof(out->params));
	file_drop(&file);
	return ret;
}

static uint64_t read64(const struct vm *vm, uint64_t gpa)
{
	uint64_t value;

	assert_int_equal(mem_read(&vm->mem, gpa, &value, sizeof(value)), 0);
	return value;
}

/* Walk the page tables as a processor does; user access at every level. */
static uint64_t translate(const struct vm *vm, uint64_t cr3, uint64_t addr)
{
	uint64_t entry = cr3;

	for (int shift = 39; shift >= 21; shift -= 9) {
		entry = read64(vm, (entry & ~0xFFFull) + (addr >> shift & 511) * 8);
		assert_int_equal(entry & 7, 7);
	}
	assert_true(entry & 0x80);
	return (entry & ~0x1FFFFFull) + (addr & 0x1FFFFF);
}

static void test_entry64(void **state)
{
	const struct boot_options opts = {.cmdline = "hello world"};
	struct loaded l;
	struct image image;
	char text[32];

	image_make(&image);
	assert_int_equal(try_load(&image, sizeof(image), opts, RAM, &l), 0);
	assert_int_equal(l.entry.mode, VCPU_LONG_64);
	assert_int_equal(l.entry.rip, MIB(16) + 0x200);
	assert_memory_equal(mem_at(&l.vm.mem, MIB(16), CODE_BYTES), image.bytes + CODE_OFFSET,
			    CODE_BYTES);
	for (uint64_t addr = 0; addr < GIB(4); addr += 0x7FFF123)
		assert_int_equal(translate(&l.vm, l.entry.cr3, addr), addr);
	assert_int_equal(l.entry.gdt_len_bytes, 32);
	assert_int_equal(read64(&l.vm, l.entry.gdt_gpa + 0x10), 0x00AF9B000000FFFF);
	assert_int_equal(read64(&l.vm, l.entry.gdt_gpa + 0x18), 0x00CF93000000FFFF);

	assert_int_equal(l.params.hdr.header, 0x53726448);
	assert_int_equal(l.params.hdr.version, 0x20F);
	assert_int_equal(l.params.hdr.type_of_loader, 0xFF);
	assert_int_equal(l.params.hdr.code32_start, MIB(16));
	assert_int_equal(l.params.hdr.ramdisk_size, 0);
	assert_int_equal(l.params.sentinel, 0);
	assert_int_equal(l.params.screen_info.orig_video_isVGA, 0);
	assert_int_equal(l.params.e820_entries, 6);
	assert_int_equal(l.params.e820_table[3].addr, MIB(1));
	assert_int_equal(l.params.e820_table[3].size, RAM - MIB(1));
	mem_read(&l.vm.mem, l.params.hdr.cmd_line_ptr, text, sizeof(text));
	assert_string_equal(text, "hello world");
	assert_memory_equal(mem_at(&l.vm.mem, l.params.acpi_rsdp_addr, 8), "RSD PTR ", 8);
	machine_finish(&l.vm);
}

/* Bytes of the real-mode code must not leak into boot_params where the header is short. */
static void test_short_header(void **state)
{
	const struct boot_options opts = {.cmdline = ""};
	struct loaded l;
	struct image image;

	image_make(&image);
	header(&image)->version = 0x202;
	header(&image)->jump = 0x2AEB; /* ends at 0x22C */
	memset(image.bytes + 0x22C, 0xEE, 0x100);
	assert_int_equal(try_load(&image, sizeof(image), opts, RAM, &l), 0);
	assert_int_equal(l.entry.mode, VCPU_PROTECTED_32);
	assert_int_equal(l.entry.rip, MIB(1));
	assert_int_equal(l.params.hdr.init_size, 0);
	assert_int_equal(l.params.hdr.kernel_info_offset, 0);
	assert_int_equal(l.params.hdr.setup_data, 0);
	machine_finish(&l.vm);
}

static void test_entry32(void **state)
{
	const struct boot_options opts = {.cmdline = ""};
	struct loaded l;
	struct image image;

	image_make(&image);
	header(&image)->xloadflags = 0;
	assert_int_equal(try_load(&image, sizeof(image), opts, RAM, &l), 0);
	assert_int_equal(l.entry.mode, VCPU_PROTECTED_32);
	assert_int_equal(l.entry.rip, MIB(16));
	assert_int_equal(read64(&l.vm, l.entry.gdt_gpa + 0x10), 0x00CF9B000000FFFF);
	machine_finish(&l.vm);
}

static void test_initrd(void **state)
{
	static const char content[] = "an initrd";
	struct test_file initrd = file_make(content, sizeof(content));
	const struct boot_options opts = {.cmdline = "", .initrd = initrd.path};
	struct loaded l;
	struct image image;

	image_make(&image);
	assert_int_equal(try_load(&image, sizeof(image), opts, RAM, &l), 0);
	assert_int_equal(l.params.hdr.ramdisk_image, RAM - 4096);
	assert_int_equal(l.params.hdr.ramdisk_size, sizeof(content));
	assert_memory_equal(mem_at(&l.vm.mem, RAM - 4096, sizeof(content)), content,
			    sizeof(content));
	machine_finish(&l.vm);

	header(&image)->initrd_addr_max = MIB(40) - 1;
	assert_int_equal(try_load(&image, sizeof(image), opts, RAM, &l), 0);
	assert_int_equal(l.params.hdr.ramdisk_image, MIB(40) - 4096);
	machine_finish(&l.vm);
	file_drop(&initrd);
}

static void test_initrd_does_not_fit(void **state)
{
	struct test_file initrd = file_make("x", 1);
	const struct boot_options opts = {.cmdline = "", .initrd = initrd.path};
	struct loaded l;
	struct image image;

	image_make(&image);
	assert_int_equal(ftruncate(initrd.fd, MIB(45)), 0);
	caught_begin();
	assert_int_equal(try_load(&image, sizeof(image), opts, RAM, &l), -ENOMEM);
	assert_one_error(caught_end(), "use --mem 65M");
	machine_finish(&l.vm);

	/* More memory would not help: the kernel cannot reach it. */
	header(&image)->initrd_addr_max = MIB(30) - 1;
	caught_begin();
	assert_int_equal(try_load(&image, sizeof(image), opts, RAM, &l), -EFBIG);
	assert_one_error(caught_end(), "too large");
	machine_finish(&l.vm);
	file_drop(&initrd);
}

/* A reset loads all again over what the guest left. */
static void test_reload(void **state)
{
	struct test_file file;
	struct boot_options opts = {.cmdline = "again"};
	struct vcpu_entry first, second;
	struct image image;
	struct boot *boot;
	struct vm vm;

	image_make(&image);
	file = file_make(&image, sizeof(image));
	opts.kernel = file.path;
	machine_init(&vm, RAM);
	assert_int_equal(boot_open(&opts, &boot), 0);
	assert_true(boot_info(boot)->is_linux);
	assert_int_equal(boot_info(boot)->kind, BOOT_BZIMAGE);
	assert_string_equal(boot_info(boot)->cmdline, "again");
	assert_int_equal(boot_load(boot, &vm, &first), 0);
	memset(mem_at(&vm.mem, 0, RAM), 0xAA, RAM);
	assert_int_equal(boot_load(boot, &vm, &second), 0);
	assert_memory_equal(&first, &second, sizeof(first));
	assert_memory_equal(mem_at(&vm.mem, MIB(16), CODE_BYTES), image.bytes + CODE_OFFSET,
			    CODE_BYTES);
	assert_int_equal(translate(&vm, second.cr3, GIB(3)), GIB(3));

	/* The file shrinks under a running guest. */
	assert_int_equal(ftruncate(file.fd, 2000), 0);
	caught_begin();
	assert_int_equal(boot_load(boot, &vm, &second), -ENODATA);
	assert_one_error(caught_end(), "shorter");
	boot_close(boot);
	machine_finish(&vm);
	file_drop(&file);
}

static void low_version(struct setup_header *hdr) { hdr->version = 0x201; }
static void zimage(struct setup_header *hdr) { hdr->loadflags = 0; }
static void no_code(struct setup_header *hdr) { hdr->syssize = 0; }
static void long_code(struct setup_header *hdr) { hdr->syssize++; }
static void huge_code(struct setup_header *hdr) { hdr->syssize = UINT32_MAX; }
static void no_entry64(struct setup_header *hdr) { hdr->syssize = 0x20; }
static void odd_alignment(struct setup_header *hdr) { hdr->kernel_alignment = 3; }
static void low_address(struct setup_header *hdr) { hdr->pref_address = 0x10000; }
static void high_address(struct setup_header *hdr) { hdr->pref_address = UINT64_MAX; }
static void large_init(struct setup_header *hdr) { hdr->init_size = MIB(48) + 1; }
static void huge_init(struct setup_header *hdr) { hdr->init_size = UINT32_MAX; }
static void align_past_ram(struct setup_header *hdr) { hdr->kernel_alignment = 1u << 31; }
static void short_cmdline(struct setup_header *hdr) { hdr->cmdline_size = 4; }
static void no_magic(struct setup_header *hdr) { hdr->header = 0; }

static void test_refusals(void **state)
{
	static const struct {
		void (*spoil)(struct setup_header *hdr);
		const char *needle;
	} cases[] = {
		{low_version, "older than 2.02"}, {zimage, "zImage"},
		{no_code, "empty"},		  {long_code, "truncated"},
		{huge_code, "truncated"},	  {no_entry64, "64-bit entry"},
		{odd_alignment, "power of two"},  {low_address, "1 MiB"},
		{high_address, "1 MiB"},	  {large_init, "use --mem 65M"},
		{huge_init, "below 4 GiB"},	  {align_past_ram, "--mem 2052M"},
		{short_cmdline, "4 at most"},	  {no_magic, "neither a bzImage nor"},
	};
	const struct boot_options opts = {.cmdline = "12345"};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct loaded l;
		struct image image;

		image_make(&image);
		cases[i].spoil(header(&image));
		caught_begin();
		assert_true(try_load(&image, sizeof(image), opts, RAM, &l) < 0);
		assert_one_error(caught_end(), cases[i].needle);
		machine_finish(&l.vm);
	}
}

/* No length of a cut file may be taken, and each says so in one line. */
static void test_truncated(void **state)
{
	const struct boot_options opts = {.cmdline = ""};
	static const size_t lens[] = {1, 0x1FF, 0x205, 0x206, 0x230, 0x267, 0x300, 512 * SECTS,
				      CODE_OFFSET, IMAGE_BYTES - 1};

	for (size_t i = 0; i < ARRAY_LEN(lens); i++) {
		struct loaded l;
		struct image image;

		image_make(&image);
		caught_begin();
		assert_true(try_load(&image, lens[i], opts, RAM, &l) < 0);
		assert_one_error(caught_end(), lens[i] >= 0x206 ? "truncated" : "neither");
		machine_finish(&l.vm);
	}
}

static void check_open(const char *kernel, const char *initrd, const char *needle)
{
	struct boot_options opts = {.kernel = kernel, .initrd = initrd, .cmdline = ""};
	struct boot *boot;

	caught_begin();
	assert_true(boot_open(&opts, &boot) < 0);
	assert_one_error(caught_end(), needle);
}

static void test_files(void **state)
{
	struct test_file empty = file_make("", 0);
	struct test_file gz = file_make("\x1F\x8B\x08", 3);
	struct test_file text = file_make("#!/bin/sh\n", 10);
	struct test_file good;
	struct image image;

	check_open("/nonexistent/vmlinuz", NULL, "kernel /nonexistent/vmlinuz: No such file");
	check_open("/", NULL, "is a directory");
	check_open("/dev/null", NULL, "not a regular file");
	check_open(empty.path, NULL, "the file is empty");
	check_open(gz.path, NULL, "gzip");
	check_open(text.path, NULL, "neither a bzImage nor an ELF file");
	image_make(&image);
	good = file_make(&image, sizeof(image));
	check_open(good.path, "/nonexistent/initrd", "initrd /nonexistent/initrd: No such file");
	check_open(good.path, "/", "initrd /: is a directory");
	check_open(good.path, empty.path, "the file is empty");
	file_drop(&empty);
	file_drop(&gz);
	file_drop(&text);
	file_drop(&good);
}

static void test_little_memory(void **state)
{
	const struct boot_options opts = {.cmdline = ""};
	struct loaded l;
	struct image image;

	image_make(&image);
	for (uint64_t ram = 4096; ram <= MIB(16); ram *= 4) {
		caught_begin();
		assert_true(try_load(&image, sizeof(image), opts, ram, &l) < 0);
		assert_one_error(caught_end(), "--mem");
		machine_finish(&l.vm);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_entry64),
		cmocka_unit_test(test_short_header),
		cmocka_unit_test(test_entry32),
		cmocka_unit_test(test_initrd),
		cmocka_unit_test(test_initrd_does_not_fit),
		cmocka_unit_test(test_reload),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_truncated),
		cmocka_unit_test(test_files),
		cmocka_unit_test(test_little_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
