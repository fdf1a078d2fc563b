/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * Output. A guest's serial driver sends a byte per exit, and to wake the loop for each would
 * cost more than the exit. So the first byte after a silence wakes it and goes out at once;
 * what follows is collected, and written every TICK_MS until a tick finds nothing. While the
 * reader takes no more, its readiness is waited for in place of the tick. `awake` says that
 * the loop will look by itself, by a call on its way, by the tick or by the reader.
 */
#include "console.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "util/log.h"
#include "util/loop.h"
#include "util/util.h"

#define OUTPUT_BYTES KIB(256)
#define INPUT_BYTES KIB(64)
#define DRAIN_MS 1000
#define TICK_MS 4
#define ESCAPE 1 /* Ctrl-A */

struct console {
	struct loop *loop;
	const struct console_ops *ops;
	void *owner;
	int in_fd, out_fd;
	bool own_out; /* out_fd is ours, and does not block */

	/* The guest's output: a ring. vCPU threads fill, the loop empties. */
	pthread_mutex_t lock; /* guards the five below */
	uint8_t *ring;
	size_t start, used;
	bool awake;
	bool lost;
	struct loop_call output_call;
	struct loop_watch *tick, *out_watch; /* the loop's; one at most is armed */

	/* Input; the loop's alone. A ring as well. */
	struct loop_watch *watch;
	struct loop_call input_call;
	atomic_bool input_posted;
	uint8_t input[INPUT_BYTES];
	size_t input_start, input_used;
	bool is_tty, escaped, eof;
};

/* --- the terminal --- */

/* For the handler of fatal signals, which gets no argument: the library's one more global. */
static struct termios saved_termios;
static volatile sig_atomic_t saved_fd = -1;

static void restore_terminal(void)
{
	int fd = saved_fd;

	if (fd >= 0)
		tcsetattr(fd, TCSANOW, &saved_termios);
	saved_fd = -1;
}

static void on_fatal_signal(int number)
{
	restore_terminal();
	signal(number, SIG_DFL);
	raise(number);
}

static void set_raw(int fd)
{
	struct termios raw;

	if (tcgetattr(fd, &raw) < 0)
		return;
	cfmakeraw(&raw);
	tcsetattr(fd, TCSANOW, &raw);
}

static void take_terminal(struct console *console)
{
	static const int fatal[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT};

	if (!isatty(console->in_fd) || tcgetattr(console->in_fd, &saved_termios) < 0)
		return;
	console->is_tty = true;
	saved_fd = console->in_fd;
	for (unsigned int i = 0; i < ARRAY_LEN(fatal); i++)
		signal(fatal[i], on_fatal_signal);
	set_raw(console->in_fd);
}

void console_resumed(struct console *console)
{
	if (console->is_tty)
		set_raw(console->in_fd);
}

/* --- output --- */

/*
 * A terminal that polls writable may have room for one byte, and then makes us wait for the
 * rest. O_NONBLOCK would hit all who share it, so the terminal (or pipe) is opened once more.
 */
static void open_output(struct console *console, int fd)
{
	unsigned int number;
	struct stat st;
	char path[32];
	int own = -1;

	/* Not a pseudo terminal's other end: that would make a new pair. */
	if (fstat(fd, &st) == 0 && (S_ISFIFO(st.st_mode) || isatty(fd)) &&
	    ioctl(fd, TIOCGPTN, &number) < 0) {
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		own = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	}
	console->own_out = own >= 0;
	console->out_fd = own >= 0 ? own : fd;
}

/* Write what the reader takes without blocking. True: nothing is left. */
static bool flush(struct console *console)
{
	struct pollfd pfd = {.fd = console->out_fd, .events = POLLOUT};
	size_t len = 0;

	for (;;) {
		ssize_t n;

		pthread_mutex_lock(&console->lock);
		console->start = (console->start + len) % OUTPUT_BYTES;
		console->used -= len;
		len = MIN(console->used, OUTPUT_BYTES - console->start);
		pthread_mutex_unlock(&console->lock);
		if (len == 0)
			return true;
		if (poll(&pfd, 1, 0) != 1)
			return false;
		/* A pipe that polls writable takes PIPE_BUF bytes without blocking. */
		n = write(console->out_fd, console->ring + console->start, MIN(len, PIPE_BUF));
		if (n < 0 && errno == EAGAIN)
			return false;
		if (n > 0)
			len = (size_t)n;
		else if (n == 0 || errno == EINTR)
			len = 0; /* otherwise nobody reads any more, and it is gone */
	}
}

static int64_t now_ms(void)
{
	return (int64_t)(monotonic_ns() / 1000000);
}

/* At the end: wait for the reader, but not for ever. */
static void drain(struct console *console)
{
	struct pollfd pfd = {.fd = console->out_fd, .events = POLLOUT};
	int64_t end = now_ms() + DRAIN_MS;

	while (!flush(console)) {
		int64_t left = end - now_ms();

		if (left <= 0)
			return;
		poll(&pfd, 1, (int)left);
	}
}

static void output_writable(void *arg);

/* Write, and see to it that the loop looks again. */
static void pump(struct console *console)
{
	if (flush(console)) {
		if (console->out_watch)
			loop_watch_pause(console->loop, console->out_watch);
		loop_watch_resume(console->loop, console->tick);
		return;
	}
	loop_watch_pause(console->loop, console->tick);
	if (console->out_watch)
		loop_watch_resume(console->loop, console->out_watch);
	else
		console->out_watch = loop_watch_ready(console->loop, console->out_fd, POLLOUT,
						      output_writable, console);
}

static void output_writable(void *arg)
{
	pump(arg);
}

static void output_called(struct loop_call *call)
{
	pump(CONTAINER_OF(call, struct console, output_call));
}

static void output_tick(void *arg)
{
	struct console *console = arg;
	bool some;

	pthread_mutex_lock(&console->lock);
	some = console->used > 0;
	console->awake = some;
	pthread_mutex_unlock(&console->lock);
	if (some)
		pump(console);
	else
		loop_watch_pause(console->loop, console->tick);
}

static void append_locked(struct console *console, const uint8_t *data, size_t len)
{
	size_t end = (console->start + console->used) % OUTPUT_BYTES;
	size_t first = MIN(len, OUTPUT_BYTES - end);

	memcpy(console->ring + end, data, first);
	memcpy(console->ring, data + first, len - first);
	console->used += len;
}

void console_output(struct console *console, const uint8_t *data, size_t len)
{
	bool wake, say = false;

	pthread_mutex_lock(&console->lock);
	if (len > OUTPUT_BYTES - console->used) {
		say = !console->lost;
		console->lost = true;
		len = OUTPUT_BYTES - console->used;
	}
	append_locked(console, data, len);
	wake = !console->awake;
	console->awake = true;
	pthread_mutex_unlock(&console->lock);
	if (wake)
		loop_post(console->loop, &console->output_call);
	if (say)
		log_warn("console: output is lost, its reader is too slow");
}

/* --- input --- */

static void escape_help(struct console *console)
{
	static const char help[] = "\r\nCtrl-A x  quit minivmm at once\r\n"
				   "Ctrl-A h  this help\r\n"
				   "Ctrl-A Ctrl-A  send Ctrl-A to the guest\r\n";

	console_output(console, (const uint8_t *)help, sizeof(help) - 1);
}

/* One byte typed; true if it is for the guest. */
static bool filter_byte(struct console *console, uint8_t byte)
{
	if (!console->is_tty)
		return true;
	if (!console->escaped) {
		console->escaped = byte == ESCAPE;
		return !console->escaped;
	}
	console->escaped = false;
	switch (byte) {
	case 'x':
		console->ops->quit(console->owner);
		return false;
	case 'h':
		escape_help(console);
		return false;
	case ESCAPE:
		return true;
	}
	return false;
}

static void offer_input(struct console *console)
{
	while (console->input_used) {
		size_t len = MIN(console->input_used, INPUT_BYTES - console->input_start);
		size_t taken = console->ops->input(console->owner,
						   console->input + console->input_start, len);

		console->input_start = (console->input_start + taken) % INPUT_BYTES;
		console->input_used -= taken;
		if (taken < len)
			break;
	}
	/*
	 * Read no more before this is taken; console_input_ready offers it again. A terminal is
	 * read on, or Ctrl-A would do nothing where the guest hangs.
	 */
	if (console->input_used && !console->is_tty)
		loop_watch_pause(console->loop, console->watch);
	else if (!console->eof)
		loop_watch_resume(console->loop, console->watch);
}

/* What does not fit is lost, as on any serial line. */
static void keep_byte(struct console *console, uint8_t byte)
{
	if (console->input_used == INPUT_BYTES)
		return;
	console->input[(console->input_start + console->input_used) % INPUT_BYTES] = byte;
	console->input_used++;
}

static void input_readable(void *arg)
{
	struct console *console = arg;
	uint8_t data[256];
	ssize_t len = read(console->in_fd, data, sizeof(data));

	if (len < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (len <= 0) {
		console->eof = true;
		loop_watch_pause(console->loop, console->watch);
		return;
	}
	for (ssize_t i = 0; i < len; i++)
		if (filter_byte(console, data[i]))
			keep_byte(console, data[i]);
	if (console->input_used)
		offer_input(console);
}

static void input_called(struct loop_call *call)
{
	struct console *console = CONTAINER_OF(call, struct console, input_call);

	atomic_store(&console->input_posted, false);
	if (console->input_used)
		offer_input(console);
}

void console_input_ready(struct console *console)
{
	if (!atomic_exchange(&console->input_posted, true))
		loop_post(console->loop, &console->input_call);
}

/* --- life --- */

int console_create(struct loop *loop, int in_fd, int out_fd, const struct console_ops *ops,
		   void *owner, struct console **out)
{
	struct console *console = calloc(1, sizeof(*console));

	if (!console)
		return -ENOMEM;
	console->loop = loop;
	console->ops = ops;
	console->owner = owner;
	console->in_fd = in_fd;
	open_output(console, out_fd);
	console->output_call.fn = output_called;
	console->input_call.fn = input_called;
	pthread_mutex_init(&console->lock, NULL);
	console->ring = malloc(OUTPUT_BYTES);
	console->watch = loop_watch_ready(loop, in_fd, POLLIN, input_readable, console);
	console->tick = loop_watch_timer(loop, TICK_MS, output_tick, console);
	if (!console->ring || !console->watch || !console->tick) {
		console_destroy(console);
		return -ENOMEM;
	}
	loop_watch_pause(loop, console->tick);
	take_terminal(console);
	*out = console;
	return 0;
}

void console_destroy(struct console *console)
{
	if (!console)
		return;
	drain(console);
	restore_terminal();
	loop_unwatch(console->loop, console->watch);
	loop_unwatch(console->loop, console->tick);
	loop_unwatch(console->loop, console->out_watch);
	pthread_mutex_destroy(&console->lock);
	if (console->own_out)
		close(console->out_fd);
	free(console->ring);
	free(console);
}
