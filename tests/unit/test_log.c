/* SPDX-License-Identifier: MIT */
#include "util/log.h"

#include <errno.h>
#include <pthread.h>
#include <pty.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/unit/capture.h"
#include "util/util.h"

static int setup(void **state)
{
	log_set_level(LOG_LEVEL_INFO);
	return 0;
}

static void test_one_line(void **state)
{
	capture_start();
	log_error("disk %s: %d", "a.img", 7);
	assert_string_equal(capture_end(), "minivmm: disk a.img: 7\n");
}

/* Names come from files and guests: no byte of theirs may end the line or steer a terminal. */
static void test_control_bytes(void **state)
{
	capture_start();
	log_error("%s", "a\nb\rc\033[2Jd\te\177f\001");
	assert_string_equal(capture_end(), "minivmm: a?b?c?[2Jd?e?f?\n");
	capture_start();
	log_error("%s", "gr\303\266\303\237e");
	assert_string_equal(capture_end(), "minivmm: gr\303\266\303\237e\n");
}

static void test_too_long(void **state)
{
	char name[5000];
	const char *text;

	memset(name, 'x', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	capture_start();
	log_error("%s", name);
	text = capture_end();
	assert_one_line(text);
	assert_true(strlen(text) > 1000);
}

static void test_levels(void **state)
{
	static const char *const all = "minivmm: e\nminivmm: w\nminivmm: i\nminivmm: d\n";

	for (int level = LOG_LEVEL_ERROR; level <= LOG_LEVEL_DEBUG; level++) {
		capture_start();
		log_set_level((enum log_level)level);
		log_error("e");
		log_warn("w");
		log_info("i");
		log_debug("d");
		assert_int_equal(strncmp(capture_end(), all, strlen("minivmm: e\n") * (level + 1)),
				 0);
		assert_int_equal(capture_lines(capture_text), level + 1);
	}
}

/* "log, then return -errno" must return what failed, wherever stderr goes. */
static void test_keeps_errno(void **state)
{
	int saved = dup(STDERR_FILENO);

	capture_start();
	errno = EXDEV;
	log_error("x");
	assert_int_equal(errno, EXDEV);
	log_debug("not shown");
	assert_int_equal(errno, EXDEV);
	capture_end();
	close(STDERR_FILENO);
	log_error("nowhere");
	assert_int_equal(errno, EXDEV);
	dup2(saved, STDERR_FILENO);
	close(saved);
}

/* Where stderr is a terminal, it may be raw, with the guest's text before and behind. */
static void test_terminal(void **state)
{
	int leader, follower, saved = dup(STDERR_FILENO);
	struct termios raw;
	char text[100];
	ssize_t len;

	assert_int_equal(openpty(&leader, &follower, NULL, NULL, NULL), 0);
	tcgetattr(follower, &raw);
	cfmakeraw(&raw);
	tcsetattr(follower, TCSANOW, &raw);
	dup2(follower, STDERR_FILENO);
	log_warn("hello");
	dup2(saved, STDERR_FILENO);
	close(saved);
	len = read(leader, text, sizeof(text) - 1);
	close(leader);
	close(follower);
	assert_true(len > 0);
	text[len] = '\0';
	assert_string_equal(text, "\rminivmm: hello\r\n");
}

static void test_guest_limit(void **state)
{
	struct log_limit limit = {0}, other = {0};
	const char *text;

	capture_start();
	for (int i = 0; i < 1000; i++)
		log_guest(&limit, "bad thing %d", i);
	text = capture_end();
	assert_int_equal(capture_lines(text), LOG_GUEST_MAX + 1);
	assert_says(text, "bad thing 4\n");
	assert_says(text, "no more");
	capture_start();
	log_guest(&limit, "silent");
	log_guest(&other, "speaks");
	assert_string_equal(capture_end(), "minivmm: speaks\n");
}

/* A count that wraps would let a patient guest fill a disk. */
static void test_guest_limit_saturates(void **state)
{
	struct log_limit limit = {.used = UINT32_MAX};

	capture_start();
	for (int i = 0; i < 3; i++)
		log_guest(&limit, "x");
	assert_string_equal(capture_end(), "");
}

static void *speak(void *arg)
{
	for (int i = 0; i < 200; i++) {
		log_info("thread %d says a line of some length, number %d", *(int *)arg, i);
		log_guest(&(struct log_limit){.used = LOG_GUEST_MAX}, "x");
	}
	return NULL;
}

static void test_threads_do_not_mix(void **state)
{
	pthread_t threads[4];
	int numbers[4];
	char *line, *rest;

	capture_start();
	for (int i = 0; i < 4; i++) {
		numbers[i] = i;
		assert_int_equal(pthread_create(&threads[i], NULL, speak, &numbers[i]), 0);
	}
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	rest = strdup(capture_end());
	assert_int_equal(capture_lines(rest), 800);
	line = strtok(rest, "\n");
	for (; line; line = strtok(NULL, "\n")) {
		int thread, number, end = 0;

		sscanf(line, "minivmm: thread %d says a line of some length, number %d%n", &thread,
		       &number, &end);
		assert_int_equal(end, strlen(line));
	}
	free(rest);
}

static void *provoke(void *arg)
{
	for (int i = 0; i < 100; i++)
		log_guest(arg, "bad");
	return NULL;
}

static void test_guest_limit_threads(void **state)
{
	struct log_limit limit = {0};
	pthread_t threads[4];

	capture_start();
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, provoke, &limit), 0);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(capture_lines(capture_end()), LOG_GUEST_MAX + 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, capture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_one_line),
		TEST(test_control_bytes),
		TEST(test_too_long),
		TEST(test_levels),
		TEST(test_keeps_errno),
		TEST(test_terminal),
		TEST(test_guest_limit),
		TEST(test_guest_limit_saturates),
		TEST(test_threads_do_not_mix),
		TEST(test_guest_limit_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
