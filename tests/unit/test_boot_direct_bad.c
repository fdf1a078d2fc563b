/* SPDX-License-Identifier: MIT */
/* The kernel inside of a bzImage is not what it should be: the bzImage unpacks itself. */
#include "tests/unit/packed_kernel.h"

#include <elf.h>

#include "util/log.h"

#define NO_HEADER "its header does not say enough"
#define DAMAGED "what is packed is damaged"
#define UNKNOWN "packed in an unknown way"
#define TOO_LARGE "too large when unpacked"
#define NOT_ELF "not the ELF file that was expected"
#define NO_ROOM "no room for it"

/* One line under -v, which says why. */
static void assert_says(const char *text, const char *why)
{
	const char *line = strstr(text, ": unpacked by the guest itself: ");
	char expected[128];

	snprintf(expected, sizeof(expected), ": unpacked by the guest itself: %s\n", why);
	assert_non_null(line);
	assert_string_equal(line, expected);
	assert_ptr_equal(strchr(text, '\n') + 1, line + strlen(line));
}

/* Its own unpacking code is there, and started. */
static void assert_by_itself(const struct packed *packed, const char *why)
{
	struct loaded l;

	caught_begin();
	kernel_load(&l, packed, (struct boot_options){.cmdline = ""});
	assert_says(caught_end(), why);
	assert_int_equal(l.entry.rip, LINK + 0x200);
	assert_memory_equal(mem_at(&l.vm.mem, LINK + PAYLOAD, packed->len), packed->bytes,
			    packed->len);
	assert_false(l.params.hdr.loadflags & KASLR_FLAG);
	machine_finish(&l.vm);
}

static void test_lies_about_length(void **state)
{
	static const int64_t lies[] = { -1, 1, -4, 4, -(int64_t)KIB(8) };
	static struct packed packed;
	static struct kernel kernel;

	kernel_make(&kernel, good_relocs());
	for (size_t i = 0; i < ARRAY_LEN(packers); i++) {
		for (size_t j = 0; j < ARRAY_LEN(lies); j++) {
			packers[i](&packed, &kernel);
			end_with_length(&packed, packed.len - 4, kernel.len + (size_t)lies[j]);
			assert_by_itself(&packed, DAMAGED);
		}
		end_with_length(&packed, packed.len - 4, 0);
		assert_by_itself(&packed, UNKNOWN);
		packed.len = 3; /* the header: less than what says the length */
		assert_by_itself(&packed, NO_HEADER);
	}
}

/* No more memory is taken for it than the guest has from there on. */
static void test_too_large(void **state)
{
	static struct packed packed;
	static struct kernel kernel;

	kernel_make(&kernel, good_relocs());
	for (size_t i = 0; i < ARRAY_LEN(packers); i++) {
		packers[i](&packed, &kernel);
		end_with_length(&packed, packed.len - 4, RAM - LINK);
		assert_by_itself(&packed, DAMAGED);
		end_with_length(&packed, packed.len - 4, RAM - LINK + 1);
		assert_by_itself(&packed, TOO_LARGE);
		end_with_length(&packed, packed.len - 4, UINT32_MAX);
		assert_by_itself(&packed, TOO_LARGE);
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
		assert_by_itself(&packed, DAMAGED);
		packers[i](&packed, &kernel);
		packed.bytes[0] ^= 0x80;
		assert_by_itself(&packed, UNKNOWN);
	}
}

static void test_bad_relocs(void **state)
{
	const struct relocs bad[] = {
		{{0, address(SEG1_MEM - 7), 0, 0}, 4},              /* past the end */
		{{0, address(AT64), 0, address(SEG1_MEM - 3), 0}, 5},
		{{0, address(AT64), 0, 0, address(SEG1_MEM - 3)}, 5},
		{{0, address(AT64), 0, address(SEG1_MEM - 3)}, 4},
		{{0, address(AT64), 0, 0, (uint32_t)(VIRT + LINK - 1)}, 5}, /* before it */
		{{0, address(AT64), 0, 0, 1}, 5},
		{{0}, 1},                                           /* one list */
		{{0, address(AT64)}, 2},
		{{0, address(AT64), 0, 0, 0, address(AT_ADD)}, 6},  /* four */
		{{0, 0, address(AT64), 0, address(AT_ADD)}, 5},     /* two, and a zero before */
		{{0, 0, address(AT_ADD)}, 3},                       /* none for 64 bits */
		{{address(AT64), 0, address(AT_SUB), 0, 0}, 5},     /* does not begin with one */
	};
	static struct packed packed;
	static struct kernel kernel;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		kernel_make(&kernel, bad[i]);
		pack_lz4(&packed, &kernel);
		assert_by_itself(&packed, NOT_ELF);
	}
}

static void with_phdr(struct kernel *kernel, const Elf64_Phdr *ph, const char *why)
{
	static struct packed packed;

	kernel_make(kernel, good_relocs());
	memcpy(kernel->bytes + sizeof(Elf64_Ehdr), ph, sizeof(*ph));
	pack_lz4(&packed, kernel);
	assert_by_itself(&packed, why);
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
	};
	static const Elf64_Phdr long_one = {.p_type = PT_LOAD, .p_offset = SEG0, .p_paddr = LINK,
					    .p_filesz = 1, .p_memsz = RAM};
	static const size_t fields[] = { 0, EI_CLASS, EI_DATA, offsetof(Elf64_Ehdr, e_machine),
		offsetof(Elf64_Ehdr, e_phoff) + 7, offsetof(Elf64_Ehdr, e_phnum) + 1,
		offsetof(Elf64_Ehdr, e_phentsize), offsetof(Elf64_Ehdr, e_shoff) + 7,
		offsetof(Elf64_Ehdr, e_shnum) + 1, offsetof(Elf64_Ehdr, e_shentsize),
		offsetof(Elf64_Ehdr, e_entry) + 3 };
	static struct packed packed;
	static struct kernel kernel;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		with_phdr(&kernel, &bad[i], NOT_ELF);
	with_phdr(&kernel, &long_one, NO_ROOM);
	for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
		kernel_make(&kernel, good_relocs());
		kernel.bytes[fields[i]] ^= 0xFF;
		pack_lz4(&packed, &kernel);
		assert_by_itself(&packed, NOT_ELF);
	}
	for (kernel.len = 1; kernel.len < 300; kernel.len += 13) {
		pack_zstd(&packed, &kernel);
		assert_by_itself(&packed, NOT_ELF);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lies_about_length),
		cmocka_unit_test(test_too_large),
		cmocka_unit_test(test_damaged),
		cmocka_unit_test(test_bad_relocs),
		cmocka_unit_test(test_bad_elf),
	};

	log_set_level(LOG_LEVEL_DEBUG);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
