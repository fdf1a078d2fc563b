/* SPDX-License-Identifier: MIT */
/* The console on pipes, files and pseudo terminals, with readers and guests of every speed. */
#include "console.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>

#include "tests/unit/capture.h"
#include "util/loop.h"
#include "util/util.h"

#define BUFFER_BYTES KIB(256)

static struct loop *loop;
static struct console *console;
static int in_fd[2], out_fd[2]; /* pipes: [0] is read, [1] written */
static int leader = -1, follower;
static struct termios cooked;

/* The guest. */
static uint8_t typed[1 << 20];
static size_t typed_len, room;
static unsigned int quits;

static size_t guest_input(void *owner, const uint8_t *data, size_t len)
{
	len = MIN(len, room);
	assert_true(typed_len + len <= sizeof(typed));
	memcpy(typed + typed_len, data, len);
	typed_len += len;
	room -= len;
	return len;
}

static void guest_quit(void *owner)
{
	quits++;
}

static const struct console_ops ops = {guest_input, guest_quit};

static int setup(void **state)
{
	typed_len = quits = 0;
	room = SIZE_MAX;
	assert_int_equal(pipe2(in_fd, O_CLOEXEC), 0);
	assert_int_equal(pipe2(out_fd, O_CLOEXEC), 0);
	return loop_create("console", &loop);
}

static int teardown(void **state)
{
	capture_end();
	console_destroy(console);
	console = NULL;
	loop_destroy(loop);
	for (int i = 0; i < 2; i++) {
		close(in_fd[i]);
		close(out_fd[i]);
	}
	if (leader >= 0) {
		close(leader);
		close(follower);
	}
	leader = -1;
	return 0;
}

static void on_pipes(void)
{
	assert_int_equal(console_create(loop, in_fd[0], out_fd[1], &ops, NULL, &console), 0);
}

static void new_terminal(void)
{
	assert_int_equal(openpty(&leader, &follower, NULL, NULL, NULL), 0);
	tcgetattr(follower, &cooked);
	fcntl(leader, F_SETFL, O_NONBLOCK);
}

static void on_terminal(void)
{
	new_terminal();
	assert_int_equal(console_create(loop, follower, follower, &ops, NULL, &console), 0);
}

static void quit_loop(void *arg)
{
	loop_quit(loop);
}

static void run_for(unsigned int ms)
{
	struct loop_watch *timer = loop_watch_timer(loop, ms, quit_loop, NULL);

	assert_int_equal(loop_run(loop), 0);
	loop_unwatch(loop, timer);
}

static void type(int fd, const char *text)
{
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	run_for(10);
}

static void say(const char *text)
{
	console_output(console, (const uint8_t *)text, strlen(text));
}

static void assert_typed(const char *text)
{
	assert_int_equal(typed_len, strlen(text));
	assert_memory_equal(typed, text, typed_len);
}

/* What is there to read now. */
static size_t read_all(int fd, uint8_t *data, size_t len)
{
	struct pollfd pfd = {.fd = fd, .events = POLLIN};
	size_t have = 0;

	while (have < len && poll(&pfd, 1, 0) == 1) {
		ssize_t n = read(fd, data + have, len - have);

		if (n <= 0)
			break;
		have += (size_t)n;
	}
	return have;
}

static void assert_said(int fd, const char *text)
{
	uint8_t data[1000];
	size_t len = read_all(fd, data, sizeof(data));

	assert_int_equal(len, strlen(text));
	assert_memory_equal(data, text, len);
}

/* CPU time tells a loop that spins from one that waits. */
static void assert_sleeps(void)
{
	clock_t before = clock();

	run_for(100);
	assert_true(clock() - before < CLOCKS_PER_SEC / 20);
}

static bool same_termios(const struct termios *a, const struct termios *b)
{
	return a->c_iflag == b->c_iflag && a->c_oflag == b->c_oflag && a->c_cflag == b->c_cflag &&
	       a->c_lflag == b->c_lflag && memcmp(a->c_cc, b->c_cc, sizeof(a->c_cc)) == 0;
}

static bool is_raw(void)
{
	struct termios now;

	tcgetattr(follower, &now);
	return !(now.c_lflag & (ICANON | ECHO | ISIG)) && !(now.c_iflag & (ICRNL | IXON)) &&
	       !(now.c_oflag & OPOST);
}

static bool is_cooked(void)
{
	struct termios now;

	tcgetattr(follower, &now);
	return same_termios(&now, &cooked);
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
		loop_quit(loop);
		assert_int_equal(loop_run(loop), 0);
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
		loop_quit(loop);
		assert_int_equal(loop_run(loop), 0);
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

/* --- terminals --- */

static void test_raw_and_back(void **state)
{
	on_terminal();
	assert_true(is_raw());
	console_destroy(console);
	console = NULL;
	assert_true(is_cooked());
	/* A second time, as after a failed start. */
	assert_int_equal(console_create(loop, follower, follower, &ops, NULL, &console), 0);
	assert_true(is_raw());
	/* A shell took it meanwhile (SIGSTOP, SIGCONT). */
	tcsetattr(follower, TCSANOW, &cooked);
	console_resumed(console);
	assert_true(is_raw());
	console_destroy(console);
	console = NULL;
	assert_true(is_cooked());
}

/* Output to a pipe, input from a terminal, and the other way round. */
static void test_half_a_terminal(void **state)
{
	new_terminal();
	assert_int_equal(console_create(loop, follower, out_fd[1], &ops, NULL, &console), 0);
	assert_true(is_raw());
	type(leader, "\001h");
	assert_true(read_all(out_fd[0], typed, 1000) > 20);
	console_destroy(console);
	assert_true(is_cooked());
	assert_int_equal(console_create(loop, in_fd[0], follower, &ops, NULL, &console), 0);
	assert_true(is_cooked());
	type(in_fd[1], "\001x");
	assert_int_equal(quits, 0);
	console_destroy(console);
	console = NULL;
	assert_true(is_cooked());
}

static void test_escapes(void **state)
{
	on_terminal();
	type(leader, "a\001\001b\001qc\003\004\r\n");
	assert_typed("a\001bc\003\004\r\n");
	assert_int_equal(quits, 0);
	/* In two reads. */
	type(leader, "\001");
	assert_typed("a\001bc\003\004\r\n");
	type(leader, "x");
	assert_int_equal(quits, 1);
	type(leader, "z\001");
	type(leader, "\001");
	assert_typed("a\001bc\003\004\r\nz\001");
	type(leader, "d\001xe\001");
	type(leader, "xf");
	assert_int_equal(quits, 3);
	assert_typed("a\001bc\003\004\r\nz\001def");
	assert_said(leader, "");
}

static void test_help(void **state)
{
	char help[1001] = "";

	on_terminal();
	type(leader, "\001h");
	assert_true(read_all(leader, (uint8_t *)help, 1000) > 0);
	assert_says(help, "Ctrl-A x");
	assert_says(help, "Ctrl-A h");
	/* Raw: each line needs its carriage return. */
	for (char *at = help; (at = strchr(at, '\n')); at++)
		assert_true(at > help && at[-1] == '\r');
	assert_int_equal(typed_len, 0);
}

/* What Ctrl-A is for: a guest that hangs and takes nothing any more. */
static void test_quit_of_hung_guest(void **state)
{
	char line[101];

	memset(line, 'k', 100);
	line[100] = '\0';
	room = 16;
	on_terminal();
	for (int i = 0; i < 10; i++)
		type(leader, line);
	type(leader, "\001x");
	assert_int_equal(quits, 1);
	assert_sleeps();
	/* It was only slow: what was typed meanwhile is there. */
	room = SIZE_MAX;
	console_input_ready(console);
	run_for(10);
	assert_int_equal(typed_len, 1000);
}

/* For ever: more is typed than is kept. */
static void test_quit_after_much(void **state)
{
	static char block[2000];

	memset(block, 'k', sizeof(block));
	room = 0;
	on_terminal();
	for (int i = 0; i < 60; i++) {
		assert_true(write(leader, block, sizeof(block)) > 0);
		run_for(2);
	}
	type(leader, "\001x");
	assert_int_equal(quits, 1);
	room = SIZE_MAX;
	console_input_ready(console);
	run_for(10);
	assert_true(typed_len >= 256 && typed_len < 120000);
	type(leader, "more");
	assert_memory_equal(typed + typed_len - 4, "more", 4);
}

/* A terminal nobody reads must not hold the loop, which has the power button. */
static void test_stalled_terminal(void **state)
{
	static uint8_t sent[200000], got[200000];
	size_t have = 0;

	memset(sent, 'x', sizeof(sent));
	alarm(20);
	on_terminal();
	/* Odd lengths, so that there is room, but less than for a whole write. */
	for (size_t at = 0; at < sizeof(sent); at += 625) {
		console_output(console, sent + at, 625);
		run_for(1); /* this is where it hung */
	}
	alarm(0);
	assert_sleeps();
	type(leader, "\001x");
	assert_int_equal(quits, 1);
	for (int i = 0; i < 500 && have < sizeof(sent); i++) {
		have += read_all(leader, got + have, sizeof(got) - have);
		run_for(1);
	}
	assert_int_equal(have, sizeof(sent));
	assert_memory_equal(got, sent, have);
	/* The person's own description of the terminal still blocks, as it was. */
	assert_int_equal(fcntl(follower, F_GETFL) & O_NONBLOCK, 0);
}

static void test_hangup(void **state)
{
	on_terminal();
	run_for(5);
	close(leader);
	leader = -1;
	run_for(10);
	say("nobody there");
	run_for(10);
	assert_sleeps();
	close(follower);
}

/* The terminal is put back even by a crash. */
static void test_crash(void **state)
{
	static const int signals[] = {SIGABRT, SIGSEGV, SIGBUS};

	new_terminal();
	for (size_t i = 0; i < ARRAY_LEN(signals); i++) {
		pid_t pid = fork();
		int status;

		if (pid == 0) {
			struct loop *l;

			if (loop_create("child", &l) < 0 ||
			    console_create(l, follower, follower, &ops, NULL, &console) < 0)
				_exit(1);
			if (!is_raw())
				_exit(2);
			raise(signals[i]);
			_exit(3);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status));
		assert_int_equal(WTERMSIG(status), signals[i]);
		assert_true(is_cooked());
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

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
		TEST(test_raw_and_back),
		TEST(test_half_a_terminal),
		TEST(test_escapes),
		TEST(test_help),
		TEST(test_quit_of_hung_guest),
		TEST(test_quit_after_much),
		TEST(test_stalled_terminal),
		TEST(test_hangup),
		TEST(test_crash),
	};
	struct loop *probe;

	signal(SIGPIPE, SIG_IGN); /* as machine_run does */
	if (loop_create("probe", &probe) < 0)
		return 77;
	loop_destroy(probe);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
