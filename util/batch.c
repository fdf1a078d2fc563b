/* SPDX-License-Identifier: MIT */
/*
 * A ring of its own, whose submissions are linked: the kernel does one when the one before is
 * done, and cancels the rest of the chain if that failed. RWF_NOWAIT has none wait, so all is
 * over when the one io_uring_enter returns that handed them in.
 */
#include "util/batch.h"

#include <assert.h>
#include <errno.h>
#include <liburing.h>
#include <stdlib.h>

#include "util/util.h"

struct batch {
	struct io_uring uring;
	unsigned int count;        /* asked for */
	struct io_uring_sqe *last; /* of those */
};

int batch_create(struct batch **out)
{
	/* As for loops: 6.1, 6.0, 5.19. */
	static const unsigned int flags[] = {
		IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
		IORING_SETUP_SINGLE_ISSUER,
		0,
	};
	struct batch *batch = calloc(1, sizeof(*batch));
	int r = -EINVAL;

	if (!batch)
		return -ENOMEM;
	for (unsigned int i = 0; r == -EINVAL && i < ARRAY_LEN(flags); i++)
		r = io_uring_queue_init(BATCH_MAX, &batch->uring, flags[i]);
	if (r < 0) {
		free(batch);
		return r;
	}
	*out = batch;
	return 0;
}

void batch_destroy(struct batch *batch)
{
	if (!batch)
		return;
	io_uring_queue_exit(&batch->uring);
	free(batch);
}

void batch_writev(struct batch *batch, int fd, const struct iovec *iov, unsigned int iovcnt)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&batch->uring);

	assert(sqe);
	io_uring_prep_writev2(sqe, fd, iov, iovcnt, 0, RWF_NOWAIT);
	sqe->flags |= IOSQE_IO_LINK;
	sqe->user_data = batch->count++;
	batch->last = sqe;
}

/* Take what is done. How many; the first failure's place and reason go to *place and *error. */
static unsigned int reap(struct batch *batch, unsigned int *place, int *error)
{
	struct io_uring_cqe *cqe;
	unsigned int reaped = 0;

	for (; io_uring_peek_cqe(&batch->uring, &cqe) == 0; reaped++) {
		if (cqe->res < 0 && cqe->user_data < *place) {
			*place = (unsigned int)cqe->user_data;
			*error = cqe->res;
		}
		io_uring_cqe_seen(&batch->uring, cqe);
	}
	return reaped;
}

unsigned int batch_run(struct batch *batch, int *error)
{
	unsigned int left = batch->count, done = batch->count;

	if (batch->last)
		batch->last->flags &= (uint8_t)~IOSQE_IO_LINK;
	while (left) {
		int r = io_uring_submit_and_wait(&batch->uring, left);

		/* The ring is whole and ours: the kernel may be interrupted, or short of memory. */
		assert(r >= 0 || r == -EINTR || r == -EAGAIN || r == -EBUSY || r == -ENOMEM);
		left -= reap(batch, &done, error);
	}
	batch->count = 0;
	batch->last = NULL;
	return done;
}
