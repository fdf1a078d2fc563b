/* SPDX-License-Identifier: MIT */
/* What the loop watches: eventfds, and the ends of watches in every order. */
#include "util/loop.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "tests/unit/watch_seen.h"

static void watch_event(struct seen *s, int flags)
{
	s->fd = eventfd(0, EFD_CLOEXEC | flags);
	s->watch = loop_watch_event(loop, s->fd, saw, s);
	assert_non_null(s->watch);
}

/* --- events --- */

static void test_event(void **state)
{
	watch_event(&seen[0], 0);
	run_for(10);
	assert_int_equal(seen[0].runs, 0);
	eventfd_write(seen[0].fd, 1);
	eventfd_write(seen[0].fd, 41);
	run_for(10);
	assert_int_equal(seen[0].runs, 1); /* both at once */
	run_for(10);
	assert_int_equal(seen[0].runs, 1); /* it was read */
	eventfd_write(seen[0].fd, 1);
	run_for(10);
	assert_int_equal(seen[0].runs, 2);
	drop(&seen[0]);
}

/* A doorbell rung while it is being handled is heard again. */
static void test_event_in_callback(void **state)
{
	watch_event(&seen[0], 0);
	seen[0].write = 1;
	eventfd_write(seen[0].fd, 1);
	run_for(10);
	assert_int_equal(seen[0].runs, 2);
	drop(&seen[0]);
}

/* A fd that does not block must make it wait all the same, not spin or end. */
static void test_event_nonblocking(void **state)
{
	clock_t before = clock();

	watch_event(&seen[0], EFD_NONBLOCK);
	run_for(50);
	assert_int_equal(seen[0].runs, 0);
	assert_true(clock() - before < CLOCKS_PER_SEC / 25);
	eventfd_write(seen[0].fd, 1);
	run_for(10);
	assert_int_equal(seen[0].runs, 1);
	drop(&seen[0]);
}

/* Pausing defers a doorbell, it does not lose it. */
static void test_event_paused(void **state)
{
	watch_event(&seen[0], 0);
	run_for(5);
	loop_watch_pause(loop, seen[0].watch);
	eventfd_write(seen[0].fd, 3);
	run_for(10);
	assert_int_equal(seen[0].runs, 0);
	loop_watch_resume(loop, seen[0].watch);
	run_for(10);
	assert_int_equal(seen[0].runs, 1);
	eventfd_write(seen[0].fd, 1);
	run_for(10);
	assert_int_equal(seen[0].runs, 2);
	drop(&seen[0]);
}

static void test_pause_before_run(void **state)
{
	watch_event(&seen[0], 0);
	loop_watch_pause(loop, seen[0].watch);
	loop_watch_pause(loop, seen[0].watch);
	eventfd_write(seen[0].fd, 3);
	run_for(10);
	assert_int_equal(seen[0].runs, 0);
	loop_watch_resume(loop, seen[0].watch);
	loop_watch_resume(loop, seen[0].watch);
	run_for(10);
	assert_int_equal(seen[0].runs, 1);
	drop(&seen[0]);
}

#define MANY 600

/* More than the ring holds, before it runs. */
static void test_many(void **state)
{
	struct seen *all = calloc(MANY, sizeof(*all));

	alarm(20);
	for (int i = 0; i < MANY; i++) {
		watch_event(&all[i], 0);
		if (i % 3)
			eventfd_write(all[i].fd, 1);
	}
	run_for(50);
	for (int i = 0; i < MANY; i++) {
		assert_int_equal(all[i].runs, i % 3 ? 1 : 0);
		drop(&all[i]);
	}
	run_for(10);
	alarm(0);
	free(all);
}

static void *ring_bell(void *arg)
{
	for (int i = 0; i < 20000; i++)
		eventfd_write(*(int *)arg, 1);
	return NULL;
}

static void *ring_and_quit(void *arg)
{
	ring_bell(arg);
	usleep(20000);
	loop_quit(loop);
	return NULL;
}

/* From another thread, as fast as it can, through pauses: the last one is always heard. */
static void test_event_storm(void **state)
{
	unsigned int before;
	pthread_t thread;

	watch_event(&seen[0], 0);
	assert_int_equal(pthread_create(&thread, NULL, ring_and_quit, &seen[0].fd), 0);
	assert_int_equal(loop_run(loop), 0);
	pthread_join(thread, NULL);
	before = seen[0].runs;
	assert_true(before > 0);
	eventfd_write(seen[0].fd, 1);
	run_for(10);
	assert_int_equal(seen[0].runs, before + 1);
	drop(&seen[0]);
}

/* --- unwatch --- */

static void unwatch_self(void *arg)
{
	struct seen *s = arg;

	s->runs++;
	loop_unwatch(loop, s->watch);
	close(s->fd);
}

static void test_unwatch_self(void **state)
{
	seen[0].fd = eventfd(5, EFD_CLOEXEC);
	seen[0].watch = loop_watch_event(loop, seen[0].fd, unwatch_self, &seen[0]);
	run_for(10);
	assert_int_equal(seen[0].runs, 1);
}

static void unwatch_other(void *arg)
{
	struct seen *s = arg;

	s->runs++;
	loop_unwatch(loop, s->other->watch);
	s->other->watch = NULL;
}

/* Both have fired when the first runs: the second must not run any more. */
static void test_unwatch_fired(void **state)
{
	for (int i = 0; i < 2; i++) {
		seen[i].fd = eventfd(1, EFD_CLOEXEC);
		seen[i].watch = loop_watch_event(loop, seen[i].fd, unwatch_other, &seen[i]);
	}
	run_for(10);
	assert_int_equal(seen[0].runs + seen[1].runs, 1);
	drop(&seen[0]);
	drop(&seen[1]);
}

static void pause_other(void *arg)
{
	struct seen *s = arg;

	s->runs++;
	loop_watch_pause(loop, s->other->watch);
}

static void test_pause_fired(void **state)
{
	for (int i = 0; i < 2; i++) {
		seen[i].fd = eventfd(1, EFD_CLOEXEC);
		seen[i].watch = loop_watch_event(loop, seen[i].fd, pause_other, &seen[i]);
	}
	run_for(10);
	assert_int_equal(seen[0].runs + seen[1].runs, 1);
	loop_watch_resume(loop, seen[0].watch);
	loop_watch_resume(loop, seen[1].watch);
	run_for(10);
	assert_int_equal(seen[0].runs, 1);
	assert_int_equal(seen[1].runs, 1);
	drop(&seen[0]);
	drop(&seen[1]);
}

static void test_unwatch_null(void **state)
{
	loop_unwatch(loop, NULL);
}

/*
 * After unwatch the fd may be closed, and the next file gets its number: the old wait must not
 * take the new file's event.
 */
static void test_fd_again(void **state)
{
	for (int round = 0; round < 4; round++) {
		uint64_t value = 0;
		int fd;

		if (round == 2)
			run_for(5); /* now the ring is live */
		watch_event(&seen[0], 0);
		if (round % 2)
			loop_watch_pause(loop, seen[0].watch);
		drop(&seen[0]);
		fd = eventfd(7, EFD_CLOEXEC | EFD_NONBLOCK);
		assert_int_equal(fd, seen[0].fd);
		run_for(10);
		assert_int_equal(read(fd, &value, 8), 8);
		assert_int_equal(value, 7);
		close(fd);
	}
	assert_int_equal(seen[0].runs, 0);
}

static int fresh_fd;

static void replace_other(void *arg)
{
	struct seen *s = arg;
	int fd = s->other->fd;

	s->runs++;
	drop(s->other);
	fresh_fd = eventfd(7, EFD_CLOEXEC | EFD_NONBLOCK);
	assert_int_equal(fresh_fd, fd);
	loop_watch_pause(loop, s->watch);
}

/* The same where the old watch has just run in this batch, and waits to be armed again. */
static void test_fd_again_in_batch(void **state)
{
	uint64_t value = 0;

	seen[0].fd = eventfd(1, EFD_CLOEXEC);
	seen[0].watch = loop_watch_event(loop, seen[0].fd, saw, &seen[0]);
	seen[1].fd = eventfd(1, EFD_CLOEXEC);
	seen[1].watch = loop_watch_event(loop, seen[1].fd, replace_other, &seen[1]);
	run_for(10);
	assert_int_equal(seen[1].runs, 1);
	assert_int_equal(read(fresh_fd, &value, 8), 8);
	assert_int_equal(value, 7);
	close(fresh_fd);
	drop(&seen[1]);
}

/* After its thread is gone there is nobody to tell: no spinning, no leak. */
static void test_unwatch_after_stop(void **state)
{
	struct seen *all = calloc(MANY, sizeof(*all));

	alarm(20);
	for (int i = 0; i < MANY; i++)
		watch_event(&all[i], 0);
	assert_int_equal(loop_start(loop), 0);
	loop_stop(loop);
	for (int i = 0; i < MANY; i++)
		drop(&all[i]);
	assert_non_null(loop_watch_timer(loop, 1, quit, NULL));
	loop_destroy(loop);
	loop = NULL;
	alarm(0);
	free(all);
}

/* --- everything, in random order, against a plain account of what must run --- */

#define RANDOM_WATCHES 8

struct random_watch {
	struct loop_watch *watch;
	int fd;
	bool paused;
	unsigned int runs, rung;
	unsigned int late; /* rings of the last round that may be heard in this one */
};

static struct random_watch randoms[RANDOM_WATCHES];

static void random_ran(void *arg)
{
	((struct random_watch *)arg)->runs++;
}

static void random_step(struct random_watch *r)
{
	switch (random() % 6) {
	case 0:
		if (r->watch) {
			loop_unwatch(loop, r->watch);
			close(r->fd);
			r->watch = NULL;
			r->rung = r->late = 0;
			return;
		}
		r->fd = eventfd(0, EFD_CLOEXEC);
		r->watch = loop_watch_event(loop, r->fd, random_ran, r);
		r->paused = false;
		return;
	case 1:
	case 2:
		if (r->watch)
			loop_watch_pause(loop, r->watch);
		r->paused = true;
		return;
	case 3:
		if (r->watch)
			loop_watch_resume(loop, r->watch);
		r->paused = false;
		return;
	default:
		if (r->watch)
			eventfd_write(r->fd, 1);
		r->rung += r->watch != NULL;
	}
}

static void test_random(void **state)
{
	srandom(7);
	memset(randoms, 0, sizeof(randoms));
	for (int round = 0; round < 300; round++) {
		for (long i = random() % 20; i > 0; i--)
			random_step(&randoms[random() % RANDOM_WATCHES]);
		run_for(1);
		for (int i = 0; i < RANDOM_WATCHES; i++) {
			struct random_watch *r = &randoms[i];
			bool heard = r->watch && !r->paused;

			/* Several rings may be heard as one; or the last of them only when the loop
			 * runs again, as it ends after a millisecond. */
			if (r->runs > (heard ? r->rung + r->late : 0) ||
			    (heard && r->rung && !r->runs))
				fail_msg("round %d, watch %d: %u runs, rung %u times%s", round, i,
					 r->runs, r->rung, r->paused ? ", paused" : "");
			if (heard) {
				r->late = r->rung > r->runs ? r->rung - r->runs : 0;
				r->rung = 0;
			}
			r->runs = 0;
		}
	}
	for (int i = 0; i < RANDOM_WATCHES; i++) {
		if (!randoms[i].watch)
			continue;
		loop_unwatch(loop, randoms[i].watch);
		close(randoms[i].fd);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, loop_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_event),
		TEST(test_event_in_callback),
		TEST(test_event_nonblocking),
		TEST(test_event_paused),
		TEST(test_pause_before_run),
		TEST(test_many),
		TEST(test_event_storm),
		TEST(test_unwatch_self),
		TEST(test_unwatch_fired),
		TEST(test_pause_fired),
		TEST(test_unwatch_null),
		TEST(test_fd_again),
		TEST(test_fd_again_in_batch),
		TEST(test_unwatch_after_stop),
		TEST(test_random),
	};

	if (!loop_works())
		return 77;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
