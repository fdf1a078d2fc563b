/* SPDX-License-Identifier: MIT */
/* For tests of the block layer: disks driven step by step, and QEMU's tools as the judge. */
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>

#include "block/block.h"
#include "util/loop.h"

/* One request on a loop that runs until it is answered; the request's result. */
int do_iov(struct loop *loop, struct blk *blk, enum blk_op op, bool unmap, uint64_t offset,
	   const struct iovec *iov, unsigned int iovcnt, uint64_t len);
int do_read(struct loop *loop, struct blk *blk, void *buf, uint64_t len, uint64_t offset);
int do_write(struct loop *loop, struct blk *blk, const void *buf, uint64_t len, uint64_t offset);
int do_op(struct loop *loop, struct blk *blk, enum blk_op op, uint64_t offset, uint64_t len);

/* Repeat submit's requests until `*pending` falls to 0: for tests with many in flight. */
void run_until_zero(struct loop *loop, const unsigned int *pending);
/* To be called by a test's done callback where its count fell to 0. */
void stop_running(struct loop *loop);

/* A directory of the test's own in /dev/shm, removed at the end. */
const char *temp_dir(void);
/* temp_dir()/name; stays. TEST_KEEP=1 leaves the files. */
const char *temp_path(const char *name);
void remove_temp_dir(void);

/* printf a shell command and run it, output away: its exit status. */
int shell(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
bool have_qemu_tools(void);

/* What log_* said since the last call, on stderr as well. */
void capture_log_start(void);
const char *capture_log_end(void);

/* xorshift: tests repeat by seed. */
uint64_t rnd(uint64_t *state);
/* The seed of this run: TEST_SEED, or `fallback`; printed. */
uint64_t test_seed(uint64_t fallback);
