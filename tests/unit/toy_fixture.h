/* SPDX-License-Identifier: MIT */
/* For tests of the transport: a toy whose driver has found it. Included once per test. */
#pragma once

#include "tests/unit/fake_virtio.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static struct toy *toy;

static inline int setup(void **state)
{
	toy = toy_create();
	if (!toy)
		return -1;
	driver_enable();
	return 0;
}

static inline int teardown(void **state)
{
	toy_finish(toy);
	return 0;
}

/* False, and said why, where the kernel has not what a loop needs: the test is skipped, with 77. */
static inline bool toy_works(void)
{
	struct loop *probe;

	if (loop_create("probe", &probe) < 0)
		return false;
	loop_destroy(probe);
	return true;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
