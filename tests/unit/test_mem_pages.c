/* SPDX-License-Identifier: MIT */
/* Where guest RAM comes from: what the kernel itself says of it, in /proc/self/smaps. */
#include "vmm/mem.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/smaps.h"
#include "util/util.h"

#define LEN MIB(8)

static void test_prefault(void **state)
{
	struct mem_options options = {.len_bytes = LEN};
	struct mem mem;

	assert_int_equal(mem_init(&mem, &options), 0);
	assert_int_equal(smaps(mem.regions[0].hva, "Rss:", NULL), 0);
	mem_finish(&mem);

	options.prefault = true;
	if (mem_init(&mem, &options) == -EINVAL)
		skip(); /* Linux before 5.14 */
	assert_int_equal(smaps(mem.regions[0].hva, "Rss:", NULL), LEN >> 10);
	mem_finish(&mem);
}

/* A guest that is killed for it later would be worse. */
static void test_prefault_too_much(void **state)
{
	const struct mem_options options = {.len_bytes = GIB(1 << 14), .prefault = true};
	struct mem mem;

	assert_int_equal(mem_init(&mem, &options), -ENOMEM);
	assert_int_equal(mem.count, 0);
}

static void test_shared(void **state)
{
	struct mem_options options = {.len_bytes = LEN};
	char byte;

	for (int shared = 0; shared < 2; shared++) {
		struct mem mem;

		options.shared = shared;
		assert_int_equal(mem_init(&mem, &options), 0);
		if (fork() == 0) {
			mem_write(&mem, LEN - 1, "x", 1);
			_exit(0);
		}
		wait(NULL);
		assert_int_equal(mem_read(&mem, LEN - 1, &byte, 1), 0);
		assert_int_equal(byte, shared ? 'x' : 0);
		mem_finish(&mem);
	}
}

static void check_thp(const char *path, bool shared)
{
	const struct mem_options options = {
		.len_bytes = LEN, .pages = MEM_PAGES_THP, .shared = shared};
	struct mem mem;
	int r = mem_init(&mem, &options);

	assert_int_equal(r, host_has_thp(path) ? 0 : -ENOTSUP);
	if (r < 0)
		return;
	assert_int_equal(smaps(mem.regions[0].hva, "VmFlags:", " hg"), 1);
	mem_finish(&mem);
}

/* Unasked, all but what small guests touch; never an error; and none if so wished. */
static void test_thp_unasked(void **state)
{
	struct mem_options options = {.len_bytes = MIB(64)};
	bool has = host_has_thp("/sys/kernel/mm/transparent_hugepage/enabled");
	struct mem mem;

	assert_int_equal(mem_init(&mem, &options), 0);
	if (has) {
		assert_int_equal(smaps(mem.regions[0].hva, "VmFlags:", " hg"), 0);
		assert_int_equal(smaps(mem.regions[0].hva + MIB(16), "VmFlags:", " hg"), 1);
		assert_int_equal(smaps(mem.regions[0].hva + MIB(64) - 1, "VmFlags:", " hg"), 1);
	}
	mem_finish(&mem);
	options.len_bytes = LEN;
	assert_int_equal(mem_init(&mem, &options), 0);
	assert_int_not_equal(smaps(mem.regions[0].hva, "VmFlags:", " hg"), 1);
	mem_finish(&mem);
	options.pages = MEM_PAGES_OFF;
	assert_int_equal(mem_init(&mem, &options), 0);
	if (has)
		assert_int_equal(smaps(mem.regions[0].hva, "VmFlags:", " nh"), 1);
	mem_finish(&mem);
}

/* What is written at once is asked for in them, but not where none were wished. */
static void test_thp_wanted(void **state)
{
	static const enum mem_pages pages[] = {MEM_PAGES_AUTO, MEM_PAGES_OFF};

	if (!host_has_thp("/sys/kernel/mm/transparent_hugepage/enabled"))
		skip();
	for (size_t i = 0; i < ARRAY_LEN(pages); i++) {
		const struct mem_options options = {.len_bytes = LEN, .pages = pages[i]};
		bool is_wanted = pages[i] != MEM_PAGES_OFF;
		struct mem mem;

		assert_int_equal(mem_init(&mem, &options), 0);
		mem_want_huge(&mem, MIB(2), MIB(4));
		mem_want_huge(&mem, LEN, MIB(4)); /* no RAM: nothing */
		assert_int_equal(smaps(mem.regions[0].hva, "VmFlags:", " hg"), 0);
		assert_int_equal(smaps(mem.regions[0].hva + MIB(2), "VmFlags:", " hg"), is_wanted);
		assert_int_equal(smaps(mem.regions[0].hva + MIB(6), "VmFlags:", " hg"), 0);
		mem_finish(&mem);
	}
}

static void test_thp(void **state)
{
	check_thp("/sys/kernel/mm/transparent_hugepage/enabled", false);
	check_thp("/sys/kernel/mm/transparent_hugepage/shmem_enabled", true);
}

static long free_huge_pages(void)
{
	FILE *file = fopen("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "re");
	long count = 0;

	if (!file)
		return 0;
	assert_int_equal(fscanf(file, "%ld", &count), 1);
	fclose(file);
	return count;
}

/* Too few are found out at once, not when the guest touches them. */
static void test_too_few_huge_pages(void **state)
{
	struct mem_options options = {.pages = MEM_PAGES_2M};
	struct mem mem;

	options.len_bytes = MIB(2) * (uint64_t)(free_huge_pages() + 1000000);
	assert_true(mem_init(&mem, &options) < 0);
	assert_int_equal(mem.count, 0);
	options.shared = true;
	assert_true(mem_init(&mem, &options) < 0);
	options.pages = MEM_PAGES_1G;
	options.len_bytes = GIB(1 << 14);
	assert_true(mem_init(&mem, &options) < 0);
}

static void test_huge_pages(void **state)
{
	struct mem_options options = {.len_bytes = MIB(2), .pages = MEM_PAGES_2M};

	if (free_huge_pages() < 1)
		skip(); /* this host has none set aside */
	for (int shared = 0; shared < 2; shared++) {
		struct mem mem;

		options.shared = shared;
		assert_int_equal(mem_init(&mem, &options), 0);
		assert_int_equal(mem_write(&mem, 0, "x", 1), 0);
		assert_int_equal(smaps(mem.regions[0].hva, "KernelPageSize:", NULL), 2048);
		assert_int_equal((uintptr_t)mem.regions[0].hva % MIB(2), 0);
		mem_finish(&mem);
	}
}

static void test_node(void **state)
{
	struct mem_options options = {.len_bytes = LEN, .has_node = true};
	struct mem mem;

	for (unsigned int i = 0; i < 2; i++) {
		options.node = i ? INT32_MAX : 1023;
		assert_int_equal(mem_init(&mem, &options), -EINVAL);
		assert_int_equal(mem.count, 0);
	}
	if (access("/sys/devices/system/node/node0", F_OK) < 0)
		skip(); /* a kernel without NUMA */
	options.node = 0;
	options.prefault = true;
	assert_int_equal(mem_init(&mem, &options), 0);
	mem_finish(&mem);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_prefault),
		cmocka_unit_test(test_prefault_too_much),
		cmocka_unit_test(test_shared),
		cmocka_unit_test(test_thp),
		cmocka_unit_test(test_thp_unasked),
		cmocka_unit_test(test_thp_wanted),
		cmocka_unit_test(test_too_few_huge_pages),
		cmocka_unit_test(test_huge_pages),
		cmocka_unit_test(test_node),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
