/* SPDX-License-Identifier: MIT */
/*
 * Many writes to files that do not block, in one system call. Unlike a loop's operations they are
 * done when batch_run returns. Used by one thread.
 */
#pragma once

#include <sys/uio.h>

#define BATCH_MAX 64

struct batch;

/* 0, or -errno where there is no io_uring to be had; silent. On the thread that will use it. */
int batch_create(struct batch **out);
/* Accepts NULL. */
void batch_destroy(struct batch *batch);

/* One more, after those before it: as writev(2). `iov` stays valid until batch_run. */
void batch_writev(struct batch *batch, int fd, const struct iovec *iov, unsigned int iovcnt);
/*
 * Do what was asked for, at most BATCH_MAX, in order and up to the first that fails. How many were
 * done; if not all, *error is the next one's -errno, and those behind it were not tried. -EOPNOTSUPP
 * is also what a file says whose driver knows no write that never waits.
 */
unsigned int batch_run(struct batch *batch, int *error);
