/* SPDX-License-Identifier: MIT */
/*
 * Requests. A request goes forward step by step: each step maps what lies at `pos`, starts a
 * piece of I/O for it or does what needs none, and moves on. Where a step has to wait for
 * metadata, clusters or another request, it parks, having changed nothing, and is tried again.
 * The request is done when `pos` is at its end and its last piece is.
 */
#include <errno.h>
#include <string.h>

#include "block/qcow2/impl.h"
#include "util/util.h"

#define PIECES_MAX 32 /* of one request at a time */

struct blk_req *q2_blk_req(struct q2_req *r)
{
	return CONTAINER_OF((void *)r, struct blk_req, priv);
}

/* --- the end of a request --- */

static void req_end(struct q2_req *r)
{
	struct blk_req *req = q2_blk_req(r);

	req->done(req, r->err); /* may submit another */
}

static void req_end_later(struct loop_op *op, int res)
{
	req_end(CONTAINER_OF(op, struct q2_req, op));
}

void q2_req_finish(struct q2_req *r, int err)
{
	r->err = err;
	if (!r->submitting) {
		req_end(r);
		return;
	}
	r->op.done = req_end_later;
	r->q->blk.bio->ops->defer(r->q->blk.bio, &r->op);
}

/* --- mapping --- */

static int extent_kind(const struct qcow2 *q, uint64_t entry)
{
	if (entry & QCOW2_COMPRESSED)
		return Q2_EXTENT_COMPRESSED;
	if (q->header.version >= 3 && (entry & QCOW2_ZERO))
		return Q2_EXTENT_ZERO;
	if (entry & q->allocated)
		return Q2_EXTENT_DATA;
	return q->backing ? Q2_EXTENT_BACKING : Q2_EXTENT_ZERO;
}

/* Behind the end of the backing file there are zeroes. */
static void limit_to_backing(const struct qcow2 *q, uint64_t offset, struct q2_extent *out)
{
	if (out->kind != Q2_EXTENT_BACKING)
		return;
	if (offset >= q->backing_bytes)
		out->kind = Q2_EXTENT_ZERO;
	else
		out->len = MIN(out->len, q->backing_bytes - offset);
}

/* Entries from `at` on that belong together, at most `max`. */
static uint64_t count_alike(const struct qcow2 *q, const struct q2_slice *slice, uint64_t at,
			    uint64_t max, const struct q2_extent *extent)
{
	uint64_t n = 1;

	if (extent->kind == Q2_EXTENT_COMPRESSED)
		return 1;
	for (; n < max; n++) {
		uint64_t entry = be64toh(slice->l2[at + n]);

		if (extent_kind(q, entry) != (int)extent->kind)
			break;
		if (extent->kind == Q2_EXTENT_DATA &&
		    (entry & QCOW2_OFFSET) != extent->host + (n << q->cluster_bits))
			break;
	}
	return n;
}

int q2_map(struct qcow2 *q, uint64_t offset, uint64_t len, struct q2_wait *wait,
	   struct q2_extent *out)
{
	uint64_t guest = offset >> q->cluster_bits, skip = offset & (q->cluster_bytes - 1);
	uint64_t table = guest >> q->l2_bits, entry, at, clusters;
	struct q2_slice *slice;
	int r;

	if (q->data_raw) {
		*out = (struct q2_extent){.kind = Q2_EXTENT_DATA, .host = offset, .len = len};
		return 0;
	}
	if (!(q2_l1_entry(q, table) & QCOW2_OFFSET)) {
		uint64_t end = (table + 1) << q->l2_bits << q->cluster_bits;

		*out = (struct q2_extent){.kind = (unsigned int)extent_kind(q, 0),
					  .len = MIN(len, end - offset)};
		limit_to_backing(q, offset, out);
		return 0;
	}
	r = q2_slice_get(q, Q2_L2, guest >> q->slice_bits, wait, &slice);
	if (r)
		return r;
	at = guest & ((1u << q->slice_bits) - 1);
	entry = be64toh(slice->l2[at]);
	out->kind = (unsigned int)extent_kind(q, entry);
	out->entry = entry;
	out->host = entry & QCOW2_OFFSET;
	clusters = MIN((skip + len + q->cluster_bytes - 1) >> q->cluster_bits,
		       (1u << q->slice_bits) - at);
	clusters = count_alike(q, slice, at, clusters, out);
	out->len = MIN(len, (clusters << q->cluster_bits) - skip);
	if (out->kind == Q2_EXTENT_DATA &&
	    !q2_data_valid(q, guest, out->host, clusters << q->cluster_bits))
		return q2_corrupt(q, "a cluster out of place", out->host);
	out->host += skip;
	limit_to_backing(q, offset, out);
	return 0;
}

/* --- reading --- */

static void read_done(struct xfer *xfer, int err)
{
	q2_piece_put(CONTAINER_OF(xfer, struct q2_piece, xfer), err);
}

/* `len` bytes from memory, or zeroes where `data` is NULL. */
static void read_memory(struct q2_req *r, const unsigned char *data, uint64_t len)
{
	const struct iovec *iov = q2_blk_req(r)->iov;

	while (len) {
		const struct iovec *here = &iov[r->iov_index];
		size_t n = MIN(len, here->iov_len - r->iov_skip);
		char *to = (char *)here->iov_base + r->iov_skip;

		if (data) {
			memcpy(to, data, n);
			data += n;
		} else {
			memset(to, 0, n);
		}
		q2_req_advance(r, n);
		len -= n;
		if (!n) { /* an empty element */
			r->iov_index++;
			r->iov_skip = 0;
		}
	}
}

static int read_data(struct q2_req *r, const struct q2_extent *extent)
{
	const struct blk_req *req = q2_blk_req(r);
	struct q2_piece *piece = q2_piece_get(r, Q2_PIECE_IO);
	const struct iovec *iov = req->iov;
	unsigned int iovcnt = req->iovcnt;

	if (!piece)
		return -ENOMEM;
	if (extent->len != req->len_bytes) {
		if (q2_piece_gather(piece, extent->len) < 0) {
			q2_piece_put(piece, -ENOMEM);
			return -ENOMEM;
		}
		iov = piece->iov;
		iovcnt = piece->iovcnt;
	}
	q2_req_advance(r, extent->len);
	piece->xfer.done = read_done;
	xfer_read(&piece->xfer, r->q->data_bio, iov, iovcnt, extent->len, extent->host);
	return 0;
}

static int read_compressed(struct q2_req *r, const struct q2_extent *extent)
{
	const struct blk_req *req = q2_blk_req(r);
	struct qcow2 *q = r->q;
	uint64_t offset = req->offset_bytes + r->pos, left = req->len_bytes - r->pos;
	uint64_t skip = offset & (q->cluster_bytes - 1), guest = offset >> q->cluster_bits;
	const unsigned char *data;
	int err;

	q2_unpack_ahead(q, guest, (skip + left + q->cluster_bytes - 1) >> q->cluster_bits);
	err = q2_unpack_get(q, guest, extent->entry, &r->wait, &data);
	if (!err)
		read_memory(r, data + skip, extent->len);
	return err;
}

static void below_done(struct blk_req *below, int err)
{
	q2_piece_put(CONTAINER_OF(below, struct q2_piece, below), err);
}

void q2_read_backing(struct q2_piece *piece, uint64_t offset, uint64_t len,
		     const struct iovec *iov, unsigned int iovcnt)
{
	struct blk_req *below = &piece->below;

	below->op = BLK_READ;
	below->offset_bytes = offset;
	below->len_bytes = len;
	below->iov = iov;
	below->iovcnt = iovcnt;
	blk_submit(piece->r->q->backing, below);
}

static int read_backing(struct q2_req *r, const struct q2_extent *extent)
{
	uint64_t offset = q2_blk_req(r)->offset_bytes + r->pos;
	struct q2_piece *piece = q2_piece_get(r, Q2_PIECE_IO);

	if (!piece)
		return -ENOMEM;
	if (q2_piece_gather(piece, extent->len) < 0) {
		q2_piece_put(piece, -ENOMEM);
		return -ENOMEM;
	}
	q2_req_advance(r, extent->len);
	piece->below.done = below_done;
	q2_read_backing(piece, offset, extent->len, piece->iov, piece->iovcnt);
	return 0;
}

static int read_step(struct q2_req *r)
{
	const struct blk_req *req = q2_blk_req(r);
	struct qcow2 *q = r->q;
	struct q2_extent extent;
	int err;

	err = q2_map(q, req->offset_bytes + r->pos, req->len_bytes - r->pos, &r->wait, &extent);
	if (err)
		return err;
	switch (extent.kind) {
	case Q2_EXTENT_ZERO:
		read_memory(r, NULL, extent.len);
		return 0;
	case Q2_EXTENT_DATA:
		return read_data(r, &extent);
	case Q2_EXTENT_COMPRESSED:
		return read_compressed(r, &extent);
	case Q2_EXTENT_BACKING:
		return read_backing(r, &extent);
	}
	return -EIO;
}

/* --- running --- */

static int req_step(struct q2_req *r)
{
	const struct blk_req *req = q2_blk_req(r);
	struct qcow2 *q = r->q;

	if (req->op == BLK_READ)
		return read_step(r);
	if (q->failed || q->corrupt)
		return -EIO;
	if (req->op == BLK_WRITE)
		return q2_write_step(r, req->len_bytes - r->pos);
	return q2_zero_step(r);
}

void q2_req_run(struct q2_req *r)
{
	uint64_t len = q2_blk_req(r)->len_bytes;
	int err = 0;

	r->pieces++; /* so that it does not end while we are at it */
	while (!err && r->pos < len && !r->err) {
		if (r->pieces > PIECES_MAX) {
			r->stalled = true; /* keeps our count until it goes on */
			return;
		}
		err = req_step(r);
	}
	if (err == Q2_PARKED)
		return; /* so does the waiting */
	if (err && !r->err)
		r->err = err;
	if (--r->pieces == 0)
		q2_req_finish(r, r->err);
}

static void req_wake(struct q2_wait *wait, int err)
{
	struct q2_req *r = CONTAINER_OF(wait, struct q2_req, wait);

	if (err && !r->err)
		r->err = err;
	r->pieces--; /* what parking held */
	q2_req_run(r);
}

static void flush_wake(struct q2_wait *wait, int err)
{
	q2_req_finish(CONTAINER_OF(wait, struct q2_req, wait), err);
}

static void submit_flush(struct qcow2 *q, struct q2_req *r)
{
	if (q->failed) {
		q2_req_finish(r, -EIO);
		return;
	}
	r->wait.wake = flush_wake;
	q2_waitq_add(&q->flushes, &r->wait);
	q2_commit_kick(q);
}

void q2_submit(struct blk *blk, struct blk_req *req)
{
	struct qcow2 *q = CONTAINER_OF(blk, struct qcow2, blk);
	struct q2_req *r = (struct q2_req *)&req->priv;

	*r = (struct q2_req){.q = q, .submitting = true};
	if (req->op == BLK_FLUSH) {
		submit_flush(q, r);
	} else {
		r->wait.wake = req_wake;
		q2_req_run(r);
	}
	r->submitting = false; /* it can not be gone: it never ends within */
}
