/* SPDX-License-Identifier: MIT */
/*
 * For tests of the console: a guest that takes what it has room for, and two pipes to be the
 * standard input and output.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "console.h"
#include "tests/unit/loop_runner.h"

extern struct console *console;
extern int in_fd[2], out_fd[2]; /* pipes: [0] is read, [1] written */

/* The guest. */
extern uint8_t typed[1 << 20];
extern size_t typed_len, room;
extern unsigned int quits;
extern const struct console_ops ops;

int console_setup(void **state);
int console_teardown(void **state);

void on_pipes(void);
/* Write to the console's input, and let it reach the guest. */
void type(int fd, const char *text);
/* The guest's output. */
void say(const char *text);
void assert_typed(const char *text);
/* What is there to read now. */
size_t read_all(int fd, uint8_t *data, size_t len);
void assert_said(int fd, const char *text);
/* CPU time tells a loop that spins from one that waits. */
void assert_sleeps(void);
