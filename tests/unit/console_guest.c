/* SPDX-License-Identifier: MIT */
#include "tests/unit/console_guest.h"

#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "util/util.h"

struct console *console;
int in_fd[2], out_fd[2];
uint8_t typed[1 << 20];
size_t typed_len, room;
unsigned int quits;

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

const struct console_ops ops = {guest_input, guest_quit};

int console_setup(void **state)
{
	typed_len = quits = 0;
	room = SIZE_MAX;
	assert_int_equal(pipe2(in_fd, O_CLOEXEC), 0);
	assert_int_equal(pipe2(out_fd, O_CLOEXEC), 0);
	return loop_create("console", &loop);
}

int console_teardown(void **state)
{
	console_destroy(console);
	console = NULL;
	for (int i = 0; i < 2; i++) {
		close(in_fd[i]);
		close(out_fd[i]);
	}
	return loop_teardown(state);
}

void on_pipes(void)
{
	assert_int_equal(console_create(loop, in_fd[0], out_fd[1], &ops, NULL, &console), 0);
}

void type(int fd, const char *text)
{
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	run_for(10);
}

void say(const char *text)
{
	console_output(console, (const uint8_t *)text, strlen(text));
}

void assert_typed(const char *text)
{
	assert_int_equal(typed_len, strlen(text));
	assert_memory_equal(typed, text, typed_len);
}

size_t read_all(int fd, uint8_t *data, size_t len)
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

void assert_said(int fd, const char *text)
{
	uint8_t data[1000];
	size_t len = read_all(fd, data, sizeof(data));

	assert_int_equal(len, strlen(text));
	assert_memory_equal(data, text, len);
}

void assert_sleeps(void)
{
	clock_t before = clock();

	run_for(100);
	assert_true(clock() - before < CLOCKS_PER_SEC / 20);
}
