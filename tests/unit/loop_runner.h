/* SPDX-License-Identifier: MIT */
/*
 * For tests with a loop of the real kind, run on the test's own thread for as long as it says.
 * The test's setup creates it.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "util/loop.h"

extern struct loop *loop;

int loop_teardown(void **state);
/* False, and said why, where the kernel has not what a loop needs: the test is skipped, with 77. */
bool loop_works(void);
/* A callback that ends loop_run. */
void quit(void *arg);
/* Long enough for anything ready to be handled; then the loop has stopped. */
void run_for(unsigned int ms);
/* What waits already, and what follows from it at once. */
void run_once(void);
