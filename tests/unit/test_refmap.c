/* SPDX-License-Identifier: MIT */
/* The numbers behind a check: small and large, near and far, within a budget. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "block/qcow2/refmap.h"
#include "util/util.h"

static void test_numbers(void **state)
{
	static const uint64_t clusters[] = {0, 1, 1023, 1024, 1048575, 1048576, 12345678,
					    REFMAP_MAX - 1};
	static const uint64_t values[] = {0, 1, 255, 256, 65536, UINT64_MAX, 7};
	uint64_t budget = MIB(1);
	struct refmap map;

	assert_int_equal(refmap_init(&map, REFMAP_MAX, &budget), 0);
	for (size_t i = 0; i < ARRAY_LEN(clusters); i++) {
		assert_int_equal(refmap_get(&map, clusters[i]), 0);
		for (size_t j = 0; j < ARRAY_LEN(values); j++) {
			assert_int_equal(refmap_set(&map, clusters[i], values[j]), 0);
			assert_int_equal(refmap_get(&map, clusters[i]), values[j]);
		}
	}
	for (size_t i = 0; i < ARRAY_LEN(clusters); i++)
		assert_int_equal(refmap_get(&map, clusters[i]), 7);
	assert_int_equal(map.end, REFMAP_MAX);
	refmap_finish(&map);
}

/* What was small stays what it was when its neighbour grows. */
static void test_widening(void **state)
{
	uint64_t budget = MIB(1);
	struct refmap map;

	assert_int_equal(refmap_init(&map, 5000, &budget), 0);
	for (uint64_t i = 0; i < 3000; i++)
		assert_int_equal(refmap_set(&map, i, i % 200), 0);
	assert_int_equal(refmap_set(&map, 1500, 1 << 20), 0);
	for (uint64_t i = 0; i < 3000; i++)
		assert_int_equal(refmap_get(&map, i), i == 1500 ? 1 << 20 : i % 200);
	refmap_finish(&map);
}

static void test_next(void **state)
{
	uint64_t budget = MIB(1), seen = 0;
	struct refmap map;

	assert_int_equal(refmap_init(&map, 1 << 24, &budget), 0);
	assert_int_equal(refmap_next(&map, 0, 100), 100);
	refmap_set(&map, 5000, 1);
	refmap_set(&map, 10 << 20, 1);
	for (uint64_t i = 0; (i = refmap_next(&map, i, 1 << 24)) < 1 << 24; i++)
		seen += refmap_get(&map, i);
	assert_int_equal(seen, 2);
	assert_int_equal(refmap_next(&map, 0, 4000), 4000);
	assert_int_equal(refmap_next(&map, 0, 5000), 4096); /* its page begins there */
	assert_int_equal(refmap_next(&map, (10 << 20) + 1, 1 << 24), 1 << 24);
	refmap_finish(&map);
}

static void test_budget(void **state)
{
	uint64_t budget = KIB(100), n = 0;
	struct refmap map;

	assert_int_equal(refmap_init(&map, 1 << 24, &budget), 0);
	while (refmap_set(&map, n * REFMAP_PAGE, 1) == 0)
		n++;
	assert_in_range(n, 50, 100);
	assert_int_equal(refmap_set(&map, 0, 2), 0); /* what is there can be used */
	assert_int_equal(refmap_set(&map, 0, 1000), -ENOMEM);
	assert_int_equal(refmap_get(&map, 0), 2);
	assert_int_equal(refmap_set(&map, 1ull << 30, 1), -ERANGE);
	refmap_finish(&map);
	assert_int_equal(refmap_init(&map, REFMAP_MAX + 1, &budget), -ENOMEM);
	refmap_finish(&map);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_widening),
		cmocka_unit_test(test_next),
		cmocka_unit_test(test_budget),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
