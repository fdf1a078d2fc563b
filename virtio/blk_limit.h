/* SPDX-License-Identifier: MIT */
/*
 * How much a disk may do per second: operations, bytes, or both. What was not used is kept for
 * one second, so a disk that rested may do a second's worth at once. Something larger passes as
 * well, and what comes after it waits the longer.
 *
 * It belongs to the disk and not to the device, so that a guest's reboot is no fresh start. On
 * the disk's loop, once that runs.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct blk_limit;
struct loop;

/* Rates are at least this, or 0 for no limit; and at most so much. */
#define BLK_LIMIT_BYTES_MIN 4096u
#define BLK_LIMIT_MAX (1ull << 40)
/* The most that blk_limit_pass is asked for. */
#define BLK_LIMIT_PASS_MAX (1ull << 34)

/* 0 or -errno. */
int blk_limit_create(struct loop *loop, uint64_t ops_per_s, uint64_t bytes_per_s,
		     struct blk_limit **out);
/* Nobody waits. Accepts NULL. */
void blk_limit_destroy(struct blk_limit *limit);

/* Whether an operation of so many bytes may begin now; then it counts. */
bool blk_limit_pass(struct blk_limit *limit, uint64_t bytes);
/* Call fn(arg) once, when blk_limit_pass may succeed again. One at a time may wait. */
void blk_limit_wait(struct blk_limit *limit, void (*fn)(void *arg), void *arg);
/* Do not call it. */
void blk_limit_forget(struct blk_limit *limit);
