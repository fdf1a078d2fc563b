/* SPDX-License-Identifier: MIT */
/*
 * The loop's engine on io_uring.
 *
 * Everything is a submission whose user data is a struct loop_op; a turn submits what the last
 * one produced and waits, in one system call, and then runs done() of every completion at hand.
 * Where these produce many, the first are on their way before the last are made.
 * Completions without an op belong to cancel requests and are ignored. Watches are submissions
 * like any other, made again by loop_watch.c after each completion.
 *
 * Where events follow one another closely, sleeping and being woken takes longer than they do. So
 * a turn that would sleep first looks for a while (spin), at what the loop looks for, too: for as
 * long as it might have taken to find what ended the last sleep, and not at all after a long one.
 * Looking for long is for processors that nobody else wants: a guest's frames would starve the very
 * process they are for. Where others do, a turn sleeps instead, or naps between looks.
 *
 * The ring is created disabled and enabled by the thread that runs it (SINGLE_ISSUER: the
 * kernel then refuses every other submitter).
 */
#include <assert.h>
#include <errno.h>
#include <liburing.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "util/crowd.h"
#include "util/log.h"
#include "util/loop_impl.h"
#include "util/util.h"

#define DEPTH 256
#define FILES 64

/* A device works on the first of many while the others are still being prepared. A turn that
 * keeps all of them to its end lets it idle meanwhile: a tenth of its requests per second. */
#define SUBMIT_AT 4

/* A wake-up takes some 10 us, several times that in a virtual machine. What it costs who wakes us
 * comes on top: to look for 24 times as long is no great loss if it was in vain. Far less would
 * keep itself asleep: who has to wake us each time comes back that much later. */
#define SPIN_NS 32000u
#define SPIN_WAKES 24
#define SPIN_MAX_NS 2000000u
#define NAP_WAKES 2

struct ring {
	struct io_uring uring;
	bool files[FILES]; /* slots in use */
	bool has_files;
	bool may_spin;       /* somebody else can go on meanwhile */
	unsigned int spin_ns; /* how long before it sleeps */
	struct crowd crowd;
};

static struct ring *ring_of(const struct loop *loop)
{
	return loop->engine_data;
}

/* --- submission --- */

/* A free submission; what was queued before is submitted if there was none, or enough. */
static struct io_uring_sqe *get_sqe(struct loop *loop)
{
	struct io_uring *uring = &ring_of(loop)->uring;
	struct io_uring_sqe *sqe;

	if (loop->enabled && io_uring_sq_ready(uring) >= SUBMIT_AT)
		io_uring_submit(uring);
	while (!(sqe = io_uring_get_sqe(uring))) {
		assert(loop->enabled); /* loop.h: so many operations, no more, before it runs */
		io_uring_submit(uring);
	}
	return sqe;
}

static void set_file(struct loop *loop, struct io_uring_sqe *sqe, struct loop_op *op,
		     const struct loop_file *file)
{
	io_uring_sqe_set_data(sqe, op);
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

static void ring_readv(struct loop *loop, struct loop_op *op, const struct loop_file *file,
		       const struct iovec *iov, unsigned int iovcnt, uint64_t offset)
{
	struct io_uring_sqe *sqe = get_sqe(loop);

	/* One buffer needs no import of an iovec array. */
	if (iovcnt == 1)
		io_uring_prep_read(sqe, file->fd, iov->iov_base,
				   (unsigned int)MIN(iov->iov_len, 1u << 30), file_offset(offset));
	else
		io_uring_prep_readv(sqe, file->fd, iov, iovcnt, file_offset(offset));
	set_file(loop, sqe, op, file);
}

static void ring_writev(struct loop *loop, struct loop_op *op, const struct loop_file *file,
			const struct iovec *iov, unsigned int iovcnt, uint64_t offset)
{
	struct io_uring_sqe *sqe = get_sqe(loop);

	if (iovcnt == 1)
		io_uring_prep_write(sqe, file->fd, iov->iov_base,
				    (unsigned int)MIN(iov->iov_len, 1u << 30), file_offset(offset));
	else
		io_uring_prep_writev(sqe, file->fd, iov, iovcnt, file_offset(offset));
	set_file(loop, sqe, op, file);
}

static void ring_fdatasync(struct loop *loop, struct loop_op *op, const struct loop_file *file)
{
	struct io_uring_sqe *sqe = get_sqe(loop);

	io_uring_prep_fsync(sqe, file->fd, IORING_FSYNC_DATASYNC);
	set_file(loop, sqe, op, file);
}

static void ring_fallocate(struct loop *loop, struct loop_op *op, const struct loop_file *file,
			   int mode, uint64_t offset, uint64_t len)
{
	struct io_uring_sqe *sqe = get_sqe(loop);

	io_uring_prep_fallocate(sqe, file->fd, mode, (off_t)offset, (off_t)len);
	set_file(loop, sqe, op, file);
}

/* --- registered files --- */

static void ring_file_init(struct loop *loop, struct loop_file *file)
{
	struct ring *ring = ring_of(loop);

	for (unsigned int slot = 0; ring->has_files && slot < FILES; slot++) {
		if (ring->files[slot])
			continue;
		if (io_uring_register_files_update(&ring->uring, slot, &file->fd, 1) != 1)
			return; /* works without, a little slower */
		ring->files[slot] = true;
		file->slot = (int)slot;
		return;
	}
}

static void ring_file_finish(struct loop *loop, struct loop_file *file)
{
	struct ring *ring = ring_of(loop);
	int none = -1;

	/* Once the loop's thread is gone its files are released already. */
	if (file->slot < 0 || !ring->has_files)
		return;
	if (io_uring_register_files_update(&ring->uring, (unsigned int)file->slot, &none, 1) == 1)
		ring->files[file->slot] = false;
	file->slot = -1;
}

/*
 * The kernel takes the ring apart some 40 ms after its end, and until then would keep its files
 * open and their locks held. Only the ring's own thread may do it at once.
 */
static void ring_stop(struct loop *loop)
{
	struct ring *ring = ring_of(loop);

	if (ring->has_files)
		io_uring_unregister_files(&ring->uring);
	ring->has_files = false;
}

/* --- watches --- */

static void ring_arm(struct loop_watch *watch)
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
		watch->timeout.tv_sec = (long long)(watch->period_ms / 1000);
		watch->timeout.tv_nsec = (long long)(watch->period_ms % 1000) * 1000000;
		io_uring_prep_timeout(sqe, &watch->timeout, 0, 0);
		break;
	}
	io_uring_sqe_set_data(sqe, &watch->op);
}

static void ring_disarm(struct loop_watch *watch)
{
	struct io_uring_sqe *sqe = get_sqe(watch->loop);

	if (watch->kind == WATCH_TIMER)
		io_uring_prep_timeout_remove(sqe, (uintptr_t)&watch->op, 0);
	else
		io_uring_prep_cancel(sqe, &watch->op, 0);
	io_uring_sqe_set_data(sqe, NULL);
	/* The kernel must see what was armed before the caller closes the fd, or the old wait
	 * would take the event of the next file with its number. */
	io_uring_submit(&ring_of(watch->loop)->uring);
}

/* --- turns --- */

static void run_completions(struct loop *loop)
{
	struct io_uring *uring = &ring_of(loop)->uring;
	struct io_uring_cqe *cqe;

	while (io_uring_peek_cqe(uring, &cqe) == 0) {
		struct loop_op *op = io_uring_cqe_get_data(cqe);
		int res = cqe->res;

		io_uring_cqe_seen(uring, cqe);
		if (!op)
			continue;
		if (!loop_op_is_watch(op))
			loop->in_flight--;
		op->done(op, res);
	}
}

/* Is there a completion, or one that the kernel keeps until it is asked (DEFER_TASKRUN)? */
static bool has_events(struct io_uring *uring)
{
	return io_uring_cq_ready(uring) ||
	       (IO_URING_READ_ONCE(*uring->sq.kflags) & IORING_SQ_TASKRUN);
}

/* False: nothing came until then. */
static bool look_until(struct loop *loop, uint64_t until_ns)
{
	struct io_uring *uring = &ring_of(loop)->uring;

	while (!has_events(uring) && !looks_see(&loop->looks)) {
		if (loop_now_ns(loop) >= until_ns)
			return false;
		__builtin_ia32_pause();
	}
	return true;
}

/* The same, but leaves the processor to others in between. */
static bool nap_until(struct loop *loop, uint64_t until_ns)
{
	struct io_uring *uring = &ring_of(loop)->uring;
	struct __kernel_timespec nap = {.tv_nsec = NAP_WAKES * (long long)loop->wake_ns};
	struct io_uring_cqe *cqe;

	while (!has_events(uring) && !looks_see(&loop->looks)) {
		if (loop_now_ns(loop) >= until_ns)
			return false;
		io_uring_wait_cqe_timeout(uring, &cqe, &nap);
	}
	return true;
}

/* Hand in what there is and look for what comes. False: it is time to sleep. */
static bool spin(struct loop *loop, uint64_t start_ns, uint64_t spin_ns)
{
	struct ring *ring = ring_of(loop);
	bool asked_to = loop->awake_us >= 0;

	io_uring_submit(&ring->uring);
	if (look_until(loop, start_ns + (asked_to ? spin_ns : MIN(spin_ns, SPIN_NS))))
		return true;
	if (asked_to || spin_ns <= SPIN_NS)
		return false;
	if (!crowd_is(&ring->crowd, start_ns))
		return look_until(loop, start_ns + spin_ns);
	return loop->may_nap && !LIST_EMPTY(&loop->looks) && nap_until(loop, start_ns + spin_ns);
}

static uint64_t awake_ns(const struct loop *loop)
{
	return loop->awake_us >= 0 ? (uint64_t)loop->awake_us * 1000 : ring_of(loop)->spin_ns;
}

static unsigned int spin_max_ns(const struct loop *loop)
{
	return MAX(SPIN_NS, MIN(loop->wake_ns, SPIN_MAX_NS / SPIN_WAKES) * SPIN_WAKES);
}

static void adapt(struct loop *loop, uint64_t slept_ns)
{
	unsigned int *spin_ns = &ring_of(loop)->spin_ns, max_ns = spin_max_ns(loop);

	if (slept_ns > max_ns)
		*spin_ns = 0;
	else
		*spin_ns = MIN(MAX(2 * *spin_ns, max_ns / 8), max_ns);
}

static int submit_and_wait(struct loop *loop)
{
	struct ring *ring = ring_of(loop);
	uint64_t start_ns = loop_now_ns(loop), spin_ns = awake_ns(loop);
	int r;

	/* What the kernel keeps, io_uring_peek_cqe asks for. */
	if (spin_ns && spin(loop, start_ns, spin_ns))
		return 0;
	if (!looks_may_sleep(&loop->looks))
		return io_uring_submit_and_get_events(&ring->uring);
	r = io_uring_submit_and_wait(&ring->uring, 1);
	if (ring->may_spin)
		adapt(loop, loop_now_ns(loop) - start_ns);
	return r;
}

static int ring_turn(struct loop *loop, bool wait)
{
	struct io_uring *uring = &ring_of(loop)->uring;
	int r = wait ? submit_and_wait(loop) : io_uring_submit_and_get_events(uring);

	if (r < 0 && r != -EINTR && r != -EAGAIN && r != -EBUSY) {
		log_error("loop %s: io_uring: %s", loop->name, strerror(-r));
		return r;
	}
	run_completions(loop);
	return 0;
}

/* liburing 2.3 declares io_uring_enable_rings, but its library has it not. */
static int ring_start(struct loop *loop)
{
	long r = syscall(SYS_io_uring_register, ring_of(loop)->uring.ring_fd,
			 IORING_REGISTER_ENABLE_RINGS, NULL, 0);

	if (r == 0)
		return 0;
	log_error("loop %s: cannot enable io_uring: %s", loop->name, strerror(errno));
	return -errno;
}

/* --- life --- */

int loop_ring_create(struct loop *loop)
{
	/* The best this kernel knows: 6.1, 6.0, 5.19. */
	static const unsigned int flags[] = {
		IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
		IORING_SETUP_SINGLE_ISSUER,
		0,
	};
	struct ring *ring = calloc(1, sizeof(*ring));
	int r = -EINVAL;

	if (!ring)
		return -ENOMEM;
	for (unsigned int i = 0; r == -EINVAL && i < ARRAY_LEN(flags); i++)
		r = io_uring_queue_init(DEPTH, &ring->uring, flags[i] | IORING_SETUP_R_DISABLED);
	if (r < 0) {
		free(ring);
		return r;
	}
	crowd_init(&ring->crowd);
	ring->may_spin = processors_allowed() > 1;
	ring->has_files = io_uring_register_files_sparse(&ring->uring, FILES) == 0;
	loop->engine = &loop_ring_engine;
	loop->engine_data = ring;
	return 0;
}

static void ring_destroy(struct loop *loop)
{
	ring_stop(loop);
	io_uring_queue_exit(&ring_of(loop)->uring);
	crowd_finish(&ring_of(loop)->crowd);
	free(ring_of(loop));
}

const struct loop_engine loop_ring_engine = {
	.start = ring_start,
	.turn = ring_turn,
	.stop = ring_stop,
	.destroy = ring_destroy,
	.readv = ring_readv,
	.writev = ring_writev,
	.fdatasync = ring_fdatasync,
	.fallocate = ring_fallocate,
	.file_init = ring_file_init,
	.file_finish = ring_file_finish,
	.arm = ring_arm,
	.disarm = ring_disarm,
};
