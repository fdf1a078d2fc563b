/* SPDX-License-Identifier: MIT */
/* The loop's calls from other threads, its own thread, and its end. */
#include "util/loop.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/time.h>
#include <unistd.h>

#include "tests/unit/loop_runner.h"
#include "util/util.h"

static int setup(void **state)
{
	return loop_create("a-rather-long-name", &loop);
}

/* --- calls --- */

struct counted {
	struct loop_call call;
	unsigned int runs;
	unsigned int *total;
	unsigned int order; /* *total when it ran */
};

static void count_call(struct loop_call *call)
{
	struct counted *c = CONTAINER_OF(call, struct counted, call);

	c->runs++;
	c->order = (*c->total)++;
}

/* What was posted before quit is not lost, be the loop running already or not. */
static void test_post_then_quit(void **state)
{
	unsigned int total = 0;
	struct counted calls[3];

	for (int i = 0; i < 3; i++) {
		calls[i] = (struct counted){.call.fn = count_call, .total = &total};
		loop_post(loop, &calls[i].call);
	}
	loop_quit(loop);
	assert_int_equal(loop_run(loop), 0);
	for (unsigned int i = 0; i < 3; i++) {
		assert_int_equal(calls[i].runs, 1);
		assert_int_equal(calls[i].order, i);
	}
}

/* Of one that does not run, by its own thread, as often as that is wanted; of another none. */
static void test_drain(void **state)
{
	unsigned int total = 0;
	struct loop *other;

	for (unsigned int i = 0; i < 3; i++) {
		struct counted call = {.call.fn = count_call, .total = &total};

		loop_post(loop, &call.call);
		assert_true(loop_drain(loop));
		assert_int_equal(call.runs, 1);
		assert_true(loop_drain(loop));
	}
	assert_int_equal(loop_create("other", &other), 0);
	assert_int_equal(loop_start(other), 0);
	assert_false(loop_drain(other));
	loop_stop(other);
	loop_destroy(other);
}

static void test_post_then_stop(void **state)
{
	for (int i = 0; i < 200; i++) {
		unsigned int total = 0;
		struct counted call = {.call.fn = count_call, .total = &total};
		struct loop *l;

		assert_int_equal(loop_create("short", &l), 0);
		assert_int_equal(loop_start(l), 0);
		loop_post(l, &call.call);
		loop_stop(l);
		assert_int_equal(call.runs, 1);
		loop_destroy(l);
	}
}

#define POSTERS 4
#define POSTS 5000

struct poster {
	pthread_t thread;
	struct counted calls[POSTS];
	unsigned int total;
};

static void *post_all(void *arg)
{
	struct poster *poster = arg;

	for (int i = 0; i < POSTS; i++) {
		poster->calls[i] = (struct counted){.call.fn = count_call, .total = &poster->total};
		loop_post(loop, &poster->calls[i].call);
	}
	return NULL;
}

static void test_post_threads(void **state)
{
	struct poster *posters = calloc(POSTERS, sizeof(*posters));

	assert_int_equal(loop_start(loop), 0);
	for (int i = 0; i < POSTERS; i++)
		assert_int_equal(pthread_create(&posters[i].thread, NULL, post_all, &posters[i]),
				 0);
	for (int i = 0; i < POSTERS; i++)
		pthread_join(posters[i].thread, NULL);
	loop_stop(loop);
	for (int i = 0; i < POSTERS; i++)
		for (unsigned int j = 0; j < POSTS; j++) {
			assert_int_equal(posters[i].calls[j].runs, 1);
			assert_int_equal(posters[i].calls[j].order, j);
		}
	free(posters);
}

struct reposted {
	struct loop_call call;
	unsigned int left;
};

static void post_again(struct loop_call *call)
{
	struct reposted *r = CONTAINER_OF(call, struct reposted, call);

	if (--r->left)
		loop_post(loop, call);
	else
		loop_quit(loop);
}

static void free_call(struct loop_call *call)
{
	free(call);
}

/* A call is its owner's again as soon as it runs: to post once more, or to free. */
static void test_post_in_call(void **state)
{
	struct reposted r = {.call.fn = post_again, .left = 100};
	struct loop_call *freed = malloc(sizeof(*freed));

	freed->fn = free_call;
	loop_post(loop, freed);
	loop_post(loop, &r.call);
	assert_int_equal(loop_run(loop), 0);
	assert_int_equal(r.left, 0);
}

static unsigned int guarded; /* by being touched on the loop only */

static void add_one(void *arg)
{
	guarded++;
	++*(unsigned int *)arg;
}

static void *call_many(void *arg)
{
	uintptr_t wrong = 0;

	for (unsigned int i = 0, mine = 0; i < 1000; i++) {
		loop_call_wait(loop, add_one, &mine);
		wrong += mine != i + 1;
	}
	return (void *)wrong;
}

static void test_call_wait_threads(void **state)
{
	pthread_t threads[4];
	void *wrong;

	guarded = 0;
	assert_int_equal(loop_start(loop), 0);
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, call_many, NULL), 0);
	for (int i = 0; i < 4; i++) {
		pthread_join(threads[i], &wrong);
		assert_null(wrong);
	}
	loop_stop(loop);
	assert_int_equal(guarded, 4000);
}

/* --- threads and ends --- */

static char thread_name[16];
static sigset_t thread_mask;

static void look_at_thread(void *arg)
{
	pthread_getname_np(pthread_self(), thread_name, sizeof(thread_name));
	pthread_sigmask(SIG_SETMASK, NULL, &thread_mask);
}

static void test_thread(void **state)
{
	assert_int_equal(loop_start(loop), 0);
	loop_call_wait(loop, look_at_thread, NULL);
	assert_string_equal(thread_name, "a-rather-long-n");
	assert_true(sigismember(&thread_mask, SIGTERM) && sigismember(&thread_mask, SIGINT));
	loop_stop(loop);
	loop_stop(loop); /* a second one does nothing */
}

static void test_start_stop(void **state)
{
	for (int i = 0; i < 200; i++) {
		struct loop *l;

		assert_int_equal(loop_create("short", &l), 0);
		if (i % 2)
			assert_int_equal(loop_start(l), 0);
		loop_stop(l);
		loop_destroy(l);
	}
	loop_destroy(NULL);
}

static void test_run_again(void **state)
{
	unsigned int total = 0;
	struct counted call = {.call.fn = count_call, .total = &total};

	for (unsigned int i = 0; i < 3; i++) {
		loop_post(loop, &call.call);
		loop_quit(loop);
		loop_quit(loop);
		assert_int_equal(loop_run(loop), 0);
		assert_int_equal(call.runs, i + 1);
	}
}

static void on_alarm(int number)
{
}

/* Signals interrupt the wait, not the loop. */
static void test_signals(void **state)
{
	const struct itimerval often = {{0, 500}, {0, 500}}, never = {0};
	struct sigaction action = {.sa_handler = on_alarm};

	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &often, NULL);
	loop_watch_timer(loop, 100, quit, NULL);
	assert_int_equal(loop_run(loop), 0);
	setitimer(ITIMER_REAL, &never, NULL);
}

static void nothing(void *arg)
{
}

static unsigned int ops_done;

static void count_op(struct loop_op *op, int res)
{
	ops_done++;
}

/* The memory of what never came to its end is freed with the loop; ASan looks. */
static void test_destroy_pending(void **state)
{
	unsigned int total = 0;
	struct counted call = {.call.fn = count_call, .total = &total};
	struct loop_op op = {.done = count_op};
	int fd = eventfd(0, EFD_CLOEXEC), fds[2];
	struct loop_watch *watch;

	ops_done = 0;
	assert_int_equal(pipe(fds), 0);
	for (int run = 0; run < 2; run++) {
		struct loop *l;

		assert_int_equal(loop_create("short", &l), 0);
		loop_watch_event(l, fd, nothing, NULL);
		loop_watch_ready(l, fds[0], POLLIN, nothing, NULL);
		watch = loop_watch_timer(l, 1000000, nothing, NULL);
		loop_quit(l);
		if (run)
			assert_int_equal(loop_run(l), 0);
		loop_unwatch(l, watch);
		watch = loop_watch_ready(l, fds[0], POLLIN, nothing, NULL);
		loop_watch_pause(l, watch);
		loop_post(l, &call.call);
		loop_defer(l, &op);
		loop_destroy(l);
	}
	assert_int_equal(total, 0);
	assert_int_equal(ops_done, 0);
	close(fd);
	close(fds[0]);
	close(fds[1]);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, loop_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_post_then_quit),
		TEST(test_drain),
		TEST(test_post_then_stop),
		TEST(test_post_threads),
		TEST(test_post_in_call),
		TEST(test_call_wait_threads),
		TEST(test_thread),
		TEST(test_start_stop),
		TEST(test_run_again),
		TEST(test_signals),
		TEST(test_destroy_pending),
	};

	if (!loop_works())
		return 77;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
