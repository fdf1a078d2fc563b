/* SPDX-License-Identifier: MIT */
/* Where threads run: on the processors that this test itself may use. */
#include "pin.h"

#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/caught.h"
#include "util/cpus.h"
#include "util/util.h"

static cpu_set_t ours;

static int setup(void **state)
{
	return sched_getaffinity(0, sizeof(ours), &ours);
}

static int restore(void **state)
{
	return sched_setaffinity(0, sizeof(ours), &ours);
}

static bool runs_on(const cpu_set_t *expected)
{
	cpu_set_t now;

	assert_int_equal(sched_getaffinity(0, sizeof(now), &now), 0);
	return CPU_EQUAL(&now, expected);
}

static unsigned int nth_of_ours(int n)
{
	for (unsigned int cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, &ours) && n-- == 0)
			return cpu;
	fail_msg("not so many processors");
	return 0;
}

static void check_list(const char *text, int count, const unsigned int *expected)
{
	unsigned int cpus[16];
	int r = cpus_parse(text, cpus, ARRAY_LEN(cpus));

	assert_int_equal(r, count);
	for (int i = 0; i < count; i++)
		assert_int_equal(cpus[i], expected[i]);
}

static void test_lists(void **state)
{
	static const char *const bad[] = {"", "x", "-1", "1-", "1-0", "0+", "0+0", "0-3+2", "1 ",
					  "0x1", "+1", "1--2"};

	check_list("3", 1, (unsigned int[]){3});
	check_list("0-3+8", 5, (unsigned int[]){0, 1, 2, 3, 8});
	check_list("5+1-2", 3, (unsigned int[]){5, 1, 2});
	check_list("0,4\n", 2, (unsigned int[]){0, 4});
	check_list("16", -ERANGE, NULL);
	check_list("0-99999999999999999999", -ERANGE, NULL);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		check_list(bad[i], -EINVAL, NULL);
}

static void test_nothing_asked(void **state)
{
	cpu_set_t *cpus = (void *)1;

	assert_int_equal(pin_threads(&(struct pin_options){0}, 4, 1, &cpus), 0);
	assert_null(cpus);
	assert_true(runs_on(&ours));
}

/* A processor for each, none twice, and the rest is for the others. */
static void test_auto(void **state)
{
	const struct pin_options options = {.vcpus = "auto"};
	int count = CPU_COUNT(&ours);

	for (int n = 1; n <= count; n++) {
		cpu_set_t left = ours;
		cpu_set_t *cpus;

		assert_int_equal(pin_threads(&options, (unsigned int)n, n % 2 + 1, &cpus), 0);
		for (int i = 0; i < n; i++) {
			cpu_set_t both;

			assert_int_equal(CPU_COUNT(&cpus[i]), 1);
			CPU_AND(&both, &cpus[i], &left);
			assert_true(CPU_EQUAL(&both, &cpus[i]));
			CPU_XOR(&left, &left, &cpus[i]);
		}
		assert_true(runs_on(n < count ? &left : &ours));
		free(cpus);
		assert_int_equal(restore(NULL), 0);
	}
}

static bool is_alone(const cpu_set_t *set, unsigned int cpu)
{
	return CPU_COUNT(set) == 1 && CPU_ISSET(cpu, set);
}

static void test_said(void **state)
{
	struct pin_options options;
	cpu_set_t *cpus;
	char vcpus[20];

	if (CPU_COUNT(&ours) < 2)
		skip();
	snprintf(vcpus, sizeof(vcpus), "%u+%u", nth_of_ours(1), nth_of_ours(0));
	options = (struct pin_options){vcpus, NULL};
	assert_int_equal(pin_threads(&options, 2, 1, &cpus), 0);
	assert_true(is_alone(&cpus[0], nth_of_ours(1)));
	assert_true(is_alone(&cpus[1], nth_of_ours(0)));
	assert_true(runs_on(&ours));
	free(cpus);
}

/* What is said of the others is not for the vCPUs, whose threads are made by this one. */
static void test_io_alone(void **state)
{
	struct pin_options options = {0};
	cpu_set_t *cpus, now;
	char io[20];

	if (CPU_COUNT(&ours) < 2)
		skip();
	snprintf(io, sizeof(io), "%u", nth_of_ours(1));
	options.io = io;
	assert_int_equal(pin_threads(&options, 2, 1, &cpus), 0);
	assert_non_null(cpus);
	for (int i = 0; i < 2; i++)
		assert_true(CPU_EQUAL(&cpus[i], &ours));
	free(cpus);
	assert_int_equal(sched_getaffinity(0, sizeof(now), &now), 0);
	assert_true(is_alone(&now, nth_of_ours(1)));
}

static void check_refused(const char *vcpus, const char *io, unsigned int count, const char *why)
{
	const struct pin_options options = {vcpus, io};
	cpu_set_t *cpus;

	caught_begin();
	assert_true(pin_threads(&options, count, 1, &cpus) < 0);
	assert_one_error(caught_end(), why);
	assert_null(cpus);
	assert_true(runs_on(&ours));
}

static void test_refused(void **state)
{
	unsigned int count = (unsigned int)CPU_COUNT(&ours);

	check_refused("1023", NULL, 1, "processor 1023 is not there");
	check_refused("auto", "1023", 1, "processor 1023 is not there");
	check_refused("x", NULL, 1, "not a list of processors");
	check_refused("9999", NULL, 1, "not a list of processors");
	check_refused("auto", NULL, count + 1, "each needs its own");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lists),
		cmocka_unit_test_teardown(test_nothing_asked, restore),
		cmocka_unit_test_teardown(test_auto, restore),
		cmocka_unit_test_teardown(test_said, restore),
		cmocka_unit_test_teardown(test_io_alone, restore),
		cmocka_unit_test_teardown(test_refused, restore),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
