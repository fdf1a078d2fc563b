/* SPDX-License-Identifier: MIT */
#include "tests/unit/loop_runner.h"

struct loop *loop;

int loop_teardown(void **state)
{
	loop_destroy(loop);
	loop = NULL;
	return 0;
}

bool loop_works(void)
{
	struct loop *probe;

	if (loop_create("probe", &probe) < 0)
		return false;
	loop_destroy(probe);
	return true;
}

void quit(void *arg)
{
	loop_quit(loop);
}

void run_for(unsigned int ms)
{
	struct loop_watch *timer = loop_watch_timer(loop, ms, quit, NULL);

	assert_non_null(timer);
	assert_int_equal(loop_run(loop), 0);
	loop_unwatch(loop, timer);
}

void run_once(void)
{
	loop_quit(loop);
	assert_int_equal(loop_run(loop), 0);
}
