/* SPDX-License-Identifier: MIT */
#include "block/xfer.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "util/util.h"

#define BOUNCE_BYTES KIB(256)

/* Never written to: as .bss it costs neither file nor memory. */
static unsigned char zeroes[ZERO_BLOCK_BYTES] __attribute__((aligned(4096)));

void *zero_block(void)
{
	return zeroes;
}

/* Make `part` the memory at the cursor; its length, 0 at the end. */
static size_t xfer_here(struct xfer *x)
{
	while (!x->part.iov_len && x->iovcnt) {
		x->part = *x->iov++;
		x->iovcnt--;
	}
	return x->part.iov_len;
}

static void xfer_step(struct xfer *x, size_t n)
{
	size_t here;

	while (n && (here = xfer_here(x))) {
		here = MIN(here, n);
		x->part.iov_base = (char *)x->part.iov_base + here;
		x->part.iov_len -= here;
		n -= here;
	}
}

/* Between the bounce buffer and the memory at the cursor, which moves on. */
static void xfer_copy(struct xfer *x, size_t n)
{
	char *bounce = x->bounce;
	size_t here;

	while (n && (here = xfer_here(x))) {
		here = MIN(here, n);
		if (x->kind == XFER_READ)
			memcpy(x->part.iov_base, bounce, here);
		else
			memcpy(bounce, x->part.iov_base, here);
		xfer_step(x, here);
		bounce += here;
		n -= here;
	}
}

static void xfer_finish(struct xfer *x, int err)
{
	free(x->bounce);
	x->bounce = NULL;
	x->done(x, err);
}

static void xfer_fill_bounce(struct xfer *x)
{
	x->one.iov_base = x->bounce;
	x->one.iov_len = MIN(x->left, BOUNCE_BYTES);
	if (x->kind == XFER_WRITE)
		xfer_copy(x, x->one.iov_len);
}

static void xfer_submit(struct xfer *x)
{
	const struct iovec *iov = &x->one;
	unsigned int iovcnt = 1;

	if (x->kind == XFER_ZERO) {
		x->one.iov_base = zeroes;
		x->one.iov_len = MIN(x->left, sizeof(zeroes));
	} else if (x->bounce) {
		if (!x->one.iov_len)
			xfer_fill_bounce(x);
	} else if (x->part.iov_len) {
		iov = &x->part;
	} else {
		iov = x->iov;
		iovcnt = MIN(x->iovcnt, (unsigned int)IOV_MAX);
	}
	if (x->kind == XFER_READ)
		x->bio->ops->readv(x->bio, &x->op, iov, iovcnt, x->offset);
	else
		x->bio->ops->writev(x->bio, &x->op, iov, iovcnt, x->offset);
}

/* The file ended: the rest reads as zero. */
static void xfer_past_end(struct xfer *x)
{
	size_t here;

	while (x->left && (here = xfer_here(x))) {
		here = MIN(here, x->left);
		memset(x->part.iov_base, 0, here);
		xfer_step(x, here);
		x->left -= here;
	}
	xfer_finish(x, 0);
}

static void xfer_advance(struct xfer *x, size_t n)
{
	x->offset += n;
	x->left -= n;
	if (x->kind == XFER_ZERO)
		return;
	if (!x->bounce) {
		xfer_step(x, n);
	} else if (x->kind == XFER_READ) {
		xfer_copy(x, n);
		x->one.iov_len = 0;
	} else {
		x->one.iov_base = (char *)x->one.iov_base + n;
		x->one.iov_len -= n;
	}
}

static void xfer_op_done(struct loop_op *op, int res)
{
	struct xfer *x = CONTAINER_OF(op, struct xfer, op);
	size_t n = (size_t)res;
	if (res == -EINTR || res == -EAGAIN) {
		xfer_submit(x);
		return;
	}
	if (res < 0 || (res == 0 && x->kind != XFER_READ)) {
		xfer_finish(x, res < 0 ? res : -EIO);
		return;
	}
	n = MIN(n, x->left);
	xfer_advance(x, n);
	if (!x->left)
		xfer_finish(x, 0);
	else if (x->kind == XFER_READ && (n == 0 || n % x->bio->io_align))
		xfer_past_end(x); /* direct I/O falls short of a block only at the end */
	else
		xfer_submit(x);
}

/* O_DIRECT: every element on its own must suit the device. */
static bool suits(const struct bio *bio, const struct iovec *iov)
{
	return !((uintptr_t)iov->iov_base % bio->mem_align || iov->iov_len % bio->io_align);
}

static bool needs_bounce(const struct xfer *x)
{
	if (x->bio->io_align <= 1)
		return false;
	if (x->part.iov_len && !suits(x->bio, &x->part))
		return true;
	for (unsigned int i = 0; i < x->iovcnt; i++) {
		if (!suits(x->bio, &x->iov[i]))
			return true;
	}
	return false;
}

/* A failure found at once is reported like any other: later. */
static void xfer_no_memory(struct loop_op *op, int res)
{
	xfer_finish(CONTAINER_OF(op, struct xfer, op), -ENOMEM);
}

static void xfer_start(struct xfer *x, struct bio *bio, enum xfer_kind kind, uint64_t len,
		       uint64_t offset)
{
	x->op.done = xfer_op_done;
	x->bio = bio;
	x->kind = kind;
	x->offset = offset;
	x->left = len;
	x->one.iov_len = 0;
	x->bounce = NULL;
	if (needs_bounce(x)) {
		x->bounce = aligned_alloc(4096, align_up(MIN(len, BOUNCE_BYTES), 4096));
		if (!x->bounce) {
			x->op.done = xfer_no_memory;
			bio->ops->defer(bio, &x->op);
			return;
		}
	}
	xfer_submit(x);
}

static void xfer_iov(struct xfer *x, const struct iovec *iov, unsigned int iovcnt)
{
	x->iov = iov;
	x->iovcnt = iovcnt;
	x->part.iov_len = 0;
}

void xfer_read(struct xfer *x, struct bio *bio, const struct iovec *iov, unsigned int iovcnt,
	       uint64_t len, uint64_t offset)
{
	xfer_iov(x, iov, iovcnt);
	xfer_start(x, bio, XFER_READ, len, offset);
}

void xfer_write(struct xfer *x, struct bio *bio, const struct iovec *iov, unsigned int iovcnt,
		uint64_t len, uint64_t offset)
{
	xfer_iov(x, iov, iovcnt);
	xfer_start(x, bio, XFER_WRITE, len, offset);
}

void xfer_zero(struct xfer *x, struct bio *bio, uint64_t len, uint64_t offset)
{
	xfer_iov(x, NULL, 0);
	xfer_start(x, bio, XFER_ZERO, len, offset);
}

/* One buffer: `part` takes the place of the array. */
static void xfer_buf(struct xfer *x, void *buf, uint64_t len)
{
	xfer_iov(x, NULL, 0);
	x->part.iov_base = buf;
	x->part.iov_len = len;
}

void xfer_read_buf(struct xfer *x, struct bio *bio, void *buf, uint64_t len, uint64_t offset)
{
	xfer_buf(x, buf, len);
	xfer_start(x, bio, XFER_READ, len, offset);
}

void xfer_write_buf(struct xfer *x, struct bio *bio, const void *buf, uint64_t len,
		    uint64_t offset)
{
	xfer_buf(x, (void *)(uintptr_t)buf, len);
	xfer_start(x, bio, XFER_WRITE, len, offset);
}

/* --- synchronously --- */

struct sync_wait {
	struct xfer xfer;
	struct loop_op op;
	int err;
};

static void sync_xfer_done(struct xfer *x, int err)
{
	CONTAINER_OF(x, struct sync_wait, xfer)->err = err;
}

static void sync_op_done(struct loop_op *op, int res)
{
	CONTAINER_OF(op, struct sync_wait, op)->err = res;
}

int bio_read_sync(struct bio *bio, void *buf, uint64_t len, uint64_t offset)
{
	struct sync_wait wait = {.xfer.done = sync_xfer_done, .err = -EIO};

	if (!len)
		return 0;
	bio->ops->begin_sync(bio);
	xfer_read_buf(&wait.xfer, bio, buf, len, offset);
	bio->ops->run_sync(bio);
	return wait.err;
}

int bio_write_sync(struct bio *bio, const void *buf, uint64_t len, uint64_t offset)
{
	struct sync_wait wait = {.xfer.done = sync_xfer_done, .err = -EIO};

	if (!len)
		return 0;
	bio->ops->begin_sync(bio);
	xfer_write_buf(&wait.xfer, bio, buf, len, offset);
	bio->ops->run_sync(bio);
	return wait.err;
}

int bio_flush_sync(struct bio *bio)
{
	struct sync_wait wait = {.op.done = sync_op_done, .err = -EIO};

	bio->ops->begin_sync(bio);
	bio_flush(bio, &wait.op);
	bio->ops->run_sync(bio);
	return wait.err;
}
