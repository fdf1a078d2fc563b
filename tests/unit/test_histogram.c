/* SPDX-License-Identifier: MIT */
/* Numbers by powers of two. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "util/histogram.h"
#include "util/util.h"

static void test_empty(void **state)
{
	struct histogram h = {0};

	assert_int_equal(histogram_count(&h), 0);
	assert_int_equal(histogram_mean(&h), 0);
	assert_int_equal(histogram_percentile(&h, 50), 0);
}

static void test_buckets(void **state)
{
	static const struct {
		uint64_t value;
		unsigned int bucket;
	} cases[] = {{0, 0}, {1, 1}, {2, 2}, {3, 2}, {4, 3}, {1023, 10}, {1024, 11},
		     {UINT64_MAX, HISTOGRAM_BUCKETS - 1}};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct histogram h = {0};

		histogram_add(&h, cases[i].value);
		assert_int_equal(h.buckets[cases[i].bucket], 1);
		assert_int_equal(histogram_count(&h), 1);
		assert_true(histogram_floor(cases[i].bucket) <= cases[i].value);
	}
}

static void test_mean(void **state)
{
	struct histogram h = {0};

	for (uint64_t i = 1; i <= 100; i++)
		histogram_add(&h, i);
	assert_int_equal(histogram_count(&h), 100);
	assert_int_equal(histogram_mean(&h), 50);
}

/* An estimate lies in the bucket of the true one, and grows with the percentage. */
static void test_percentiles(void **state)
{
	struct histogram h = {0};
	uint64_t last = 0;

	for (uint64_t i = 0; i < 1024; i++)
		histogram_add(&h, i);
	assert_in_range(histogram_percentile(&h, 50), 500, 524);
	assert_in_range(histogram_percentile(&h, 99), 1000, 1024);
	for (unsigned int percent = 0; percent <= 100; percent++) {
		assert_true(histogram_percentile(&h, percent) >= last);
		last = histogram_percentile(&h, percent);
	}
	assert_in_range(last, 1023, 1024);
}

static void test_few_are_slow(void **state)
{
	struct histogram h = {0};

	for (int i = 0; i < 98; i++)
		histogram_add(&h, 1000);
	histogram_add(&h, 1000000);
	histogram_add(&h, 1000000);
	assert_in_range(histogram_percentile(&h, 50), 512, 1024);
	assert_in_range(histogram_percentile(&h, 99), 1 << 19, 1 << 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_empty),
		cmocka_unit_test(test_buckets),
		cmocka_unit_test(test_mean),
		cmocka_unit_test(test_percentiles),
		cmocka_unit_test(test_few_are_slow),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
