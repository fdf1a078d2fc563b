/* SPDX-License-Identifier: MIT */
/* Work beside the loop: on other threads, every piece once, and the loop waits for it. */
#include "util/loop.h"

#include <pthread.h>
#include <semaphore.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/loop_runner.h"
#include "util/util.h"

#define WORKS 1000
#define SHARED 64u
#define THREADS_MAX 8 /* as loop_work.c has it */

struct work {
	struct loop_work work;
	pthread_t ran_on;
	unsigned int ran, done;
	sem_t *wait_for, *tell;
};

static unsigned int left;

static int setup(void **state)
{
	left = 0;
	return loop_create("work", &loop);
}

static void run_work(struct loop_work *work)
{
	struct work *w = CONTAINER_OF(work, struct work, work);

	if (w->tell)
		sem_post(w->tell);
	if (w->wait_for)
		sem_wait(w->wait_for);
	w->ran_on = pthread_self();
	w->ran++;
}

static void work_done(struct loop_work *work)
{
	struct work *w = CONTAINER_OF(work, struct work, work);

	assert_int_equal(w->ran, ++w->done);
	if (--left == 0)
		loop_quit(loop);
}

static void start(struct work *w)
{
	w->work.run = run_work;
	w->work.done = work_done;
	left++;
	loop_work(loop, &w->work);
}

static void test_each_once(void **state)
{
	static struct work works[WORKS];

	memset(works, 0, sizeof(works));
	for (int i = 0; i < WORKS; i++)
		start(&works[i]);
	assert_int_equal(loop_run(loop), 0);
	for (int i = 0; i < WORKS; i++) {
		assert_int_equal(works[i].done, 1);
		assert_false(pthread_equal(works[i].ran_on, pthread_self()));
	}
}

/* Asked to end, the loop still waits for what is under way. */
static void test_quit_waits(void **state)
{
	struct work w = {.ran = 0};

	start(&w);
	loop_quit(loop);
	assert_int_equal(loop_run(loop), 0);
	assert_int_equal(w.done, 1);
}

/* Two that need each other: one thread could not do them. */
static void test_beside_each_other(void **state)
{
	struct work a = {.ran = 0}, b = {.ran = 0};
	sem_t one, two;

	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		skip();
	sem_init(&one, 0, 0);
	sem_init(&two, 0, 0);
	a.tell = b.wait_for = &one;
	b.tell = a.wait_for = &two;
	start(&a);
	start(&b);
	assert_int_equal(loop_run(loop), 0);
	assert_int_equal(a.done + b.done, 2);
	sem_destroy(&one);
	sem_destroy(&two);
}

static unsigned int threads_done(const struct work *works, unsigned int count)
{
	unsigned int threads = 0;

	for (unsigned int i = 0; i < count; i++) {
		unsigned int j = 0;

		while (j < i && !pthread_equal(works[j].ran_on, works[i].ran_on))
			j++;
		threads += j == i;
	}
	return threads;
}

/* Much, queued while threads are held up: they take several pieces at a time. */
static void test_shared_out(void **state)
{
	static struct work works[SHARED], held[8];
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	unsigned int threads = (unsigned int)MIN(MAX(cpus, 1), 4);
	sem_t go, began;

	memset(works, 0, sizeof(works));
	memset(held, 0, sizeof(held));
	sem_init(&go, 0, 0);
	sem_init(&began, 0, 0);
	for (unsigned int i = 0; i < threads; i++) {
		held[i].wait_for = &go;
		held[i].tell = &began;
		start(&held[i]);
		sem_wait(&began);
	}
	for (unsigned int i = 0; i < SHARED; i++)
		start(&works[i]);
	for (unsigned int i = 0; i < threads; i++)
		sem_post(&go);
	assert_int_equal(loop_run(loop), 0);
	for (unsigned int i = 0; i < SHARED; i++)
		assert_int_equal(works[i].done, 1);
	assert_in_range(threads_done(works, SHARED), 1, THREADS_MAX);
	sem_destroy(&go);
	sem_destroy(&began);
}

static struct work again;
static unsigned int rounds;

static void start_again(struct loop_work *work)
{
	work_done(work);
	if (--rounds)
		start(&again);
	again.work.done = start_again;
}

/* From `done`, the same once more. */
static void test_again(void **state)
{
	memset(&again, 0, sizeof(again));
	rounds = 100;
	start(&again);
	again.work.done = start_again;
	while (rounds)
		assert_int_equal(loop_run(loop), 0);
	assert_int_equal(again.done, 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_each_once, setup, loop_teardown),
		cmocka_unit_test_setup_teardown(test_quit_waits, setup, loop_teardown),
		cmocka_unit_test_setup_teardown(test_beside_each_other, setup, loop_teardown),
		cmocka_unit_test_setup_teardown(test_shared_out, setup, loop_teardown),
		cmocka_unit_test_setup_teardown(test_again, setup, loop_teardown),
	};

	if (!loop_works())
		return 77;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
