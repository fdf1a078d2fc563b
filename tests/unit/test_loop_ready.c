/* SPDX-License-Identifier: MIT */
/* What the loop watches: files becoming ready, and timers. */
#include "util/loop.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <time.h>

#include "tests/unit/capture.h"
#include "tests/unit/watch_seen.h"

static int teardown(void **state)
{
	capture_end();
	return loop_teardown(state);
}

static void pause_self(void *arg)
{
	struct seen *s = arg;

	s->runs++;
	loop_watch_pause(loop, s->watch);
}

/* --- readiness --- */

static void watch_pipe(struct seen *s, int fds[2])
{
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	s->fd = fds[0];
	s->watch = loop_watch_ready(loop, s->fd, POLLIN, saw, s);
	assert_non_null(s->watch);
}

/* It runs for as long as there is something: level, not edge. */
static void test_ready(void **state)
{
	int fds[2];

	watch_pipe(&seen[0], fds);
	seen[0].read_one = true;
	run_for(10);
	assert_int_equal(seen[0].runs, 0);
	assert_int_equal(write(fds[1], "abc", 3), 3);
	run_for(10);
	assert_int_equal(seen[0].runs, 3);
	drop(&seen[0]);
	close(fds[1]);
}

static void pause_resume_self(void *arg)
{
	pause_self(arg);
	loop_watch_resume(loop, ((struct seen *)arg)->watch);
	if (((struct seen *)arg)->runs == 3)
		pause_self(arg);
}

static void test_ready_paused(void **state)
{
	int fds[2];

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	seen[0].watch = loop_watch_ready(loop, fds[0], POLLIN, pause_self, &seen[0]);
	seen[1].watch = loop_watch_ready(loop, fds[0], POLLIN, pause_resume_self, &seen[1]);
	assert_int_equal(write(fds[1], "abc", 3), 3);
	run_for(10);
	assert_int_equal(seen[0].runs, 1);
	assert_int_equal(seen[1].runs, 4);
	/* Resumed, it sees what is still there. */
	loop_watch_resume(loop, seen[0].watch);
	run_for(10);
	assert_int_equal(seen[0].runs, 2);
	loop_unwatch(loop, seen[0].watch);
	loop_unwatch(loop, seen[1].watch);
	close(fds[0]);
	close(fds[1]);
}

/* Room to write comes and goes, as with a TAP or a slow terminal. */
static void test_ready_to_write(void **state)
{
	static char bytes[1 << 16];
	int fds[2];

	assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
	while (write(fds[1], bytes, sizeof(bytes)) > 0)
		;
	seen[0].watch = loop_watch_ready(loop, fds[1], POLLOUT, pause_self, &seen[0]);
	run_for(10);
	assert_int_equal(seen[0].runs, 0);
	assert_true(read(fds[0], bytes, sizeof(bytes)) > 0);
	run_for(10);
	assert_int_equal(seen[0].runs, 1);
	loop_unwatch(loop, seen[0].watch);
	close(fds[0]);
	close(fds[1]);
}

/* The other end goes away: that is ready too. */
static void test_ready_hangup(void **state)
{
	int fds[2];

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	seen[0].watch = loop_watch_ready(loop, fds[0], POLLIN, pause_self, &seen[0]);
	run_for(5);
	close(fds[1]);
	run_for(10);
	assert_int_equal(seen[0].runs, 1);
	loop_unwatch(loop, seen[0].watch);
	close(fds[0]);
}

/* What cannot be polled is always ready: files and /dev/null, as stdin may be. */
static void test_ready_always(void **state)
{
	int null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	int file_fd = memfd_create("file", MFD_CLOEXEC);

	seen[0].watch = loop_watch_ready(loop, null_fd, POLLIN, pause_self, &seen[0]);
	seen[1].watch = loop_watch_ready(loop, file_fd, POLLIN, pause_self, &seen[1]);
	run_for(10);
	assert_int_equal(seen[0].runs, 1);
	assert_int_equal(seen[1].runs, 1);
	loop_unwatch(loop, seen[0].watch);
	loop_unwatch(loop, seen[1].watch);
	close(null_fd);
	close(file_fd);
}

/* Said once, with the loop's name, and then quiet. */
static void test_bad_fd(void **state)
{
	const char *text;

	seen[0].watch = loop_watch_ready(loop, 987, POLLIN, saw, &seen[0]);
	capture_start();
	run_for(20);
	text = capture_end();
	assert_one_line(text);
	assert_says(text, "watch");
	assert_says(text, "987");
	assert_int_equal(seen[0].runs, 0);
	loop_unwatch(loop, seen[0].watch);
	seen[0].watch = loop_watch_event(loop, 987, saw, &seen[0]);
	capture_start();
	run_for(20);
	assert_one_line(capture_end());
	loop_unwatch(loop, seen[0].watch);
}

/* --- timers --- */

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static void test_timer(void **state)
{
	uint64_t start = now_ms();

	seen[0].quit_at = 5;
	seen[0].watch = loop_watch_timer(loop, 20, saw, &seen[0]);
	assert_int_equal(loop_run(loop), 0);
	assert_int_equal(seen[0].runs, 5);
	assert_true(now_ms() - start >= 100);
	assert_true(now_ms() - start < 1000);
	loop_unwatch(loop, seen[0].watch);
}

static void test_timer_paused(void **state)
{
	seen[0].watch = loop_watch_timer(loop, 5, pause_self, &seen[0]);
	run_for(40);
	assert_int_equal(seen[0].runs, 1);
	loop_watch_resume(loop, seen[0].watch);
	run_for(40);
	assert_int_equal(seen[0].runs, 2);
	loop_unwatch(loop, seen[0].watch);
}

static void resume_self(void *arg)
{
	loop_watch_resume(loop, ((struct seen *)arg)->watch);
	saw(arg);
}

/* Resumed while it runs it is armed once, not twice. */
static void test_resume_in_callback(void **state)
{
	uint64_t start = now_ms();

	seen[0].quit_at = 5;
	seen[0].watch = loop_watch_timer(loop, 20, resume_self, &seen[0]);
	assert_int_equal(loop_run(loop), 0);
	assert_true(now_ms() - start >= 100);
	loop_unwatch(loop, seen[0].watch);
	run_for(40);
	assert_int_equal(seen[0].runs, 5);
}

static void end_timer(void *arg)
{
	struct seen *s = arg;

	s->runs++;
	loop_unwatch(loop, s->watch);
}

static void test_timer_ends_itself(void **state)
{
	seen[0].watch = loop_watch_timer(loop, 2, end_timer, &seen[0]);
	run_for(30);
	assert_int_equal(seen[0].runs, 1);
}

/* Given up long before its time, it must not hold up anything. */
static void test_timer_unwatched(void **state)
{
	seen[0].watch = loop_watch_timer(loop, 10000000000ull, saw, &seen[0]);
	seen[1].watch = loop_watch_timer(loop, 20, saw, &seen[1]);
	run_for(5);
	loop_unwatch(loop, seen[0].watch);
	loop_unwatch(loop, seen[1].watch);
	run_for(40);
	assert_int_equal(seen[0].runs + seen[1].runs, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_ready),
		TEST(test_ready_paused),
		TEST(test_ready_to_write),
		TEST(test_ready_hangup),
		TEST(test_ready_always),
		TEST(test_bad_fd),
		TEST(test_timer),
		TEST(test_timer_paused),
		TEST(test_resume_in_callback),
		TEST(test_timer_ends_itself),
		TEST(test_timer_unwatched),
	};

	if (!loop_works())
		return 77;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
