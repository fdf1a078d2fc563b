/* SPDX-License-Identifier: MIT */
/* The kernel inside of a bzImage: made here, packed in every way, loaded, moved; and what lies. */
#include "tests/unit/test_boot.h"

#include <asm/bootparam.h>
#include <elf.h>
#include <libdeflate.h>
#include <lz4.h>
#include <lzma.h>
#include <stdlib.h>
#include <zstd.h>

#include "boot/boot.h"
#include "util/log.h"

#define RAM MIB(256)
#define LINK MIB(16)
#define ALIGN MIB(2)
#define INIT_SIZE MIB(4)
#define SECTS 4
#define CODE_OFFSET ((SECTS + 1) * 512)
#define PAYLOAD 0x400 /* in the code */
#define IMAGE_MAX KIB(256)

/* The kernel: two segments, with what is to be moved in the second. */
#define SEG0 0x1000
#define SEG1 0x2000
#define SEG1_BYTES 0x800
#define SEG1_MEM 0x1000
#define SEG1_GPA (LINK + 0x3000)
#define SPAN 0x4000
#define ENTRY 0x40
#define VIRT (0xFFFFFFFF80000000u)
#define AT64 0x103 /* not aligned, as they come */
#define AT_SUB 0x200
#define AT_ADD 0x300

struct relocs {
	uint32_t words[16];
	unsigned int count;
};

struct kernel {
	uint8_t bytes[KIB(64)];
	size_t len;
};

struct packed {
	uint8_t bytes[IMAGE_MAX];
	size_t len;
};

static uint32_t address(uint32_t offset)
{
	return (uint32_t)(VIRT + SEG1_GPA + offset);
}

static struct relocs good_relocs(void)
{
	return (struct relocs){{0, address(AT64), 0, address(AT_SUB), 0, address(AT_ADD)}, 6};
}

static void kernel_make(struct kernel *kernel, struct relocs relocs)
{
	const Elf64_Phdr segments[] = {
		{.p_type = PT_LOAD, .p_offset = SEG0, .p_paddr = LINK, .p_filesz = 0x1000,
		 .p_memsz = 0x1000},
		{.p_type = PT_NOTE, .p_offset = UINT64_MAX},
		{.p_type = PT_LOAD, .p_offset = SEG1, .p_paddr = SEG1_GPA, .p_filesz = SEG1_BYTES,
		 .p_memsz = SEG1_MEM},
	};
	const Elf64_Ehdr hdr = {
		.e_ident = {0x7F, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
		.e_type = ET_EXEC, .e_machine = EM_X86_64, .e_entry = LINK + ENTRY,
		.e_phoff = sizeof(hdr), .e_phentsize = sizeof(Elf64_Phdr), .e_phnum = 3,
		.e_shoff = SEG1 + SEG1_BYTES, .e_shentsize = sizeof(Elf64_Shdr), .e_shnum = 2,
	};

	for (size_t i = 0; i < sizeof(kernel->bytes); i++)
		kernel->bytes[i] = (uint8_t)(i * 31 >> 3);
	memcpy(kernel->bytes, &hdr, sizeof(hdr));
	memcpy(kernel->bytes + sizeof(hdr), segments, sizeof(segments));
	kernel->len = hdr.e_shoff + hdr.e_shnum * sizeof(Elf64_Shdr);
	memcpy(kernel->bytes + kernel->len, relocs.words, relocs.count * 4);
	kernel->len += relocs.count * 4;
}

/* --- packing, as the kernel's build does it --- */

static void end_with_length(struct packed *packed, size_t packed_len, size_t len)
{
	uint32_t word = (uint32_t)len;

	assert_true(packed_len > 0 && packed_len + 4 < sizeof(packed->bytes));
	memcpy(packed->bytes + packed_len, &word, sizeof(word));
	packed->len = packed_len + 4;
}

static void pack_gzip(struct packed *packed, const struct kernel *kernel)
{
	struct libdeflate_compressor *c = libdeflate_alloc_compressor(6);

	/* Its own last word is the length. */
	packed->len = libdeflate_gzip_compress(c, kernel->bytes, kernel->len, packed->bytes,
					       sizeof(packed->bytes));
	libdeflate_free_compressor(c);
	assert_true(packed->len);
}

static size_t lz4_block(uint8_t *out, const uint8_t *in, size_t len)
{
	int n = LZ4_compress_default((const char *)in, (char *)out + 4, (int)len, KIB(128));
	uint32_t word = (uint32_t)n;

	assert_true(n > 0);
	memcpy(out, &word, sizeof(word));
	return word + 4;
}

static void pack_lz4(struct packed *packed, const struct kernel *kernel)
{
	size_t first = kernel->len / 3, pos = 4;

	memcpy(packed->bytes, "\x02\x21\x4C\x18", 4);
	pos += lz4_block(packed->bytes + pos, kernel->bytes, first);
	pos += lz4_block(packed->bytes + pos, kernel->bytes + first, kernel->len - first);
	end_with_length(packed, pos, kernel->len);
}

static void pack_zstd(struct packed *packed, const struct kernel *kernel)
{
	size_t len = ZSTD_compress(packed->bytes, sizeof(packed->bytes), kernel->bytes,
				   kernel->len, 3);

	assert_false(ZSTD_isError(len));
	end_with_length(packed, len, kernel->len);
}

static void pack_xz(struct packed *packed, const struct kernel *kernel)
{
	size_t pos = 0;

	assert_int_equal(lzma_easy_buffer_encode(6, LZMA_CHECK_CRC32, NULL, kernel->bytes,
						 kernel->len, packed->bytes, &pos,
						 sizeof(packed->bytes)), LZMA_OK);
	end_with_length(packed, pos, kernel->len);
}

static void pack_lzma(struct packed *packed, const struct kernel *kernel)
{
	lzma_stream stream = LZMA_STREAM_INIT;
	lzma_options_lzma options;

	lzma_lzma_preset(&options, 6);
	assert_int_equal(lzma_alone_encoder(&stream, &options), LZMA_OK);
	stream.next_in = kernel->bytes;
	stream.avail_in = kernel->len;
	stream.next_out = packed->bytes;
	stream.avail_out = sizeof(packed->bytes);
	assert_int_equal(lzma_code(&stream, LZMA_FINISH), LZMA_STREAM_END);
	end_with_length(packed, stream.total_out, kernel->len);
	lzma_end(&stream);
}

typedef void pack_fn(struct packed *packed, const struct kernel *kernel);
static pack_fn *const packers[] = { pack_gzip, pack_lz4, pack_zstd, pack_xz, pack_lzma };

/* --- loading --- */

struct loaded {
	struct vm vm;
	struct vcpu_entry entry;
	struct boot_params params;
};

static void load(struct loaded *out, const struct packed *packed, struct boot_options opts)
{
	static uint8_t image[IMAGE_MAX];
	size_t code = align_up(PAYLOAD + packed->len, 16);
	const struct setup_header hdr = {
		.setup_sects = SECTS, .syssize = (uint32_t)code / 16, .boot_flag = 0xAA55,
		.jump = 0x66EB, .header = 0x53726448, .version = 0x20F, .loadflags = LOADED_HIGH,
		.initrd_addr_max = 0x7FFFFFFF, .kernel_alignment = ALIGN, .relocatable_kernel = 1,
		.xloadflags = XLF_KERNEL_64, .cmdline_size = 2047, .pref_address = LINK,
		.init_size = INIT_SIZE, .payload_offset = PAYLOAD,
		.payload_length = (uint32_t)packed->len,
	};
	struct test_file file;
	struct boot *boot;

	memset(image, 0xCC, sizeof(image));
	memcpy(image + 0x1F1, &hdr, sizeof(hdr));
	memcpy(image + CODE_OFFSET + PAYLOAD, packed->bytes, packed->len);
	file = file_make(image, CODE_OFFSET + code);
	opts.kernel = file.path;
	machine_init(&out->vm, RAM);
	out->entry = (struct vcpu_entry){0};
	assert_int_equal(boot_open(&opts, &boot), 0);
	assert_int_equal(boot_load(boot, &out->vm, &out->entry), 0);
	boot_close(boot);
	file_drop(&file);
	assert_int_equal(out->entry.mode, VCPU_LONG_64);
	assert_int_equal(mem_read(&out->vm.mem, out->entry.rsi, &out->params,
				  sizeof(out->params)), 0);
}

static uint64_t seg1_value(const uint8_t *bytes, uint32_t at, size_t len)
{
	uint64_t value = 0;

	memcpy(&value, bytes + at, len);
	return value;
}

/* Where it was moved to, physically, and how far virtually; all else must be as it was. */
static void find_place(const struct loaded *l, const struct kernel *kernel, uint64_t *gpa,
		       uint32_t *shift)
{
	const uint8_t *seg1, *was = kernel->bytes + SEG1;
	uint64_t diff;

	*gpa = l->entry.rip - ENTRY;
	assert_int_equal(*gpa % ALIGN, 0);
	assert_in_range(*gpa, LINK, RAM - INIT_SIZE);
	assert_memory_equal(mem_at(&l->vm.mem, *gpa, 0x1000), kernel->bytes + SEG0, 0x1000);
	seg1 = mem_at(&l->vm.mem, *gpa + SEG1_GPA - LINK, SEG1_MEM);
	diff = seg1_value(seg1, AT64, 8) - seg1_value(was, AT64, 8);
	assert_true(diff % ALIGN == 0 && diff < GIB(1) - LINK - INIT_SIZE + 1);
	*shift = (uint32_t)diff;
	assert_int_equal((uint32_t)(seg1_value(was, AT_SUB, 4) - seg1_value(seg1, AT_SUB, 4)),
			 *shift);
	assert_int_equal((uint32_t)(seg1_value(seg1, AT_ADD, 4) - seg1_value(was, AT_ADD, 4)),
			 *shift);
	assert_memory_equal(seg1, was, AT64);
	assert_memory_equal(seg1 + AT64 + 8, was + AT64 + 8, AT_SUB - AT64 - 8);
	assert_memory_equal(seg1 + AT_ADD + 4, was + AT_ADD + 4, SEG1_BYTES - AT_ADD - 4);
	for (size_t i = SEG1_BYTES; i < SEG1_MEM; i++)
		assert_int_equal(seg1[i], 0);
}

static void test_formats(void **state)
{
	static struct packed packed;
	static struct kernel kernel;
	struct loaded l;
	uint64_t gpa;
	uint32_t shift;

	kernel_make(&kernel, good_relocs());
	for (size_t i = 0; i < ARRAY_LEN(packers); i++) {
		packers[i](&packed, &kernel);
		load(&l, &packed, (struct boot_options){.cmdline = "quiet"});
		find_place(&l, &kernel, &gpa, &shift);
		assert_true(l.params.hdr.loadflags & KASLR_FLAG);
		machine_finish(&l.vm);
	}
}

/* As many of each as chance allows, and none but for who wants it. */
static void test_places(void **state)
{
	static struct packed packed;
	static struct kernel kernel;
	struct loaded l;
	uint64_t gpa[20];
	uint32_t shift[20];
	unsigned int same_gpa = 0, same_shift = 0;

	kernel_make(&kernel, good_relocs());
	pack_lz4(&packed, &kernel);
	for (unsigned int i = 0; i < 20; i++) {
		load(&l, &packed, (struct boot_options){.cmdline = ""});
		find_place(&l, &kernel, &gpa[i], &shift[i]);
		machine_finish(&l.vm);
		for (unsigned int j = 0; j < i; j++) {
			same_gpa += gpa[j] == gpa[i];
			same_shift += shift[j] == shift[i];
		}
	}
	assert_true(same_gpa < 20 && same_shift < 20); /* 190 pairs of 117 and 503 places */
	for (unsigned int i = 0; i < 2; i++) {
		load(&l, &packed, (struct boot_options){
			.cmdline = i ? "quiet nokaslr" : "quiet", .no_kaslr = !i});
		find_place(&l, &kernel, &gpa[0], &shift[0]);
		assert_int_equal(gpa[0], LINK);
		assert_int_equal(shift[0], 0);
		assert_false(l.params.hdr.loadflags & KASLR_FLAG);
		machine_finish(&l.vm);
	}
	for (unsigned int i = 0; i < 5; i++) {
		load(&l, &packed, (struct boot_options){.cmdline = "memmap=1M$20M"});
		find_place(&l, &kernel, &gpa[0], &shift[0]);
		assert_int_equal(gpa[0], LINK);
		machine_finish(&l.vm);
	}
}

static void test_below_initrd(void **state)
{
	static struct packed packed;
	static struct kernel kernel;
	static uint8_t data[MIB(1)];
	struct test_file initrd;
	struct loaded l;
	uint64_t gpa;
	uint32_t shift;

	memset(data, 0x5A, sizeof(data));
	initrd = file_make(data, sizeof(data));
	assert_int_equal(ftruncate(initrd.fd, (off_t)(RAM - LINK - INIT_SIZE - 3 * ALIGN)), 0);
	kernel_make(&kernel, good_relocs());
	pack_lz4(&packed, &kernel);
	for (unsigned int i = 0; i < 10; i++) {
		load(&l, &packed, (struct boot_options){.cmdline = "", .initrd = initrd.path});
		find_place(&l, &kernel, &gpa, &shift);
		assert_true(gpa + INIT_SIZE <= l.params.hdr.ramdisk_image);
		assert_memory_equal(mem_at(&l.vm.mem, l.params.hdr.ramdisk_image, sizeof(data)),
				    data, sizeof(data));
		machine_finish(&l.vm);
	}
	file_drop(&initrd);
}

/* From the cache it is no other. */
static void test_cached(void **state)
{
	static struct packed packed;
	static struct kernel kernel;
	char base[] = "/tmp/minivmm-direct-XXXXXX", command[64];
	unsigned int hits = 0;
	uint64_t gpa;
	uint32_t shift;
	struct loaded l;

	assert_int_equal(setenv("XDG_CACHE_HOME", mkdtemp(base), 1), 0);
	kernel_make(&kernel, good_relocs());
	pack_zstd(&packed, &kernel);
	log_set_level(LOG_LEVEL_DEBUG);
	for (unsigned int i = 0; i < 20; i++) {
		caught_begin();
		load(&l, &packed, (struct boot_options){.cmdline = "", .kernel_cache = true});
		hits += strstr(caught_end(), "from the cache") != NULL;
		find_place(&l, &kernel, &gpa, &shift);
		machine_finish(&l.vm);
	}
	assert_int_equal(hits, 19);
	snprintf(command, sizeof(command), "rm -r %s", base);
	assert_int_equal(system(command), 0);
}

/* One without relocations is put where it was linked for. */
static void test_immovable(void **state)
{
	static struct packed packed;
	static struct kernel kernel;
	struct loaded l;

	kernel_make(&kernel, (struct relocs){.count = 0});
	pack_zstd(&packed, &kernel);
	load(&l, &packed, (struct boot_options){.cmdline = ""});
	assert_int_equal(l.entry.rip, LINK + ENTRY);
	assert_false(l.params.hdr.loadflags & KASLR_FLAG);
	assert_memory_equal(mem_at(&l.vm.mem, SEG1_GPA, SEG1_BYTES), kernel.bytes + SEG1,
			    SEG1_BYTES);
	machine_finish(&l.vm);
}

/* Its own unpacking code is there, and started. */
static void assert_by_itself(const struct packed *packed)
{
	struct loaded l;

	load(&l, packed, (struct boot_options){.cmdline = ""});
	assert_int_equal(l.entry.rip, LINK + 0x200);
	assert_memory_equal(mem_at(&l.vm.mem, LINK + PAYLOAD, packed->len), packed->bytes,
			    packed->len);
	assert_false(l.params.hdr.loadflags & KASLR_FLAG);
	machine_finish(&l.vm);
}

static void test_lies_about_length(void **state)
{
	static const int64_t lies[] = { -1, 1, -4, 4, INT32_MAX, -(int64_t)KIB(8) };
	static struct packed packed;
	static struct kernel kernel;

	kernel_make(&kernel, good_relocs());
	for (size_t i = 0; i < ARRAY_LEN(packers); i++) {
		for (size_t j = 0; j < ARRAY_LEN(lies); j++) {
			packers[i](&packed, &kernel);
			end_with_length(&packed, packed.len - 4, kernel.len + (size_t)lies[j]);
			assert_by_itself(&packed);
		}
		end_with_length(&packed, packed.len - 4, 0);
		assert_by_itself(&packed);
	}
}

static void test_damaged(void **state)
{
	static struct packed packed;
	static struct kernel kernel;

	kernel_make(&kernel, good_relocs());
	for (size_t i = 0; i < ARRAY_LEN(packers); i++) {
		packers[i](&packed, &kernel);
		end_with_length(&packed, packed.len / 2, kernel.len); /* the rest is missing */
		assert_by_itself(&packed);
		packers[i](&packed, &kernel);
		packed.bytes[0] ^= 0x80;
		assert_by_itself(&packed);
	}
}

static void test_bad_relocs(void **state)
{
	const struct relocs bad[] = {
		{{0, address(SEG1_MEM - 7), 0, 0}, 4},              /* past the end */
		{{0, address(AT64), 0, address(SEG1_MEM - 3), 0}, 5},
		{{0, 0, 0, address(SEG1_MEM - 3)}, 4},
		{{0, 0, 0, (uint32_t)(VIRT + LINK - 1)}, 4},        /* before it */
		{{0, 0, 0, 1}, 4},
		{{0, address(AT64), 0, address(AT_SUB)}, 4},        /* two lists */
		{{0, 0, 0, 0, address(AT64)}, 5},                   /* four */
		{{address(AT64), 0, 0, 0}, 4},                      /* does not begin with one */
	};
	static struct packed packed;
	static struct kernel kernel;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		kernel_make(&kernel, bad[i]);
		pack_lz4(&packed, &kernel);
		assert_by_itself(&packed);
	}
}

static void with_phdr(struct kernel *kernel, const Elf64_Phdr *ph)
{
	static struct packed packed;

	kernel_make(kernel, good_relocs());
	memcpy(kernel->bytes + sizeof(Elf64_Ehdr), ph, sizeof(*ph));
	pack_lz4(&packed, kernel);
	assert_by_itself(&packed);
}

static void test_bad_elf(void **state)
{
	static const Elf64_Phdr bad[] = {
		{.p_type = PT_LOAD, .p_offset = KIB(64), .p_paddr = LINK, .p_filesz = 1,
		 .p_memsz = 1},
		{.p_type = PT_LOAD, .p_offset = UINT64_MAX, .p_paddr = LINK, .p_filesz = 2,
		 .p_memsz = 2},
		{.p_type = PT_LOAD, .p_offset = SEG0, .p_paddr = LINK, .p_filesz = 2, .p_memsz = 1},
		{.p_type = PT_LOAD, .p_offset = SEG0, .p_paddr = LINK - 1, .p_filesz = 1,
		 .p_memsz = 1},
		{.p_type = PT_LOAD, .p_offset = SEG0, .p_paddr = LINK, .p_filesz = 1,
		 .p_memsz = UINT64_MAX},
		{.p_type = PT_LOAD, .p_offset = SEG0, .p_paddr = LINK, .p_filesz = 1,
		 .p_memsz = RAM},
	};
	static const size_t fields[] = { 0, EI_CLASS, EI_DATA, offsetof(Elf64_Ehdr, e_machine),
		offsetof(Elf64_Ehdr, e_phoff) + 7, offsetof(Elf64_Ehdr, e_phnum) + 1,
		offsetof(Elf64_Ehdr, e_phentsize), offsetof(Elf64_Ehdr, e_shoff) + 7,
		offsetof(Elf64_Ehdr, e_shnum) + 1, offsetof(Elf64_Ehdr, e_shentsize),
		offsetof(Elf64_Ehdr, e_entry) + 3 };
	static struct packed packed;
	static struct kernel kernel;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		with_phdr(&kernel, &bad[i]);
	for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
		kernel_make(&kernel, good_relocs());
		kernel.bytes[fields[i]] ^= 0xFF;
		pack_lz4(&packed, &kernel);
		assert_by_itself(&packed);
	}
	for (kernel.len = 1; kernel.len < 300; kernel.len += 13) {
		pack_zstd(&packed, &kernel);
		assert_by_itself(&packed);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_formats),
		cmocka_unit_test(test_places),
		cmocka_unit_test(test_below_initrd),
		cmocka_unit_test(test_cached),
		cmocka_unit_test(test_immovable),
		cmocka_unit_test(test_lies_about_length),
		cmocka_unit_test(test_damaged),
		cmocka_unit_test(test_bad_relocs),
		cmocka_unit_test(test_bad_elf),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
