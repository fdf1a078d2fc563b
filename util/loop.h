/* SPDX-License-Identifier: MIT */
/*
 * A loop: one thread and one io_uring. Doorbells, file I/O, readiness, timers and calls from
 * other threads all arrive as completions; one io_uring_enter per batch submits and waits.
 *
 * Unless a function says "any thread", it is called on the loop's own thread, or by anyone
 * before the loop runs. No callback ever runs inside the call that asked for it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/uio.h>

struct loop;
struct loop_watch;

/* One asynchronous operation; lives in its owner until `done`, which runs exactly once. */
struct loop_op {
	void (*done)(struct loop_op *op, int res); /* res: bytes or 0, or -errno */
	struct loop_op *next;                      /* for who holds it: the loop, or others before */
};

/* One call from another thread; lives in its owner until `fn` runs. */
struct loop_call {
	void (*fn)(struct loop_call *call);
	struct loop_call *next; /* private */
};

/* Something to be done beside the loop; lives in its owner until `done`. */
struct loop_work {
	void (*run)(struct loop_work *work);  /* on a thread of its own: may take its time */
	void (*done)(struct loop_work *work); /* on the loop, afterwards */
	struct loop_work *next; /* these are private */
	struct loop *loop;
	struct loop_call call;
};

/* A file registered with the loop's ring. */
struct loop_file {
	int fd;
	int slot; /* private: fixed-file slot, or -1 */
};

/* `name` becomes the thread's name. 0 or -errno; logs. */
int loop_create(const char *name, struct loop **out);
/* After loop_run returned or loop_stop. Accepts NULL. */
void loop_destroy(struct loop *loop);

/*
 * Run on the calling thread until loop_quit, and then until what was posted before has run, no
 * file operation is in flight and nothing is deferred. May be called again, on the same thread.
 * 0 or -errno.
 */
int loop_run(struct loop *loop);
/* Run on a thread of its own, once; loop_stop quits and joins it. 0 or -errno. */
int loop_start(struct loop *loop);
void loop_stop(struct loop *loop);
/* Any thread. */
void loop_quit(struct loop *loop);

/*
 * On the loop's own thread, and while it does not run: handle what was posted, and what is in
 * flight. False, and nothing is done, where it has a thread of its own.
 */
bool loop_drain(struct loop *loop);

/* Any thread: run `call->fn` on the loop, later. */
void loop_post(struct loop *loop, struct loop_call *call);
/* Any other thread: run `fn(arg)` on the running loop and wait until it returned. */
void loop_call_wait(struct loop *loop, void (*fn)(void *arg), void *arg);

/*
 * How long the loop looks for more before it sleeps, in microseconds. LOOP_AWAKE_AUTO, which it is
 * at first, is as long as that pays, up to 32, or more where it costs much to wake the loop up.
 */
#define LOOP_AWAKE_AUTO (-1)
void loop_stay_awake(struct loop *loop, int us);
/* What that costs those who do it; the dearest of them counts. */
void loop_wake_costs(struct loop *loop, uint32_t ns);

/*
 * What the loop looks for may wait for two such wake-ups: while other threads want its processor, it
 * naps for so long between looks, as far as it would stay awake, instead of asking to be told.
 */
void loop_may_nap(struct loop *loop);

/* The time by which timers run, from some moment on. */
uint64_t loop_now_ns(struct loop *loop);

/* Register `fd`, which stays the caller's, for the calls below. Before the loop runs or on it. */
void loop_file_init(struct loop *loop, struct loop_file *file, int fd);
void loop_file_finish(struct loop *loop, struct loop_file *file);

/*
 * File I/O. `iov` must stay valid until done; transfers may be short, as preadv(2)'s. Before
 * the loop runs at most 256 operations may be asked for.
 */
void loop_readv(struct loop *loop, struct loop_op *op, const struct loop_file *file,
		const struct iovec *iov, unsigned int iovcnt, uint64_t offset);
void loop_writev(struct loop *loop, struct loop_op *op, const struct loop_file *file,
		 const struct iovec *iov, unsigned int iovcnt, uint64_t offset);
void loop_fdatasync(struct loop *loop, struct loop_op *op, const struct loop_file *file);
void loop_fallocate(struct loop *loop, struct loop_op *op, const struct loop_file *file,
		    int mode, uint64_t offset, uint64_t len);

/*
 * Run op->done(op, 0) once the completions at hand have all been handled: the place to do once
 * per batch what need not be done per request. An op that waits already is not queued twice
 * if the caller guards it.
 */
void loop_defer(struct loop *loop, struct loop_op *op);

/* On one of a few threads beside the loop. The loop does not end before `done`. */
void loop_work(struct loop *loop, struct loop_work *work);

/*
 * What is seen by looking, where to be told of it costs more: a virtqueue, whose driver leaves
 * its processor to kick. The loop looks for it while it is awake, and asks to be told before it
 * sleeps; then a watch has to hear it. Lives in its owner.
 */
struct loop_look {
	bool (*there)(struct loop_look *look); /* is something there? */
	bool (*arm)(struct loop_look *look); /* be told from now on; true: something is there */
	void (*found)(struct loop_look *look);
	LIST_ENTRY(loop_look) entry; /* private */
	bool listed;
};

/* Until `found` runs, once, or `arm` returned false. Nothing if it is looked for already. */
void loop_look(struct loop *loop, struct loop_look *look);
void loop_unlook(struct loop_look *look);

/*
 * Watches live in the loop until loop_unwatch, after which `fn` does not run again and the
 * fd may be closed. All return NULL only where memory is short.
 *
 * event: `fd` is an eventfd; it has been read when `fn` runs.
 * ready: `fd` has one of the poll(2) `events`; re-armed after `fn` unless paused.
 * timer: every `period_ms`.
 */
typedef void loop_watch_fn(void *arg);
struct loop_watch *loop_watch_event(struct loop *loop, int fd, loop_watch_fn *fn, void *arg);
struct loop_watch *loop_watch_ready(struct loop *loop, int fd, short events, loop_watch_fn *fn,
				    void *arg);
struct loop_watch *loop_watch_timer(struct loop *loop, uint64_t period_ms, loop_watch_fn *fn,
				    void *arg);
/* The next time a timer is armed, which is after `fn` or when it is resumed. */
void loop_watch_set_period(struct loop_watch *watch, uint64_t period_ms);
/* A paused watch stays, but is not armed; resuming an armed one does nothing. */
void loop_watch_pause(struct loop *loop, struct loop_watch *watch);
void loop_watch_resume(struct loop *loop, struct loop_watch *watch);
/* Accepts NULL. */
void loop_unwatch(struct loop *loop, struct loop_watch *watch);
