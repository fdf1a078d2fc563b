/* SPDX-License-Identifier: MIT */
#include "vmm/mem.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "util/util.h"
#include "vmm/layout.h"

/* A length and what is RAM of it: `low_end` below the hole, up to `high_end` behind it. */
static const struct {
	uint64_t len_bytes, low_end, high_end;
} shapes[] = {
	{4096, 4096, 0},
	{MIB(128), MIB(128), 0},
	{GIB(3) - 4096, GIB(3) - 4096, 0},
	{GIB(3), GIB(3), 0},
	{GIB(3) + 4096, GIB(3), GIB(4) + 4096},
	{GIB(4), GIB(3), GIB(5)},
	{GIB(64), GIB(3), GIB(65)},
};

static int init(struct mem *mem, uint64_t len_bytes)
{
	return mem_init(mem, &(struct mem_options){.len_bytes = len_bytes});
}

static void test_shapes(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(shapes); i++) {
		struct mem mem;

		assert_int_equal(init(&mem, shapes[i].len_bytes), 0);
		assert_int_equal(mem_total(&mem), shapes[i].len_bytes);
		assert_int_equal(mem_low_end(&mem), shapes[i].low_end);
		assert_int_equal(mem_end(&mem), shapes[i].high_end ? shapes[i].high_end : GIB(4));
		assert_int_equal(mem.count, shapes[i].high_end ? 2 : 1);
		for (unsigned int j = 0; j < mem.count; j++) /* or KVM maps no huge pages */
			assert_int_equal((uintptr_t)mem.regions[j].hva % MIB(2), 0);
		mem_finish(&mem);
		assert_int_equal(mem.count, 0);
	}
}

static void test_fits(void **state)
{
	assert_true(mem_fits(4096, 32));
	assert_true(mem_fits(GIB(3), 32));
	assert_false(mem_fits(GIB(3) + 4096, 32));
	assert_true(mem_fits(GIB(2), 36));
	assert_true(mem_fits(GIB(63), 36));
	assert_false(mem_fits(GIB(63) + 4096, 36));
	assert_true(mem_fits(GIB(255), 38));
	assert_false(mem_fits(GIB(256), 38));
	assert_false(mem_fits(UINT64_MAX - 4095, 52));
	assert_false(mem_fits(UINT64_MAX - 4095, 64));
}

/* Whether all of [gpa, gpa + len) is RAM of one region, worked out without 64-bit overflow. */
static bool is_ram(size_t shape, uint64_t gpa, uint64_t len)
{
	unsigned __int128 end = (unsigned __int128)gpa + len;

	if (gpa < shapes[shape].low_end)
		return end <= shapes[shape].low_end;
	return gpa >= GIB(4) && gpa < shapes[shape].high_end && end <= shapes[shape].high_end;
}

/* Every edge with every edge's distance, one byte to either side. */
static void test_bounds(void **state)
{
	for (size_t shape = 0; shape < ARRAY_LEN(shapes); shape++) {
		const uint64_t edges[] = {
			0, 4096, shapes[shape].low_end, LAYOUT_LAPIC_BASE, GIB(3), GIB(4),
			shapes[shape].high_end, 1ull << 32, 1ull << 63, UINT64_MAX,
		};
		struct mem mem;

		assert_int_equal(init(&mem, shapes[shape].len_bytes), 0);
		for (size_t i = 0; i < ARRAY_LEN(edges) * 3; i++) {
			uint64_t gpa = edges[i / 3] + i % 3 - 1;

			for (size_t j = 0; j < ARRAY_LEN(edges) * 3; j++) {
				uint64_t end = edges[j / 3] + j % 3 - 1;
				const uint64_t lens[] = {end, end - gpa, 0 - gpa, j};

				for (size_t k = 0; k < ARRAY_LEN(lens); k++)
					assert_int_equal(!!mem_at(&mem, gpa, lens[k]),
							 is_ram(shape, gpa, lens[k]));
			}
		}
		mem_finish(&mem);
	}
}

static void test_pointers(void **state)
{
	struct mem mem;
	uint8_t *low, *high;

	assert_int_equal(init(&mem, GIB(5)), 0);
	low = mem_at(&mem, 0, 1);
	high = mem_at(&mem, GIB(4), 1);
	assert_ptr_equal(mem_at(&mem, GIB(3) - 1, 1), low + GIB(3) - 1);
	assert_ptr_equal(mem_at(&mem, 0, GIB(3)), low);
	assert_ptr_equal(mem_at(&mem, GIB(6) - 8, 8), high + GIB(2) - 8);
	assert_true((uintptr_t)low % 4096 == 0 && (uintptr_t)high % 4096 == 0);
	mem_finish(&mem);
}

static void test_copies(void **state)
{
	char in[16] = "0123456789abcdef", out[16], untouched[16];
	struct mem mem;

	assert_int_equal(init(&mem, GIB(3) + MIB(1)), 0);
	memset(out, 0x5a, sizeof(out));
	memcpy(untouched, out, sizeof(out));
	assert_int_equal(mem_write(&mem, GIB(3) - 16, in, 16), 0);
	assert_int_equal(mem_read(&mem, GIB(3) - 16, out, 16), 0);
	assert_memory_equal(in, out, 16);
	memcpy(out, untouched, sizeof(out));
	/* Across the end: nothing at all is moved. */
	assert_int_equal(mem_write(&mem, GIB(3) - 15, "XXXXXXXXXXXXXXXX", 16), -EFAULT);
	assert_memory_equal(mem_at(&mem, GIB(3) - 16, 16), in, 16);
	assert_int_equal(mem_read(&mem, GIB(3) - 15, out, 16), -EFAULT);
	assert_memory_equal(out, untouched, 16);
	assert_int_equal(mem_read(&mem, UINT64_MAX, out, 2), -EFAULT);
	assert_int_equal(mem_read(&mem, UINT64_MAX - 7, out, 8), -EFAULT);
	assert_int_equal(mem_read(&mem, 0, out, SIZE_MAX), -EFAULT);
	assert_int_equal(mem_read(&mem, GIB(4) + MIB(1), out, 1), -EFAULT);
	assert_int_equal(mem_write(&mem, GIB(4) + MIB(1) - 16, in, 16), 0);
	mem_finish(&mem);
}

/* RAM is what the guest touches, not what it was promised. */
static void test_nothing_is_touched(void **state)
{
	unsigned char present[256];
	unsigned int pages = 0;
	struct mem mem;

	assert_int_equal(init(&mem, GIB(16)), 0);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(mincore(mem.regions[i].hva, sizeof(present) * 4096, present), 0);
		for (size_t j = 0; j < sizeof(present); j++)
			pages += present[j] & 1;
	}
	assert_int_equal(pages, 0);
	mem_finish(&mem);
}

static void test_impossible(void **state)
{
	struct mem mem;

	assert_int_equal(init(&mem, 0), -EINVAL);
	assert_int_equal(mem.count, 0);
	/* The low part could be had, the high one not: the low one must not stay. */
	assert_int_equal(init(&mem, 1ull << 60), -ENOMEM);
	assert_int_equal(mem.count, 0);
	assert_int_equal(init(&mem, UINT64_MAX - 4095), -ENOMEM);
	assert_int_equal(mem.count, 0);
	assert_null(mem_at(&mem, 0, 0));
	mem_finish(&mem);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_shapes),
		cmocka_unit_test(test_fits),
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_pointers),
		cmocka_unit_test(test_copies),
		cmocka_unit_test(test_nothing_is_touched),
		cmocka_unit_test(test_impossible),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
