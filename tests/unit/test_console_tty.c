/* SPDX-License-Identifier: MIT */
/* The console on pseudo terminals: raw while it is there, what Ctrl-A does, and bad ends. */
#include "console.h"

#include <fcntl.h>
#include <pty.h>
#include <signal.h>
#include <sys/wait.h>
#include <termios.h>

#include "tests/unit/capture.h"
#include "tests/unit/console_guest.h"
#include "util/util.h"

static int leader = -1, follower;
static struct termios cooked;

static int teardown(void **state)
{
	console_teardown(state);
	if (leader >= 0) {
		close(leader);
		close(follower);
	}
	leader = -1;
	return 0;
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

#define TEST(name) cmocka_unit_test_setup_teardown(name, console_setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
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

	signal(SIGPIPE, SIG_IGN); /* as machine_run does */
	if (!loop_works())
		return 77;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
