/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * An engine hands what the loop is asked for to the kernel and runs done() of what is done: on
 * io_uring (loop_ring.c), or, where that is forbidden, by poll and threads (loop_poll.c). A turn
 * of the loop is a turn of its engine, what is found by looking, and then what was deferred.
 *
 * Watches are ops of the loop's own, armed again after they fired (loop_watch.c).
 *
 * Other threads get in by the mailbox: a lock-free stack of calls and an eventfd, which is one
 * of the loop's own watches.
 */
#include "util/loop_impl.h"

#include <errno.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "util/crowd.h"
#include "util/log.h"
#include "util/util.h"

#define WORKERS_MAX 4

/* --- operations --- */

void loop_readv(struct loop *loop, struct loop_op *op, const struct loop_file *file,
		const struct iovec *iov, unsigned int iovcnt, uint64_t offset)
{
	loop->engine->readv(loop, op, file, iov, iovcnt, offset);
}

void loop_writev(struct loop *loop, struct loop_op *op, const struct loop_file *file,
		 const struct iovec *iov, unsigned int iovcnt, uint64_t offset)
{
	loop->engine->writev(loop, op, file, iov, iovcnt, offset);
}

void loop_fdatasync(struct loop *loop, struct loop_op *op, const struct loop_file *file)
{
	loop->engine->fdatasync(loop, op, file);
}

void loop_fallocate(struct loop *loop, struct loop_op *op, const struct loop_file *file,
		    int mode, uint64_t offset, uint64_t len)
{
	loop->engine->fallocate(loop, op, file, mode, offset, len);
}

void loop_defer(struct loop *loop, struct loop_op *op)
{
	op->next = NULL;
	*loop->deferred_tail = op;
	loop->deferred_tail = &op->next;
}

void loop_stay_awake(struct loop *loop, int us)
{
	loop->awake_us = us;
}

void loop_wake_costs(struct loop *loop, uint32_t ns)
{
	loop->wake_ns = MAX(loop->wake_ns, ns);
}

void loop_may_nap(struct loop *loop)
{
	loop->may_nap = true;
}

uint64_t loop_now_ns(struct loop *loop)
{
	return monotonic_ns();
}

void loop_file_init(struct loop *loop, struct loop_file *file, int fd)
{
	file->fd = fd;
	file->slot = -1;
	loop->engine->file_init(loop, file);
}

void loop_file_finish(struct loop *loop, struct loop_file *file)
{
	loop->engine->file_finish(loop, file);
}

void loop_look(struct loop *loop, struct loop_look *look)
{
	looks_add(&loop->looks, look);
}

/* --- calls from other threads --- */

void loop_post(struct loop *loop, struct loop_call *call)
{
	struct loop_call *top = atomic_load_explicit(&loop->mailbox, memory_order_relaxed);

	do {
		call->next = top;
	} while (!atomic_compare_exchange_weak_explicit(&loop->mailbox, &top, call,
							memory_order_release,
							memory_order_relaxed));
	/* The eventfd wakes for a whole stack of calls: only the first must ring. */
	if (!top)
		eventfd_write(loop->wake_fd, 1);
}

static void take_mail(void *arg)
{
	struct loop *loop = arg;
	struct loop_call *call, *next, *fifo = NULL;

	call = atomic_exchange_explicit(&loop->mailbox, NULL, memory_order_acquire);
	for (; call; call = next) {
		next = call->next;
		call->next = fifo;
		fifo = call;
	}
	for (call = fifo; call; call = next) {
		next = call->next; /* fn may free or post the call again */
		call->fn(call);
	}
}

struct waiting_call {
	struct loop_call call;
	void (*fn)(void *arg);
	void *arg;
	sem_t returned;
};

static void run_waiting_call(struct loop_call *call)
{
	struct waiting_call *waiting = CONTAINER_OF(call, struct waiting_call, call);

	waiting->fn(waiting->arg);
	sem_post(&waiting->returned);
}

void loop_call_wait(struct loop *loop, void (*fn)(void *arg), void *arg)
{
	struct waiting_call waiting = {.call.fn = run_waiting_call, .fn = fn, .arg = arg};

	sem_init(&waiting.returned, 0, 0);
	loop_post(loop, &waiting.call);
	while (sem_wait(&waiting.returned) < 0 && errno == EINTR)
		;
	sem_destroy(&waiting.returned);
}

void loop_quit(struct loop *loop)
{
	atomic_store(&loop->quit, true); /* pairs with the load in loop_run */
	eventfd_write(loop->wake_fd, 1);
}

/* --- the loop --- */

/* Only what was deferred before: what these defer runs in the next batch. */
static void run_deferred(struct loop *loop)
{
	struct loop_op *op = loop->deferred, *next;

	loop->deferred = NULL;
	loop->deferred_tail = &loop->deferred;
	for (; op; op = next) {
		next = op->next;
		op->done(op, 0);
	}
}

static int start(struct loop *loop)
{
	int r = loop->engine->start(loop);

	if (r < 0)
		return r;
	loop->enabled = true;
	loop_watches_arm(loop);
	return 0;
}

/*
 * What is in flight uses its owner's memory: see it end before saying goodbye. And whoever
 * posted before quitting had a reason.
 */
static bool may_end(struct loop *loop)
{
	return atomic_load(&loop->quit) && !loop->in_flight && !loop->deferred &&
	       !atomic_load(&loop->mailbox);
}

int loop_run(struct loop *loop)
{
	int r = loop->enabled ? 0 : start(loop);

	if (r < 0)
		return r;
	while (!may_end(loop)) {
		r = loop->engine->turn(loop, !loop->deferred);
		if (r < 0)
			return r;
		looks_run(&loop->looks);
		run_deferred(loop);
	}
	atomic_store(&loop->quit, false);
	return 0;
}

bool loop_drain(struct loop *loop)
{
	if (loop->has_thread)
		return false;
	loop_quit(loop);
	loop_run(loop);
	return true;
}

static void *loop_thread(void *arg)
{
	struct loop *loop = arg;

	prctl(PR_SET_NAME, loop->name); /* by another it is a file of /proc to open and write */
	loop_run(loop);
	loop->engine->stop(loop);
	return NULL;
}

int loop_start(struct loop *loop)
{
	sigset_t all, old;
	int r;

	/* Signals are for the main thread. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&loop->thread, NULL, loop_thread, loop);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r) {
		log_error("loop %s: cannot start a thread: %s", loop->name, strerror(r));
		return -r;
	}
	loop->has_thread = true;
	return 0;
}

void loop_stop(struct loop *loop)
{
	if (!loop->has_thread)
		return;
	loop_quit(loop);
	pthread_join(loop->thread, NULL);
	loop->has_thread = false;
	loop->enabled = false; /* what was armed was that thread's */
}

/* Once is enough, for all loops of the process. */
static void say_no_ring(int r)
{
	static atomic_flag said = ATOMIC_FLAG_INIT;

	if (!atomic_flag_test_and_set(&said))
		log_warn("io_uring is not available: %s: threads are used, which is slower (Linux "
			 "5.19 or later, sysctl kernel.io_uring_disabled=0; a container must allow "
			 "it)", strerror(-r));
}

static int create_engine(struct loop *loop)
{
	int r = loop_ring_create(loop);

	if (r == -EMFILE || r == -ENFILE)
		log_error("loop %s: no io_uring: %s%s", loop->name, strerror(-r), fd_remedy(-r));
	if (r == 0 || r == -EMFILE || r == -ENFILE)
		return r;
	say_no_ring(r);
	return loop_poll_create(loop);
}

static int create_mailbox(struct loop *loop)
{
	int r;

	loop->wake_fd = eventfd(0, EFD_CLOEXEC);
	if (loop->wake_fd < 0) {
		r = -errno;
		log_error("loop %s: cannot make an eventfd: %s%s", loop->name, strerror(-r),
			  fd_remedy(-r));
		return r;
	}
	if (loop_watch_event(loop, loop->wake_fd, take_mail, loop))
		return 0;
	log_error("loop %s: out of memory", loop->name);
	close(loop->wake_fd);
	return -ENOMEM;
}

int loop_create(const char *name, struct loop **out)
{
	struct loop *loop = calloc(1, sizeof(*loop));
	unsigned int allowed = processors_allowed();
	int r;

	if (!loop)
		return -ENOMEM;
	snprintf(loop->name, sizeof(loop->name), "%s", name);
	loop->deferred_tail = &loop->deferred;
	loop->awake_us = LOOP_AWAKE_AUTO;
	loop->workers_max = MIN(allowed, WORKERS_MAX);
	r = create_engine(loop);
	if (r < 0)
		goto err_free;
	r = create_mailbox(loop);
	if (r < 0)
		goto err_engine;
	*out = loop;
	return 0;

err_engine:
	loop->engine->destroy(loop);
err_free:
	free(loop);
	return r;
}

void loop_destroy(struct loop *loop)
{
	if (!loop)
		return;
	loop_workers_destroy(loop->workers);
	loop->engine->destroy(loop);
	loop_watches_finish(loop);
	close(loop->wake_fd);
	free(loop);
}
