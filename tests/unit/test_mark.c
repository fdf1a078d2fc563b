/* SPDX-License-Identifier: MIT */
/* The port that guests write marks to. */
#include "tests/unit/fake_vm.h"

#include "devices/mark.h"
#include "vmm/layout.h"

static struct mark *mark;

static int setup(void **state)
{
	fake_reset();
	return mark_create(&fake_vm, &mark);
}

static int teardown(void **state)
{
	mark_destroy(mark);
	return 0;
}

static void marks_are_kept(void **state)
{
	uint64_t before = monotonic_ns(), first, second;

	assert_int_equal(mark_count(mark), 0);
	out(LAYOUT_PORT_MARK, 1, 0xAB);
	out(LAYOUT_PORT_MARK, 1, 0);
	assert_int_equal(mark_count(mark), 2);
	assert_int_equal(mark_get(mark, 0, &first), 0xAB);
	assert_int_equal(mark_get(mark, 1, &second), 0);
	assert_true(before <= first && first <= second && second <= monotonic_ns());
	assert_int_equal(in(LAYOUT_PORT_MARK, 1), 0xFF);
}

static void no_more_than_there_is_room_for(void **state)
{
	uint64_t ns;

	for (unsigned int i = 0; i < 3 * MARKS_MAX; i++)
		out(LAYOUT_PORT_MARK, 1, i);
	assert_int_equal(mark_count(mark), MARKS_MAX);
	for (unsigned int i = 0; i < MARKS_MAX; i++)
		assert_int_equal(mark_get(mark, i, &ns), i);
}

static void a_taken_port(void **state)
{
	struct mark *other;

	fake_add_fails_at = 1;
	assert_int_equal(mark_create(&fake_vm, &other), -EEXIST);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(marks_are_kept, setup, teardown),
		cmocka_unit_test_setup_teardown(no_more_than_there_is_room_for, setup, teardown),
		cmocka_unit_test_setup_teardown(a_taken_port, setup, teardown),
	};

	return cmocka_run_group_tests_name("mark", tests, NULL, NULL);
}
