/* SPDX-License-Identifier: MIT */
/* Inside the loop: what loop.c and loop_watch.c share. */
#pragma once

#include <liburing.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/queue.h>

#include "util/loop.h"

#define LOOP_FILES 64

struct loop_workers;

struct loop {
	struct io_uring ring;
	char name[16];
	pthread_t thread;
	bool has_thread;
	bool enabled; /* the ring takes submissions: from loop_run until its thread ends */
	atomic_bool quit;
	unsigned int in_flight; /* file operations: completions that are not a watch's */
	int wake_fd;
	LIST_HEAD(, loop_watch) watches;
	_Atomic(struct loop_call *) mailbox; /* push: release; take_mail: acquire */
	struct loop_op *deferred;
	struct loop_op **deferred_tail;
	bool files[LOOP_FILES]; /* slots in use */
	bool has_files;
	struct loop_workers *workers; /* once there was work for them */
};

/* A free submission; what was queued before is submitted if there was none. */
struct io_uring_sqe *loop_get_sqe(struct loop *loop);
/* True for the op of a watch, false for a file operation. */
bool loop_op_is_watch(const struct loop_op *op);
/* Arm what was watched before the ring took submissions. */
void loop_watches_arm(struct loop *loop);
/* End the threads, which have nothing to do. Accepts NULL. */
void loop_workers_destroy(struct loop_workers *workers);
/* Free all watches, the loop having ended. */
void loop_watches_finish(struct loop *loop);
