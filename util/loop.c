/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * Everything the loop waits for is a submission in its io_uring whose user data is a struct
 * loop_op; a batch is: submit what the last batch produced and wait, in one system call; run
 * done() of every completion at hand; run what was deferred; again. Completions without an op
 * belong to cancel requests and are ignored.
 *
 * Watches are ops of the loop's own, armed again after they fired. A watch that is given up
 * while the kernel still holds it is marked dead, cancelled, and freed by its completion.
 *
 * The ring is created disabled and enabled by the thread that runs it (SINGLE_ISSUER: the
 * kernel then refuses every other submitter). Other threads get in by the mailbox: a lock-free
 * stack of calls and an eventfd, which is one of the loop's own watches.
 */
#include "util/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/queue.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "util/log.h"
#include "util/util.h"

#define LOOP_DEPTH 256
#define LOOP_FILES 64

enum watch_kind {
	WATCH_EVENT,
	WATCH_READY,
	WATCH_TIMER,
};

struct loop_watch {
	struct loop_op op;
	LIST_ENTRY(loop_watch) entry;
	struct loop *loop;
	enum watch_kind kind;
	int fd;
	short events;
	uint64_t count; /* what was read from the eventfd */
	struct __kernel_timespec period;
	loop_watch_fn *fn;
	void *arg;
	bool armed;  /* the kernel has it */
	bool paused; /* do not run fn, do not arm */
	bool dead;   /* given up: free it as soon as nobody uses it */
	bool in_fn;
};

struct loop {
	struct io_uring ring;
	char name[16];
	pthread_t thread;
	bool has_thread;
	atomic_bool quit;
	unsigned int in_flight; /* file operations: completions that are not a watch's */
	int wake_fd;
	LIST_HEAD(, loop_watch) watches;
	_Atomic(struct loop_call *) mailbox; /* push: release; take_mail: acquire */
	struct loop_op *deferred;
	struct loop_op **deferred_tail;
	bool files[LOOP_FILES]; /* slots in use */
	bool has_files;
};

/* --- submission --- */

static struct io_uring_sqe *get_sqe(struct loop *loop)
{
	struct io_uring_sqe *sqe;

	while (!(sqe = io_uring_get_sqe(&loop->ring)))
		io_uring_submit(&loop->ring);
	return sqe;
}

static void set_file(struct loop *loop, struct io_uring_sqe *sqe, const struct loop_file *file)
{
	loop->in_flight++;
	if (file->slot < 0)
		return;
	sqe->fd = file->slot;
	sqe->flags |= IOSQE_FIXED_FILE;
}

void loop_readv(struct loop *loop, struct loop_op *op, const struct loop_file *file,
		const struct iovec *iov, unsigned int iovcnt, uint64_t offset)
{
	struct io_uring_sqe *sqe = get_sqe(loop);

	/* One buffer needs no import of an iovec array. */
	if (iovcnt == 1)
		io_uring_prep_read(sqe, file->fd, iov->iov_base,
				   (unsigned int)MIN(iov->iov_len, 1u << 30), offset);
	else
		io_uring_prep_readv(sqe, file->fd, iov, iovcnt, offset);
	set_file(loop, sqe, file);
	io_uring_sqe_set_data(sqe, op);
}

void loop_writev(struct loop *loop, struct loop_op *op, const struct loop_file *file,
		 const struct iovec *iov, unsigned int iovcnt, uint64_t offset)
{
	struct io_uring_sqe *sqe = get_sqe(loop);

	if (iovcnt == 1)
		io_uring_prep_write(sqe, file->fd, iov->iov_base,
				    (unsigned int)MIN(iov->iov_len, 1u << 30), offset);
	else
		io_uring_prep_writev(sqe, file->fd, iov, iovcnt, offset);
	set_file(loop, sqe, file);
	io_uring_sqe_set_data(sqe, op);
}

void loop_fdatasync(struct loop *loop, struct loop_op *op, const struct loop_file *file)
{
	struct io_uring_sqe *sqe = get_sqe(loop);

	io_uring_prep_fsync(sqe, file->fd, IORING_FSYNC_DATASYNC);
	set_file(loop, sqe, file);
	io_uring_sqe_set_data(sqe, op);
}

void loop_fallocate(struct loop *loop, struct loop_op *op, const struct loop_file *file,
		    int mode, uint64_t offset, uint64_t len)
{
	struct io_uring_sqe *sqe = get_sqe(loop);

	io_uring_prep_fallocate(sqe, file->fd, mode, (off_t)offset, (off_t)len);
	set_file(loop, sqe, file);
	io_uring_sqe_set_data(sqe, op);
}

void loop_defer(struct loop *loop, struct loop_op *op)
{
	op->next = NULL;
	*loop->deferred_tail = op;
	loop->deferred_tail = &op->next;
}

/* --- registered files --- */

void loop_file_init(struct loop *loop, struct loop_file *file, int fd)
{
	file->fd = fd;
	file->slot = -1;
	for (int slot = 0; loop->has_files && slot < LOOP_FILES; slot++) {
		if (loop->files[slot])
			continue;
		if (io_uring_register_files_update(&loop->ring, (unsigned int)slot, &fd, 1) != 1)
			return; /* works without, a little slower */
		loop->files[slot] = true;
		file->slot = slot;
		return;
	}
}

void loop_file_finish(struct loop *loop, struct loop_file *file)
{
	int none = -1;

	if (file->slot < 0)
		return;
	/* Refused once the loop's thread is gone; then the ring's end releases the file. */
	if (io_uring_register_files_update(&loop->ring, (unsigned int)file->slot, &none, 1) == 1)
		loop->files[file->slot] = false;
	file->slot = -1;
}

/* --- watches --- */

static void watch_arm(struct loop_watch *watch)
{
	struct io_uring_sqe *sqe = get_sqe(watch->loop);

	switch (watch->kind) {
	case WATCH_EVENT:
		io_uring_prep_read(sqe, watch->fd, &watch->count, sizeof(watch->count), 0);
		break;
	case WATCH_READY:
		io_uring_prep_poll_add(sqe, watch->fd, (unsigned int)watch->events);
		break;
	case WATCH_TIMER:
		io_uring_prep_timeout(sqe, &watch->period, 0, 0);
		break;
	}
	io_uring_sqe_set_data(sqe, &watch->op);
	watch->armed = true;
}

static void watch_free(struct loop_watch *watch)
{
	LIST_REMOVE(watch, entry);
	free(watch);
}

static void watch_run(struct loop_watch *watch)
{
	watch->in_fn = true;
	watch->fn(watch->arg);
	watch->in_fn = false;
}

static void watch_done(struct loop_op *op, int res)
{
	struct loop_watch *watch = CONTAINER_OF(op, struct loop_watch, op);
	bool fired = res >= 0 || (watch->kind == WATCH_TIMER && res == -ETIME);
	bool again = fired || res == -EINTR || res == -EAGAIN;

	watch->armed = false;
	if (fired && !watch->dead && !watch->paused)
		watch_run(watch);
	if (watch->dead) {
		watch_free(watch);
		return;
	}
	if (!again)
		log_error("loop %s: cannot wait for fd %d: %s", watch->loop->name, watch->fd,
			  strerror(-res));
	else if (!watch->paused)
		watch_arm(watch);
}

static struct loop_watch *watch_create(struct loop *loop, enum watch_kind kind, int fd,
				       loop_watch_fn *fn, void *arg)
{
	struct loop_watch *watch = calloc(1, sizeof(*watch));

	if (!watch)
		return NULL;
	watch->op.done = watch_done;
	watch->loop = loop;
	watch->kind = kind;
	watch->fd = fd;
	watch->fn = fn;
	watch->arg = arg;
	LIST_INSERT_HEAD(&loop->watches, watch, entry);
	return watch;
}

struct loop_watch *loop_watch_event(struct loop *loop, int fd, loop_watch_fn *fn, void *arg)
{
	struct loop_watch *watch = watch_create(loop, WATCH_EVENT, fd, fn, arg);
	int flags = fcntl(fd, F_GETFL);

	/* A read that waits must not fail with EAGAIN at once. */
	if (flags >= 0 && (flags & O_NONBLOCK))
		fcntl(fd, F_SETFL, flags & ~O_NONBLOCK);
	if (watch)
		watch_arm(watch);
	return watch;
}

struct loop_watch *loop_watch_ready(struct loop *loop, int fd, short events, loop_watch_fn *fn,
				    void *arg)
{
	struct loop_watch *watch = watch_create(loop, WATCH_READY, fd, fn, arg);

	if (!watch)
		return NULL;
	watch->events = events;
	watch_arm(watch);
	return watch;
}

struct loop_watch *loop_watch_timer(struct loop *loop, uint64_t period_ms, loop_watch_fn *fn,
				    void *arg)
{
	struct loop_watch *watch = watch_create(loop, WATCH_TIMER, -1, fn, arg);

	if (!watch)
		return NULL;
	watch->period.tv_sec = (long long)(period_ms / 1000);
	watch->period.tv_nsec = (long long)(period_ms % 1000) * 1000000;
	watch_arm(watch);
	return watch;
}

void loop_watch_pause(struct loop *loop, struct loop_watch *watch)
{
	watch->paused = true; /* it may fire once more, unheard */
}

void loop_watch_resume(struct loop *loop, struct loop_watch *watch)
{
	watch->paused = false;
	if (!watch->armed && !watch->in_fn)
		watch_arm(watch);
}

void loop_unwatch(struct loop *loop, struct loop_watch *watch)
{
	struct io_uring_sqe *sqe;

	if (!watch)
		return;
	watch->dead = true;
	if (watch->in_fn)
		return; /* watch_done frees it */
	if (!watch->armed) {
		watch_free(watch);
		return;
	}
	sqe = get_sqe(loop);
	if (watch->kind == WATCH_TIMER)
		io_uring_prep_timeout_remove(sqe, (uintptr_t)&watch->op, 0);
	else
		io_uring_prep_cancel(sqe, &watch->op, 0);
	io_uring_sqe_set_data(sqe, NULL);
	/* The kernel must see what was armed before the caller closes the fd, or the old wait
	 * would take the event of the next file with its number. */
	io_uring_submit(&loop->ring);
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

static void run_completions(struct loop *loop)
{
	struct io_uring_cqe *cqe;

	while (io_uring_peek_cqe(&loop->ring, &cqe) == 0) {
		struct loop_op *op = io_uring_cqe_get_data(cqe);
		int res = cqe->res;

		io_uring_cqe_seen(&loop->ring, cqe);
		if (!op)
			continue;
		if (op->done != watch_done)
			loop->in_flight--;
		op->done(op, res);
	}
}

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

/* liburing 2.3 declares io_uring_enable_rings, but its library has it not. */
static int enable_ring(struct loop *loop)
{
	long r = syscall(SYS_io_uring_register, loop->ring.ring_fd, IORING_REGISTER_ENABLE_RINGS,
			 NULL, 0);

	/* EBADFD: enabled by an earlier run. */
	if (r == 0 || errno == EBADFD)
		return 0;
	log_error("loop %s: cannot enable io_uring: %s", loop->name, strerror(errno));
	return -errno;
}

int loop_run(struct loop *loop)
{
	int r = enable_ring(loop);

	if (r < 0)
		return r;
	/* What is in flight uses its owner's memory: see it end before saying goodbye. */
	while (!atomic_load(&loop->quit) || loop->in_flight || loop->deferred) {
		r = loop->deferred ? io_uring_submit_and_get_events(&loop->ring)
				   : io_uring_submit_and_wait(&loop->ring, 1);
		if (r < 0 && r != -EINTR && r != -EAGAIN && r != -EBUSY) {
			log_error("loop %s: io_uring: %s", loop->name, strerror(-r));
			return r;
		}
		run_completions(loop);
		run_deferred(loop);
	}
	atomic_store(&loop->quit, false);
	return 0;
}

static void *loop_thread(void *arg)
{
	loop_run(arg);
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
	pthread_setname_np(loop->thread, loop->name);
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
}

static int ring_init(struct io_uring *ring)
{
	/* The best this kernel knows: 6.1, 6.0, 5.19. */
	static const unsigned int flags[] = {
		IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
		IORING_SETUP_SINGLE_ISSUER,
		0,
	};
	int r = -EINVAL;

	for (unsigned int i = 0; r == -EINVAL && i < ARRAY_LEN(flags); i++)
		r = io_uring_queue_init(LOOP_DEPTH, ring, flags[i] | IORING_SETUP_R_DISABLED);
	return r;
}

int loop_create(const char *name, struct loop **out)
{
	struct loop *loop = calloc(1, sizeof(*loop));
	int r;

	if (!loop)
		return -ENOMEM;
	snprintf(loop->name, sizeof(loop->name), "%s", name);
	loop->deferred_tail = &loop->deferred;
	r = ring_init(&loop->ring);
	if (r < 0) {
		log_error("io_uring is not available: %s (Linux 5.19 or later is needed, and "
			  "sysctl kernel.io_uring_disabled=0; a container must allow it)",
			  strerror(-r));
		goto err_free;
	}
	loop->has_files = io_uring_register_files_sparse(&loop->ring, LOOP_FILES) == 0;
	loop->wake_fd = eventfd(0, EFD_CLOEXEC);
	if (loop->wake_fd < 0) {
		r = -errno;
		goto err_ring;
	}
	if (!loop_watch_event(loop, loop->wake_fd, take_mail, loop)) {
		r = -ENOMEM;
		goto err_wake;
	}
	*out = loop;
	return 0;

err_wake:
	close(loop->wake_fd);
err_ring:
	io_uring_queue_exit(&loop->ring);
err_free:
	free(loop);
	return r;
}

void loop_destroy(struct loop *loop)
{
	if (!loop)
		return;
	io_uring_queue_exit(&loop->ring);
	while (!LIST_EMPTY(&loop->watches))
		watch_free(LIST_FIRST(&loop->watches));
	close(loop->wake_fd);
	free(loop);
}
