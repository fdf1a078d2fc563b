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
#include "util/loop_impl.h"

#include <assert.h>
#include <errno.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "util/log.h"
#include "util/util.h"

#define LOOP_DEPTH 256

/* --- submission --- */

struct io_uring_sqe *loop_get_sqe(struct loop *loop)
{
	struct io_uring_sqe *sqe;

	while (!(sqe = io_uring_get_sqe(&loop->ring))) {
		assert(loop->enabled); /* loop.h: so many operations, no more, before it runs */
		io_uring_submit(&loop->ring);
	}
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

/* All ones would mean "where the file stands" to the kernel; anything else with the top bit set
 * it refuses, as it should. */
static uint64_t file_offset(uint64_t offset)
{
	return MIN(offset, 1ull << 63);
}

void loop_readv(struct loop *loop, struct loop_op *op, const struct loop_file *file,
		const struct iovec *iov, unsigned int iovcnt, uint64_t offset)
{
	struct io_uring_sqe *sqe = loop_get_sqe(loop);

	/* One buffer needs no import of an iovec array. */
	if (iovcnt == 1)
		io_uring_prep_read(sqe, file->fd, iov->iov_base,
				   (unsigned int)MIN(iov->iov_len, 1u << 30), file_offset(offset));
	else
		io_uring_prep_readv(sqe, file->fd, iov, iovcnt, file_offset(offset));
	set_file(loop, sqe, file);
	io_uring_sqe_set_data(sqe, op);
}

void loop_writev(struct loop *loop, struct loop_op *op, const struct loop_file *file,
		 const struct iovec *iov, unsigned int iovcnt, uint64_t offset)
{
	struct io_uring_sqe *sqe = loop_get_sqe(loop);

	if (iovcnt == 1)
		io_uring_prep_write(sqe, file->fd, iov->iov_base,
				    (unsigned int)MIN(iov->iov_len, 1u << 30), file_offset(offset));
	else
		io_uring_prep_writev(sqe, file->fd, iov, iovcnt, file_offset(offset));
	set_file(loop, sqe, file);
	io_uring_sqe_set_data(sqe, op);
}

void loop_fdatasync(struct loop *loop, struct loop_op *op, const struct loop_file *file)
{
	struct io_uring_sqe *sqe = loop_get_sqe(loop);

	io_uring_prep_fsync(sqe, file->fd, IORING_FSYNC_DATASYNC);
	set_file(loop, sqe, file);
	io_uring_sqe_set_data(sqe, op);
}

void loop_fallocate(struct loop *loop, struct loop_op *op, const struct loop_file *file,
		    int mode, uint64_t offset, uint64_t len)
{
	struct io_uring_sqe *sqe = loop_get_sqe(loop);

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

	/* Once the loop's thread is gone its files are released already. */
	if (file->slot < 0 || !loop->has_files)
		return;
	if (io_uring_register_files_update(&loop->ring, (unsigned int)file->slot, &none, 1) == 1)
		loop->files[file->slot] = false;
	file->slot = -1;
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
		if (!loop_op_is_watch(op))
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

	if (r < 0) {
		log_error("loop %s: cannot enable io_uring: %s", loop->name, strerror(errno));
		return -errno;
	}
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
	int r = loop->enabled ? 0 : enable_ring(loop);

	if (r < 0)
		return r;
	while (!may_end(loop)) {
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

/*
 * The kernel takes the ring apart some 40 ms after its end, and until then would keep its files
 * open and their locks held. Only the ring's own thread may do it at once.
 */
static void release_files(struct loop *loop)
{
	if (loop->has_files)
		io_uring_unregister_files(&loop->ring);
	loop->has_files = false;
}

static void *loop_thread(void *arg)
{
	struct loop *loop = arg;

	loop_run(loop);
	release_files(loop);
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
	loop->enabled = false; /* the ring was that thread's */
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

static void log_ring_error(const char *name, int r)
{
	if (r == -EMFILE || r == -ENFILE)
		log_error("loop %s: no io_uring: %s%s", name, strerror(-r), fd_remedy(-r));
	else
		log_error("io_uring is not available: %s (Linux 5.19 or later is needed, and "
			  "sysctl kernel.io_uring_disabled=0; a container must allow it)",
			  strerror(-r));
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
	int r;

	if (!loop)
		return -ENOMEM;
	snprintf(loop->name, sizeof(loop->name), "%s", name);
	loop->deferred_tail = &loop->deferred;
	r = ring_init(&loop->ring);
	if (r < 0) {
		log_ring_error(name, r);
		goto err_free;
	}
	loop->has_files = io_uring_register_files_sparse(&loop->ring, LOOP_FILES) == 0;
	r = create_mailbox(loop);
	if (r < 0)
		goto err_ring;
	*out = loop;
	return 0;

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
	loop_workers_destroy(loop->workers);
	release_files(loop);
	io_uring_queue_exit(&loop->ring);
	loop_watches_finish(loop);
	close(loop->wake_fd);
	free(loop);
}
