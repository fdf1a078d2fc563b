/* SPDX-License-Identifier: MIT */
/* The kernel inside of a bzImage: made here, packed in every way, loaded and moved. */
#include "tests/unit/packed_kernel.h"

#include <stdlib.h>

#include "util/log.h"

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
			 kernel->inverse ? *shift : 0);
	assert_int_equal((uint32_t)(seg1_value(seg1, AT_ADD, 4) - seg1_value(was, AT_ADD, 4)),
			 *shift);
	assert_memory_equal(seg1, was, AT64);
	assert_memory_equal(seg1 + AT64 + 8, was + AT64 + 8, AT_SUB - AT64 - 8);
	assert_memory_equal(seg1 + AT_ADD + 4, was + AT_ADD + 4, SEG1_BYTES - AT_ADD - 4);
	for (size_t i = SEG1_BYTES; i < SEG1_MEM; i++)
		assert_int_equal(seg1[i], 0);
}

static void assert_as_linked(struct loaded *l, const struct kernel *kernel)
{
	uint64_t gpa;
	uint32_t shift;

	find_place(l, kernel, &gpa, &shift);
	assert_int_equal(gpa, LINK);
	assert_int_equal(shift, 0);
	assert_false(l->params.hdr.loadflags & KASLR_FLAG);
	machine_finish(&l->vm);
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
		kernel_load(&l, &packed, (struct boot_options){.cmdline = "quiet"});
		find_place(&l, &kernel, &gpa, &shift);
		assert_true(l.params.hdr.loadflags & KASLR_FLAG);
		machine_finish(&l.vm);
	}
}

/* As in Linux 6.15 and newer: nothing counts backwards. */
static void test_two_lists(void **state)
{
	const struct relocs relocs = {{0, address(AT64), 0, address(AT_ADD)}, 4, false};
	static struct packed packed;
	static struct kernel kernel;
	unsigned int moved = 0;
	struct loaded l;
	uint64_t gpa;
	uint32_t shift;

	kernel_make(&kernel, relocs);
	pack_lz4(&packed, &kernel);
	for (unsigned int i = 0; i < 5; i++) {
		kernel_load(&l, &packed, (struct boot_options){.cmdline = ""});
		find_place(&l, &kernel, &gpa, &shift);
		moved += shift != 0;
		machine_finish(&l.vm);
	}
	assert_true(moved > 0);
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
		kernel_load(&l, &packed, (struct boot_options){.cmdline = ""});
		find_place(&l, &kernel, &gpa[i], &shift[i]);
		machine_finish(&l.vm);
		for (unsigned int j = 0; j < i; j++) {
			same_gpa += gpa[j] == gpa[i];
			same_shift += shift[j] == shift[i];
		}
	}
	assert_true(same_gpa < 20 && same_shift < 20); /* 190 pairs of 117 and 503 places */
	kernel_load(&l, &packed, (struct boot_options){.cmdline = "quiet", .no_kaslr = true});
	assert_as_linked(&l, &kernel);
}

/* Whatever Linux takes for a space separates words, and each is looked at whole. */
static void test_words(void **state)
{
	static const char *const fixed[] = {
		"nokaslr", "quiet nokaslr", "nokaslr quiet", "quiet\nnokaslr\n", "\tnokaslr\x01",
		"nokaslrfoo nokaslr", "a=\xC3\xA9 nokaslr",
	};
	static const char *const random[] = {
		"nokaslrfoo", "xnokaslr", "nokaslr=1", "foo,nokaslr", "\xA0nokaslr", "NOKASLR",
	};
	static struct packed packed;
	static struct kernel kernel;
	struct loaded l;

	kernel_make(&kernel, good_relocs());
	pack_lz4(&packed, &kernel);
	for (size_t i = 0; i < ARRAY_LEN(fixed); i++) {
		kernel_load(&l, &packed, (struct boot_options){.cmdline = fixed[i]});
		assert_as_linked(&l, &kernel);
	}
	for (size_t i = 0; i < ARRAY_LEN(random); i++) {
		kernel_load(&l, &packed, (struct boot_options){.cmdline = random[i]});
		assert_true(l.params.hdr.loadflags & KASLR_FLAG);
		machine_finish(&l.vm);
	}
}

/* How many of five boots put it where it was linked. */
static unsigned int unmoved(const struct packed *packed, const struct kernel *kernel,
			    const char *cmdline)
{
	unsigned int count = 0;
	struct loaded l;
	uint64_t gpa;
	uint32_t shift;

	for (unsigned int i = 0; i < 5; i++) {
		kernel_load(&l, packed, (struct boot_options){.cmdline = cmdline});
		find_place(&l, kernel, &gpa, &shift);
		count += gpa == LINK;
		machine_finish(&l.vm);
	}
	return count;
}

/* Only in physical memory, of which the command line says what there is. */
static void test_memory_words(void **state)
{
	static struct packed packed;
	static struct kernel kernel;

	kernel_make(&kernel, good_relocs());
	pack_lz4(&packed, &kernel);
	assert_int_equal(unmoved(&packed, &kernel, "memmap=1M$20M"), 5);
	assert_int_equal(unmoved(&packed, &kernel, "quiet\tmem=100M"), 5);
	assert_int_equal(unmoved(&packed, &kernel, "quiet\nmemmap=1M$20M\n"), 5);
	assert_true(unmoved(&packed, &kernel, "quiet xmem=100M mem") < 5);
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
		kernel_load(&l, &packed,
			    (struct boot_options){.cmdline = "", .initrd = initrd.path});
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
		kernel_load(&l, &packed,
			    (struct boot_options){.cmdline = "", .kernel_cache = true});
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
	kernel_load(&l, &packed, (struct boot_options){.cmdline = ""});
	assert_int_equal(l.entry.rip, LINK + ENTRY);
	assert_false(l.params.hdr.loadflags & KASLR_FLAG);
	assert_memory_equal(mem_at(&l.vm.mem, SEG1_GPA, SEG1_BYTES), kernel.bytes + SEG1,
			    SEG1_BYTES);
	machine_finish(&l.vm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_formats),
		cmocka_unit_test(test_two_lists),
		cmocka_unit_test(test_places),
		cmocka_unit_test(test_words),
		cmocka_unit_test(test_memory_words),
		cmocka_unit_test(test_below_initrd),
		cmocka_unit_test(test_cached),
		cmocka_unit_test(test_immovable),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
