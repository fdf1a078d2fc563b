/* SPDX-License-Identifier: MIT */
/* What is told of a host's run queues, and whether that is a crowd. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "util/crowd.h"

static bool hears(struct crowd *crowd, unsigned int times, const char *text)
{
	bool is = false;

	while (times--)
		is = crowd_hears(crowd, text);
	return is;
}

static void test_of_late(void **state)
{
	struct crowd crowd = {.fd = -1, .processors = 2};

	assert_false(hears(&crowd, 100, "0.00 0.01 0.05 2/170 4711\n"));
	assert_false(hears(&crowd, 1, "0.00 0.01 0.05 3/170 4711\n")); /* now and then */
	assert_false(hears(&crowd, 1, "0.00 0.01 0.05 1/170 4711\n"));
	assert_true(hears(&crowd, 4, "0.00 0.01 0.05 3/170 4711\n"));
	assert_true(hears(&crowd, 1000, "0.00 0.01 0.05 300/170 4711\n"));
	assert_true(hears(&crowd, 4, "0.00 0.01 0.05 2/170 4711\n"));
	assert_false(hears(&crowd, 1, "0.00 0.01 0.05 2/170 4711\n")); /* soon forgotten */
}

static void test_odd_text(void **state)
{
	struct crowd crowd = {.fd = -1, .processors = 2};

	assert_true(hears(&crowd, 8, "1 1 1 3/4"));
	assert_false(crowd_hears(&crowd, ""));
	assert_false(crowd_hears(&crowd, "0.00 0.01"));
	assert_false(crowd_hears(&crowd, "0.00 0.01 0.05 x/y"));
}

/* This host, whatever it does just now: no look within the same millisecond, or without a file. */
static void test_here(void **state)
{
	struct crowd crowd;

	crowd_init(&crowd);
	assert_int_equal(crowd.fd, -1);
	crowd_is(&crowd, 5000000);
	assert_int_equal(crowd.looked_ns, 5000000);
	assert_true(crowd.processors >= 1);
	crowd.score = 8;
	assert_true(crowd_is(&crowd, 5999999));
	assert_int_equal(crowd.looked_ns, 5000000);
	crowd_finish(&crowd);
	crowd.fd = -1;
	assert_false(crowd_is(&crowd, 6000000));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_of_late),
		cmocka_unit_test(test_odd_text),
		cmocka_unit_test(test_here),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
