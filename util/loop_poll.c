/* SPDX-License-Identifier: MIT */
/*
 * The loop's engine where io_uring is forbidden, as in many containers: poll(2) for watches, of
 * which a loop has but a few, and threads beside the loop (loop_work.c) for file operations.
 *
 * An armed watch is one that the next turn polls for. A dead one is completed before the turn
 * polls, so nobody waits for a file that its owner may have closed.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "util/log.h"
#include "util/loop_impl.h"
#include "util/util.h"

/* Operations that block want more threads than there are processors. */
#define THREADS 8

struct polled {
	struct pollfd *fds;
	struct loop_watch **watches; /* of `fds`, and timers, whose fd is -1 */
	unsigned int capacity;
	struct file_io *free;
};

static struct polled *polled_of(struct loop *loop)
{
	return loop->engine_data;
}

/* --- file operations --- */

enum file_op { FILE_READ, FILE_WRITE, FILE_SYNC, FILE_ALLOCATE };

struct file_io {
	struct loop_work work;
	struct file_io *next; /* free list */
	struct loop_op *op;
	enum file_op kind;
	int fd, mode, res;
	const struct iovec *iov;
	unsigned int iovcnt;
	uint64_t offset, len;
};

/* Where a file knows no offset io_uring does without it, and so do these. */
static ssize_t read_file(const struct file_io *io)
{
	ssize_t res = preadv(io->fd, io->iov, (int)io->iovcnt, (off_t)io->offset);

	return res < 0 && errno == ESPIPE ? readv(io->fd, io->iov, (int)io->iovcnt) : res;
}

static ssize_t write_file(const struct file_io *io)
{
	ssize_t res = pwritev(io->fd, io->iov, (int)io->iovcnt, (off_t)io->offset);

	return res < 0 && errno == ESPIPE ? writev(io->fd, io->iov, (int)io->iovcnt) : res;
}

static ssize_t carry_out(const struct file_io *io)
{
	switch (io->kind) {
	case FILE_READ:
		return read_file(io);
	case FILE_WRITE:
		return write_file(io);
	case FILE_SYNC:
		return fdatasync(io->fd);
	case FILE_ALLOCATE:
		return fallocate(io->fd, io->mode, (off_t)io->offset, (off_t)io->len);
	}
	return -1;
}

static void io_run(struct loop_work *work)
{
	struct file_io *io = CONTAINER_OF(work, struct file_io, work);
	ssize_t res = carry_out(io);

	io->res = res < 0 ? -errno : (int)res;
}

static void io_done(struct loop_work *work)
{
	struct file_io *io = CONTAINER_OF(work, struct file_io, work);
	struct polled *polled = polled_of(work->loop);
	struct loop_op *op = io->op;
	int res = io->res;

	io->next = polled->free;
	polled->free = io;
	op->done(op, res);
}

static void start_io(struct loop *loop, struct file_io what)
{
	struct polled *polled = polled_of(loop);
	struct file_io *io = polled->free;

	if (io)
		polled->free = io->next;
	else
		io = malloc(sizeof(*io));
	if (!io)
		abort(); /* there is no way to say so, and no way on */
	*io = what;
	io->work.run = io_run;
	io->work.done = io_done;
	loop_work(loop, &io->work);
}

static void poll_readv(struct loop *loop, struct loop_op *op, const struct loop_file *file,
		       const struct iovec *iov, unsigned int iovcnt, uint64_t offset)
{
	start_io(loop, (struct file_io){.op = op, .kind = FILE_READ, .fd = file->fd, .iov = iov,
					.iovcnt = iovcnt, .offset = offset});
}

static void poll_writev(struct loop *loop, struct loop_op *op, const struct loop_file *file,
			const struct iovec *iov, unsigned int iovcnt, uint64_t offset)
{
	start_io(loop, (struct file_io){.op = op, .kind = FILE_WRITE, .fd = file->fd, .iov = iov,
					.iovcnt = iovcnt, .offset = offset});
}

static void poll_fdatasync(struct loop *loop, struct loop_op *op, const struct loop_file *file)
{
	start_io(loop, (struct file_io){.op = op, .kind = FILE_SYNC, .fd = file->fd});
}

static void poll_fallocate(struct loop *loop, struct loop_op *op, const struct loop_file *file,
			   int mode, uint64_t offset, uint64_t len)
{
	start_io(loop, (struct file_io){.op = op, .kind = FILE_ALLOCATE, .fd = file->fd,
					.mode = mode, .offset = offset, .len = len});
}

static void poll_file(struct loop *loop, struct loop_file *file)
{
}

/* --- watches --- */

static int64_t now_ms(void)
{
	return (int64_t)(monotonic_ns() / 1000000);
}

static void poll_arm(struct loop_watch *watch)
{
	if (watch->kind == WATCH_TIMER)
		watch->due_ms = now_ms() + (int64_t)watch->period_ms;
}

static void poll_disarm(struct loop_watch *watch)
{
}

static void complete_dead(struct loop *loop)
{
	struct loop_watch *watch, *next;

	for (watch = LIST_FIRST(&loop->watches); watch; watch = next) {
		next = LIST_NEXT(watch, entry);
		if (watch->armed && watch->dead)
			watch->op.done(&watch->op, -ECANCELED);
	}
}

static bool make_room(struct polled *polled, unsigned int count)
{
	struct loop_watch **watches;
	struct pollfd *fds;

	if (count <= polled->capacity)
		return true;
	fds = realloc(polled->fds, 2 * count * sizeof(*fds));
	if (fds)
		polled->fds = fds;
	watches = realloc(polled->watches, 2 * count * sizeof(*watches));
	if (watches)
		polled->watches = watches;
	if (fds && watches)
		polled->capacity = 2 * count;
	return fds && watches;
}

/* What is armed goes into the arrays; its number, or -ENOMEM. `timeout_ms` to the next timer. */
static int collect(struct loop *loop, int *timeout_ms)
{
	struct polled *polled = polled_of(loop);
	struct loop_watch *watch;
	unsigned int count = 0;

	LIST_FOREACH(watch, &loop->watches, entry) {
		if (!watch->armed)
			continue;
		if (!make_room(polled, count + 1))
			return -ENOMEM;
		polled->watches[count] = watch;
		polled->fds[count] = (struct pollfd){.fd = -1};
		if (watch->kind == WATCH_TIMER) {
			int64_t left = watch->due_ms - now_ms();

			left = MAX(left, 0);
			if (*timeout_ms < 0 || left < *timeout_ms)
				*timeout_ms = (int)MIN(left, INT32_MAX);
		} else {
			polled->fds[count].fd = watch->fd;
			polled->fds[count].events = watch->kind == WATCH_EVENT ? POLLIN
									       : watch->events;
		}
		count++;
	}
	return (int)count;
}

/* The result of a watch that fired, or -EAGAIN. */
static int result_of(struct loop_watch *watch, short revents)
{
	if (watch->kind == WATCH_TIMER)
		return now_ms() >= watch->due_ms ? -ETIME : -EAGAIN;
	if (!revents)
		return -EAGAIN;
	if (revents & POLLNVAL)
		return -EBADF;
	if (watch->kind == WATCH_READY)
		return revents;
	return read(watch->fd, &watch->count, sizeof(watch->count)) < 0 ? -errno : 0;
}

/* Look for what comes. False: it is time to sleep. */
static bool spin(struct loop *loop, unsigned int count)
{
	struct polled *polled = polled_of(loop);
	uint64_t until_ns;

	if (loop->awake_us <= 0)
		return false;
	until_ns = loop_now_ns(loop) + (uint64_t)loop->awake_us * 1000;
	do {
		if (looks_see(&loop->looks) || poll(polled->fds, count, 0) > 0)
			return true;
	} while (loop_now_ns(loop) < until_ns);
	return false;
}

static int poll_turn(struct loop *loop, bool wait)
{
	struct polled *polled = polled_of(loop);
	int timeout_ms = -1, count;

	complete_dead(loop);
	count = collect(loop, &timeout_ms);
	if (count >= 0 && wait)
		wait = !spin(loop, (unsigned int)count) && looks_may_sleep(&loop->looks);
	if (count >= 0 && poll(polled->fds, (nfds_t)count, wait ? timeout_ms : 0) < 0 &&
	    errno != EINTR)
		count = -errno;
	if (count < 0) {
		log_error("loop %s: poll: %s", loop->name, strerror(-count));
		return count;
	}
	/* None of these is freed meanwhile: armed ones are not, even when they are given up. */
	for (int i = 0; i < count; i++) {
		struct loop_watch *watch = polled->watches[i];
		int res = watch->dead ? -ECANCELED : result_of(watch, polled->fds[i].revents);

		if (res != -EAGAIN)
			watch->op.done(&watch->op, res);
	}
	return 0;
}

/* --- life --- */

static int poll_start(struct loop *loop)
{
	return 0;
}

static void poll_stop(struct loop *loop)
{
}

int loop_poll_create(struct loop *loop)
{
	struct polled *polled = calloc(1, sizeof(*polled));

	if (!polled)
		return -ENOMEM;
	loop->engine = &loop_poll_engine;
	loop->engine_data = polled;
	loop->workers_max = THREADS;
	return 0;
}

static void poll_destroy(struct loop *loop)
{
	struct polled *polled = polled_of(loop);
	struct file_io *io;

	while ((io = polled->free)) {
		polled->free = io->next;
		free(io);
	}
	free(polled->fds);
	free(polled->watches);
	free(polled);
}

const struct loop_engine loop_poll_engine = {
	.start = poll_start,
	.turn = poll_turn,
	.stop = poll_stop,
	.destroy = poll_destroy,
	.readv = poll_readv,
	.writev = poll_writev,
	.fdatasync = poll_fdatasync,
	.fallocate = poll_fallocate,
	.file_init = poll_file,
	.file_finish = poll_file,
	.arm = poll_arm,
	.disarm = poll_disarm,
};
