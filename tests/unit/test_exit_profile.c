/* SPDX-License-Identifier: MIT */
/* Exits by kind and address. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "vmm/exit_profile.h"

static struct exit_profile profile;
static struct exit_count exits[EXIT_PROFILE_SLOTS];

static int setup(void **state)
{
	memset(&profile, 0, sizeof(profile));
	return 0;
}

static void test_most_frequent_first(void **state)
{
	exit_profile_add(&profile, EXIT_PIO_IN, 0x3f8, 10);
	for (int i = 0; i < 5; i++)
		exit_profile_add(&profile, EXIT_PIO_OUT, 0x3f8, 100);
	exit_profile_add(&profile, EXIT_MMIO_WRITE, 0, 1);
	exit_profile_add(&profile, EXIT_MMIO_WRITE, 0, 2);
	assert_int_equal(exit_profile_read(&profile, exits), 3);
	assert_int_equal(exits[0].kind, EXIT_PIO_OUT);
	assert_int_equal(exits[0].addr, 0x3f8);
	assert_int_equal(exits[0].count, 5);
	assert_int_equal(exits[0].ns, 500);
	assert_int_equal(exits[1].kind, EXIT_MMIO_WRITE);
	assert_int_equal(exits[1].ns, 3);
	assert_int_equal(exits[2].count, 1);
	assert_string_equal(exit_kind_name(exits[2].kind), "pio-in");
}

/* A guest touches as many addresses as it likes. */
static void test_full(void **state)
{
	uint64_t sum = 0;

	for (uint64_t i = 0; i < EXIT_PROFILE_SLOTS + 7; i++)
		exit_profile_add(&profile, EXIT_MMIO_READ, i * 4096, 3);
	exit_profile_add(&profile, EXIT_MMIO_READ, 0, 3);
	assert_int_equal(exit_profile_read(&profile, exits), EXIT_PROFILE_SLOTS);
	for (unsigned int i = 0; i < EXIT_PROFILE_SLOTS; i++)
		sum += exits[i].count;
	assert_int_equal(sum, EXIT_PROFILE_SLOTS + 1);
	assert_int_equal(exits[0].addr, 0);
	assert_int_equal(profile.lost, 7);
	assert_int_equal(profile.lost_ns, 21);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_most_frequent_first, setup),
		cmocka_unit_test_setup(test_full, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
