/* SPDX-License-Identifier: MIT */
/*
 * The person's end of the serial line: stdin and stdout, or any two fds. A terminal is put in
 * raw mode, and back on every way out that can be caught; a pipe, a file or /dev/null do too.
 *
 * What the guest sends is buffered and written by the loop, so that a slow reader never holds
 * a vCPU; a reader that is slower than the buffer is long loses output, which is said once.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct console;
struct loop;

struct console_ops {
	/* Mandatory. Bytes typed; how many were taken. On the loop. */
	size_t (*input)(void *owner, const uint8_t *data, size_t len);
	/* Mandatory. Ctrl-A x. On the loop. */
	void (*quit)(void *owner);
};

/* 0 or -errno. */
int console_create(struct loop *loop, int in_fd, int out_fd, const struct console_ops *ops,
		   void *owner, struct console **out);
/* After the loop ended: writes what is left, restores the terminal. Accepts NULL. */
void console_destroy(struct console *console);

/* What the guest sent. Any thread; never blocks. */
void console_output(struct console *console, const uint8_t *data, size_t len);
/* Input that was not taken may be offered again. Any thread. */
void console_input_ready(struct console *console);
/* Back in the foreground (SIGCONT): make the terminal raw again. On the loop. */
void console_resumed(struct console *console);
