/* SPDX-License-Identifier: MIT */
/* What the loop looks for while it is awake, and is told of while it sleeps. */
#include "util/loop.h"

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "tests/unit/loop_runner.h"
#include "util/util.h"

static int setup(void **state)
{
	return loop_create("look", &loop);
}

struct thing {
	struct loop_look look;
	unsigned int absent; /* for so many looks, until it is there */
	bool there;         /* now */
	bool comes;         /* between the last look and arm */
	unsigned int armed, found;
	unsigned int again; /* how often to look for it again once it was found */
	struct thing *other; /* to give up once it was found */
};

static bool there(struct loop_look *look)
{
	struct thing *thing = CONTAINER_OF(look, struct thing, look);

	if (thing->absent && --thing->absent == 0)
		thing->there = true;
	return thing->there;
}

static bool arm(struct loop_look *look)
{
	struct thing *thing = CONTAINER_OF(look, struct thing, look);

	thing->armed++;
	if (thing->comes)
		thing->there = true;
	return thing->there;
}

static void found(struct loop_look *look)
{
	struct thing *thing = CONTAINER_OF(look, struct thing, look);

	thing->found++;
	thing->there = thing->again > 0;
	if (thing->again) {
		thing->again--;
		loop_look(loop, look);
	}
	if (thing->other)
		loop_unlook(&thing->other->look);
}

static struct thing thing_init(void)
{
	return (struct thing){.look = {.there = there, .arm = arm, .found = found}};
}

/* It need not be told of. */
static void test_found_while_awake(void **state)
{
	struct thing thing = thing_init();

	thing.there = true;
	loop_look(loop, &thing.look);
	loop_look(loop, &thing.look);
	assert_int_equal(thing.found, 0); /* never inside the call */
	run_for(5);
	assert_int_equal(thing.found, 1);
	assert_int_equal(thing.armed, 0);
	thing.there = true; /* nobody looks for it any more */
	run_for(5);
	assert_int_equal(thing.found, 1);
	assert_int_equal(thing.armed, 0);
}

/* After that it is for a watch. */
static void test_armed_before_sleep(void **state)
{
	struct thing thing = thing_init();

	loop_look(loop, &thing.look);
	run_for(5);
	assert_int_equal(thing.armed, 1);
	assert_int_equal(thing.found, 0);
	thing.there = true;
	run_for(5);
	assert_int_equal(thing.armed, 1);
	assert_int_equal(thing.found, 0);
}

/* No sleep over what came at the last moment. */
static void test_comes_before_sleep(void **state)
{
	struct thing thing = thing_init();

	thing.comes = true;
	loop_look(loop, &thing.look);
	run_for(5);
	assert_int_equal(thing.armed, 1);
	assert_int_equal(thing.found, 1);
}

/* The loop's other business goes on however often something is found. */
static void test_found_again_and_again(void **state)
{
	struct thing thing = thing_init();

	thing.there = true;
	thing.again = UINT32_MAX;
	loop_look(loop, &thing.look);
	run_for(5);
	assert_in_range(thing.found, 2, UINT32_MAX);
	assert_int_equal(thing.armed, 0);
	loop_unlook(&thing.look);
}

static void test_stays_awake(void **state)
{
	struct thing thing = thing_init();

	loop_stay_awake(loop, 1000000);
	thing.absent = 50;
	loop_look(loop, &thing.look);
	run_for(5);
	assert_int_equal(thing.found, 1);
	assert_int_equal(thing.armed, 0);

	loop_stay_awake(loop, 0);
	thing.absent = 50;
	loop_look(loop, &thing.look);
	run_for(5);
	assert_int_equal(thing.found, 1);
	assert_int_equal(thing.armed, 1);
}

static void test_unlook(void **state)
{
	struct thing things[2] = {thing_init(), thing_init()};

	things[0].there = true;
	loop_look(loop, &things[0].look);
	loop_unlook(&things[0].look);
	loop_unlook(&things[0].look);
	run_for(5);
	assert_int_equal(things[0].found + things[0].armed, 0);

	/* And by the other one, both being there: whichever is first. */
	for (unsigned int i = 0; i < 2; i++) {
		things[i].there = true;
		things[i].other = &things[!i];
		loop_look(loop, &things[i].look);
	}
	run_for(5);
	assert_int_equal(things[0].found + things[1].found, 1);
	assert_int_equal(things[0].armed + things[1].armed, 0);
}

static atomic_bool busy;

static void *keep_busy(void *arg)
{
	while (atomic_load(&busy))
		;
	return NULL;
}

/* Where every processor is wanted by somebody, the loop naps: it finds all the same, and asks to be
 * told before it sleeps. */
static void test_in_a_crowd(void **state)
{
	unsigned int count = (unsigned int)MIN(sysconf(_SC_NPROCESSORS_ONLN) + 1, 64);
	unsigned int done = 0;
	pthread_t threads[64];

	loop_wake_costs(loop, 20000);
	loop_may_nap(loop);
	atomic_store(&busy, true);
	for (unsigned int i = 0; i < count; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, keep_busy, NULL), 0);
	for (unsigned int i = 0; i < 50; i++) {
		struct thing thing = thing_init();

		thing.absent = 1 + i;
		thing.comes = i % 3 == 0;
		loop_look(loop, &thing.look);
		run_for(2);
		/* the timer may come before the loop was let look so often */
		assert_in_range(thing.found, 0, 1);
		if (thing.armed)
			assert_int_equal(thing.found, thing.comes);
		done += thing.found + thing.armed;
		loop_unlook(&thing.look);
	}
	assert_true(done > 0);
	atomic_store(&busy, false);
	for (unsigned int i = 0; i < count; i++)
		pthread_join(threads[i], NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_found_while_awake, setup, loop_teardown),
		cmocka_unit_test_setup_teardown(test_armed_before_sleep, setup, loop_teardown),
		cmocka_unit_test_setup_teardown(test_comes_before_sleep, setup, loop_teardown),
		cmocka_unit_test_setup_teardown(test_found_again_and_again, setup, loop_teardown),
		cmocka_unit_test_setup_teardown(test_stays_awake, setup, loop_teardown),
		cmocka_unit_test_setup_teardown(test_in_a_crowd, setup, loop_teardown),
		cmocka_unit_test_setup_teardown(test_unlook, setup, loop_teardown),
	};

	if (!loop_works())
		return 77;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
