/* SPDX-License-Identifier: MIT */
/* The console on pipes and files, with readers and guests of every speed. */
#include "console.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>

#include "tests/unit/capture.h"
#include "tests/unit/console_guest.h"
#include "util/util.h"

#define BUFFER_BYTES KIB(256)

static int teardown(void **state)
{
	capture_end();
	return console_teardown(state);
}

/* --- input --- */

/* On a pipe every byte is the guest's, Ctrl-A too. */
static void test_pipe_input(void **state)
{
	on_pipes();
	type(in_fd[1], "ls\n\001x\001h");
	assert_typed("ls\n\001x\001h");
	assert_int_equal(quits, 0);
	assert_said(out_fd[0], "");
}

/* A guest that takes 16 bytes at a time gets all of them, in order. */
static void test_slow_guest(void **state)
{
	uint8_t bytes[40000];
	size_t sent = 0;

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i * 7 + i / 256);
	room = 0;
	on_pipes();
	assert_int_equal(write(in_fd[1], bytes, sizeof(bytes)), sizeof(bytes));
	run_for(10);
	assert_int_equal(typed_len, 0);
	assert_sleeps();
	while (typed_len < sizeof(bytes)) {
		sent = typed_len;
		room = sent > 1000 ? SIZE_MAX : 16; /* the rest at once */
		console_input_ready(console);
		console_input_ready(console);
		run_once();
		run_for(1);
		if (typed_len == sent)
			fail_msg("stuck behind %zu bytes", sent);
	}
	assert_memory_equal(typed, bytes, sizeof(bytes));
	console_input_ready(console);
	run_for(5);
	assert_int_equal(typed_len, sizeof(bytes));
}

/* The guest's backpressure reaches the writer: nothing is read that nobody takes. */
static void test_guest_takes_nothing(void **state)
{
	static const char bytes[4096];
	size_t written = 0;
	ssize_t n;

	room = 0;
	on_pipes();
	fcntl(in_fd[1], F_SETFL, O_NONBLOCK);
	for (int i = 0; i < 20; i++) {
		while ((n = write(in_fd[1], bytes, sizeof(bytes))) > 0)
			written += (size_t)n;
		run_for(2);
	}
	assert_true(written < KIB(64) + KIB(68));
	room = SIZE_MAX;
	console_input_ready(console);
	run_for(50);
	assert_int_equal(typed_len, written);
}

static void test_eof(void **state)
{
	room = 2;
	on_pipes();
	assert_int_equal(write(in_fd[1], "abc", 3), 3);
	close(in_fd[1]);
	in_fd[1] = -1;
	run_for(10);
	assert_sleeps();
	/* What the guest did not take yet is not lost, and output goes on. */
	room = 10;
	console_input_ready(console);
	say("still here");
	run_for(10);
	assert_typed("abc");
	assert_said(out_fd[0], "still here");
	assert_sleeps();
}

static void test_null(void **state)
{
	int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	assert_int_equal(console_create(loop, null_fd, null_fd, &ops, NULL, &console), 0);
	for (int i = 0; i < 1000; i++)
		say("all of this goes nowhere, and must not fill anything up; so: a longer line, "
		    "and many of them, more than the buffer is long");
	run_for(10);
	for (int i = 0; i < 2000; i++)
		say("all of this goes nowhere, and must not fill anything up; so: a longer line, "
		    "and many of them, more than the buffer is long");
	capture_start();
	assert_sleeps();
	assert_string_equal(capture_end(), "");
	assert_int_equal(typed_len, 0);
	console_destroy(console);
	console = NULL;
	close(null_fd);
}

static void test_file(void **state)
{
	int fd = memfd_create("input", MFD_CLOEXEC), to = memfd_create("output", MFD_CLOEXEC);
	char data[10] = "";

	assert_int_equal(write(fd, "from a file", 11), 11);
	lseek(fd, 0, SEEK_SET);
	assert_int_equal(console_create(loop, fd, to, &ops, NULL, &console), 0);
	say("to a file");
	run_for(10);
	assert_typed("from a file");
	assert_sleeps();
	assert_int_equal(pread(to, data, sizeof(data), 0), 9);
	assert_memory_equal(data, "to a file", 9);
	close(fd);
	close(to);
}

/* --- output --- */

static void fill(uint8_t *data, size_t len, unsigned int seed)
{
	for (size_t i = 0; i < len; i++)
		data[i] = (uint8_t)((i + seed) * 31 + (i + seed) / 251);
}

/* A slow reader loses what the buffer does not hold, which is said once; order stays. */
static void test_slow_reader(void **state)
{
	enum { SENT = 600000 };
	uint8_t *sent = malloc(SENT), *got = malloc(SENT);
	size_t have = 0, chunk = 1000;
	const char *text;

	fill(sent, SENT, 0);
	on_pipes();
	capture_start();
	for (size_t at = 0; at < SENT; at += chunk) {
		console_output(console, sent + at, chunk);
		if (at % 50000 == 0)
			run_for(1);
	}
	text = capture_end();
	assert_one_line(text);
	assert_says(text, "console");
	assert_says(text, "lost");
	assert_sleeps();
	for (int i = 0; i < 200 && have < SENT; i++) {
		size_t n = read_all(out_fd[0], got + have, SENT - have);

		if (n == 0 && i > 8)
			break;
		have += n;
		run_for(1);
	}
	assert_true(have >= BUFFER_BYTES && have < SENT);
	assert_memory_equal(got, sent, have);
	/* It goes on, and is not said again. */
	say("afterwards");
	run_for(10);
	assert_said(out_fd[0], "afterwards");
	capture_start();
	for (size_t at = 0; at < SENT; at += chunk)
		console_output(console, sent + at, chunk);
	assert_string_equal(capture_end(), "");
	while (read_all(out_fd[0], got, SENT))
		run_for(1);
	free(sent);
	free(got);
}

/* A guest that sends byte by byte costs a write per tick of 4 ms, whoever reads. */
static void test_batches(void **state)
{
	enum { SENT = 200 };
	unsigned int writes = 0, bytes = 0;
	struct timespec begin, end;
	uint8_t data[SENT];
	int pair[2];
	ssize_t len;

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(console_create(loop, in_fd[0], pair[1], &ops, NULL, &console), 0);
	clock_gettime(CLOCK_MONOTONIC, &begin);
	for (unsigned int i = 0; i < SENT; i++) {
		say("x");
		run_for(1);
	}
	run_for(20);
	clock_gettime(CLOCK_MONOTONIC, &end);
	while ((len = recv(pair[0], data, sizeof(data), MSG_DONTWAIT)) > 0) {
		writes++;
		bytes += (unsigned int)len;
	}
	assert_int_equal(bytes, SENT);
	assert_true(writes <= 2 + ((end.tv_sec - begin.tv_sec) * 1000 +
				   (end.tv_nsec - begin.tv_nsec) / 1000000) / 4);
	close(pair[0]);
	close(pair[1]);
}

/* As much as there is room for, in pieces of all sizes: round and round the buffer. */
static void test_wrap(void **state)
{
	enum { TOTAL = 1500000, CHUNK = 30000 };
	uint8_t *sent = malloc(TOTAL), *got = malloc(TOTAL);
	size_t at = 0, have = 0;

	srandom(5);
	fill(sent, TOTAL, 3);
	on_pipes();
	capture_start();
	while (have < TOTAL) {
		size_t len = (size_t)random() % CHUNK;

		len = MIN(len, TOTAL - at);
		if (at - have + len <= BUFFER_BYTES) {
			console_output(console, sent + at, len);
			at += len;
		}
		run_once();
		if (random() % 3 == 0 || at == TOTAL) {
			run_for(1);
			len = (size_t)random() % (2 * CHUNK) + 1;
			have += read_all(out_fd[0], got + have, MIN(len, TOTAL - have));
		}
	}
	assert_string_equal(capture_end(), "");
	assert_memory_equal(got, sent, TOTAL);
	free(sent);
	free(got);
}

static void test_no_reader(void **state)
{
	on_pipes();
	close(out_fd[0]);
	out_fd[0] = -1;
	capture_start();
	for (int i = 0; i < 20; i++) {
		for (int j = 0; j < 1000; j++)
			say("nobody hears this, and nobody misses it, so nothing is said about it");
		run_for(2);
	}
	assert_string_equal(capture_end(), "");
	assert_sleeps();
}

#define LINES 2000

static void *say_lines(void *arg)
{
	char line[32];

	for (int i = 0; i < LINES; i++) {
		snprintf(line, sizeof(line), "%c%07d\n", *(char *)arg, i);
		say(line);
	}
	return NULL;
}

/* vCPUs speak at once; pieces do not mix, and each keeps its order. */
static void test_threads(void **state)
{
	static char names[] = "abcd";
	pthread_t threads[4];
	int next[4] = {0}, number;
	size_t have = 0;
	char *got = calloc(1, 4 * LINES * 9 + 1), name;

	on_pipes();
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, say_lines, &names[i]), 0);
	for (int i = 0; i < 2000 && have < 4 * LINES * 9; i++) {
		run_for(1);
		have += read_all(out_fd[0], (uint8_t *)got + have, 4 * LINES * 9 - have);
	}
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(have, 4 * LINES * 9);
	for (char *line = got; *line; line += 9) {
		assert_int_equal(sscanf(line, "%c%7d\n", &name, &number), 2);
		assert_int_equal(number, next[name - 'a']++);
	}
	free(got);
}

static void test_nothing(void **state)
{
	on_pipes();
	console_output(console, (const uint8_t *)"", 0);
	run_for(5);
	say("x");
	run_for(5);
	assert_said(out_fd[0], "x");
	console_destroy(NULL);
}

/* The guest's last words are written at the end. */
static void test_last_words(void **state)
{
	uint8_t sent[20000], got[20001];

	fill(sent, sizeof(sent), 9);
	on_pipes();
	console_output(console, sent, sizeof(sent));
	console_destroy(console);
	console = NULL;
	assert_int_equal(read_all(out_fd[0], got, sizeof(got)), sizeof(sent));
	assert_memory_equal(got, sent, sizeof(sent));
}

static void *sip(void *arg)
{
	static char bytes[4096];

	while (read(out_fd[0], bytes, sizeof(bytes)) > 0)
		usleep(200000);
	return NULL;
}

/* But a reader who hardly reads cannot hold up the end for long. */
static void test_end_is_bounded(void **state)
{
	static uint8_t bytes[BUFFER_BYTES];
	struct timespec start, end;
	pthread_t thread;

	on_pipes();
	console_output(console, bytes, sizeof(bytes));
	assert_int_equal(pthread_create(&thread, NULL, sip, NULL), 0);
	clock_gettime(CLOCK_MONOTONIC, &start);
	console_destroy(console);
	console = NULL;
	clock_gettime(CLOCK_MONOTONIC, &end);
	pthread_cancel(thread);
	pthread_join(thread, NULL);
	assert_true(end.tv_sec - start.tv_sec <= 2);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, console_setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_pipe_input),
		TEST(test_slow_guest),
		TEST(test_guest_takes_nothing),
		TEST(test_eof),
		TEST(test_null),
		TEST(test_file),
		TEST(test_slow_reader),
		TEST(test_batches),
		TEST(test_wrap),
		TEST(test_no_reader),
		TEST(test_threads),
		TEST(test_nothing),
		TEST(test_last_words),
		TEST(test_end_is_bounded),
	};

	signal(SIGPIPE, SIG_IGN); /* as machine_run does */
	if (!loop_works())
		return 77;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
