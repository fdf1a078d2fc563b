/* SPDX-License-Identifier: MIT */
/* Inside the loop: what loop.c, loop_watch.c, loop_work.c and the engines share. */
#pragma once

#include <linux/time_types.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "util/looks.h"

struct loop_workers;

/* --- engines: how the kernel is asked, and heard --- */

/* All mandatory. On the loop's thread, or before it runs. */
struct loop_engine {
	/* The calling thread is the one from now on. 0 or -errno; logs. */
	int (*start)(struct loop *loop);
	/* Hand in what was asked for, wait for something if `wait`, and run what is done. -errno
	 * where that can not work any more; logs. */
	int (*turn)(struct loop *loop, bool wait);
	/* The thread is about to end: let go of files. */
	void (*stop)(struct loop *loop);
	void (*destroy)(struct loop *loop);
	/* See loop.h. `op` counts in loop->in_flight until it is done. */
	void (*readv)(struct loop *loop, struct loop_op *op, const struct loop_file *file,
		      const struct iovec *iov, unsigned int iovcnt, uint64_t offset);
	void (*writev)(struct loop *loop, struct loop_op *op, const struct loop_file *file,
		       const struct iovec *iov, unsigned int iovcnt, uint64_t offset);
	void (*fdatasync)(struct loop *loop, struct loop_op *op, const struct loop_file *file);
	void (*fallocate)(struct loop *loop, struct loop_op *op, const struct loop_file *file,
			  int mode, uint64_t offset, uint64_t len);
	void (*file_init)(struct loop *loop, struct loop_file *file);
	void (*file_finish)(struct loop *loop, struct loop_file *file);
	/* watch->op is done once, after what the watch waits for, or disarm. */
	void (*arm)(struct loop_watch *watch);
	/* Its file may be closed afterwards. */
	void (*disarm)(struct loop_watch *watch);
};

extern const struct loop_engine loop_ring_engine, loop_poll_engine;

/* loop->engine_data for it. 0 or -errno. */
int loop_ring_create(struct loop *loop);
int loop_poll_create(struct loop *loop);

/* --- the loop --- */

struct loop {
	const struct loop_engine *engine;
	void *engine_data;
	char name[16];
	pthread_t thread;
	bool has_thread;
	bool enabled; /* watches are armed: from loop_run until its thread ends */
	atomic_bool quit;
	int awake_us;
	uint32_t wake_ns; /* what waking costs others */
	bool may_nap;
	unsigned int in_flight; /* file operations and work beside the loop */
	int wake_fd;
	LIST_HEAD(, loop_watch) watches;
	_Atomic(struct loop_call *) mailbox; /* push: release; take_mail: acquire */
	struct looks looks;
	struct loop_op *deferred;
	struct loop_op **deferred_tail;
	struct loop_workers *workers; /* once there was work for them */
	unsigned int workers_max;
};

/* End the threads, which have nothing to do. Accepts NULL. */
void loop_workers_destroy(struct loop_workers *workers);

/* --- watches --- */

enum watch_kind {
	WATCH_EVENT,
	WATCH_READY,
	WATCH_TIMER,
};

struct loop_watch {
	/* res: WATCH_EVENT >= 0, `count` being read; WATCH_READY >= 0; WATCH_TIMER -ETIME; or
	 * another -errno, after disarm or for good */
	struct loop_op op;
	LIST_ENTRY(loop_watch) entry;
	struct loop *loop;
	enum watch_kind kind;
	int fd;
	short events;
	uint64_t count; /* what was read from the eventfd */
	uint64_t period_ms;
	union { /* a timer while it is armed */
		struct __kernel_timespec timeout; /* from then on */
		int64_t due_ms;                   /* CLOCK_MONOTONIC */
	};
	loop_watch_fn *fn;
	void *arg;
	bool armed;  /* the engine has it */
	bool paused; /* do not run fn, do not arm */
	bool dead;   /* given up: free it as soon as nobody uses it */
	bool in_fn;
};

/* True for the op of a watch, false for a file operation. */
bool loop_op_is_watch(const struct loop_op *op);
/* Arm what was watched before the loop ran. */
void loop_watches_arm(struct loop *loop);
/* Free all watches, the loop having ended. */
void loop_watches_finish(struct loop *loop);
