/* SPDX-License-Identifier: MIT */
/* Raw images and block devices: the guest's offset is the file's. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "block/impl.h"
#include "block/xfer.h"
#include "util/util.h"

struct raw {
	struct blk blk;
	bool can_punch;
	bool can_zero_range;
	bool told_failed;
};

/* In blk_req.priv */
struct raw_req {
	struct raw *raw;
	union {
		struct xfer xfer; /* read, write, zeroes written */
		struct loop_op op;
	};
};
_Static_assert(sizeof(struct raw_req) <= sizeof(((struct blk_req *)0)->priv), "raw_req too big");

static struct raw_req *to_raw_req(struct blk_req *req)
{
	return (struct raw_req *)&req->priv;
}

static void raw_finish(struct raw_req *r, int err)
{
	struct blk_req *req = CONTAINER_OF((void *)r, struct blk_req, priv);

	req->done(req, err);
}

static void raw_xfer_done(struct xfer *x, int err)
{
	raw_finish(CONTAINER_OF(x, struct raw_req, xfer), err);
}

static void raw_refused(struct loop_op *op, int res)
{
	raw_finish(CONTAINER_OF(op, struct raw_req, op), -EIO);
}

static void raw_nothing(struct loop_op *op, int res)
{
	raw_finish(CONTAINER_OF(op, struct raw_req, op), 0);
}

static void raw_defer(struct raw_req *r, void (*done)(struct loop_op *op, int res))
{
	r->op.done = done;
	r->raw->blk.bio->ops->defer(r->raw->blk.bio, &r->op);
}

static void raw_flushed(struct loop_op *op, int res)
{
	struct raw_req *r = CONTAINER_OF(op, struct raw_req, op);

	if (res < 0 && !r->raw->told_failed) {
		r->raw->told_failed = true;
		log_error("disk %s: sync failed: %s (written data may be lost; no more writes "
			  "are accepted)", r->raw->blk.name, strerror(-res));
	}
	raw_finish(r, res < 0 ? -EIO : 0);
}

static void raw_write_zeroes(struct raw_req *r, const struct blk_req *req)
{
	r->xfer.done = raw_xfer_done;
	xfer_zero(&r->xfer, r->raw->blk.bio, req->len_bytes, req->offset_bytes);
}

static bool unsupported(int err)
{
	return err == -EOPNOTSUPP || err == -ENOSYS || err == -EINVAL || err == -ENODEV;
}

/* EINVAL may be about this range only: it need not suit the blocks of the device. */
static bool never_supported(int err)
{
	return unsupported(err) && err != -EINVAL;
}

static void raw_discarded(struct loop_op *op, int res)
{
	struct raw_req *r = CONTAINER_OF(op, struct raw_req, op);

	if (never_supported(res))
		r->raw->can_punch = false; /* a discard is but a hint */
	raw_finish(r, unsupported(res) ? 0 : res);
}

static void raw_zeroed(struct loop_op *op, int res)
{
	struct raw_req *r = CONTAINER_OF(op, struct raw_req, op);
	struct blk_req *req = CONTAINER_OF((void *)r, struct blk_req, priv);

	if (!unsupported(res)) {
		raw_finish(r, res);
		return;
	}
	if (never_supported(res) && req->unmap)
		r->raw->can_punch = false;
	else if (never_supported(res))
		r->raw->can_zero_range = false;
	raw_write_zeroes(r, req);
}

static void raw_fallocate(struct raw_req *r, const struct blk_req *req, int mode,
			  void (*done)(struct loop_op *op, int res))
{
	struct bio *bio = r->raw->blk.bio;

	r->op.done = done;
	bio->ops->fallocate(bio, &r->op, mode | FALLOC_FL_KEEP_SIZE, req->offset_bytes,
			    req->len_bytes);
}

static void raw_submit_zeroes(struct raw_req *r, const struct blk_req *req)
{
	if (req->unmap && r->raw->can_punch)
		raw_fallocate(r, req, FALLOC_FL_PUNCH_HOLE, raw_zeroed);
	else if (!req->unmap && r->raw->can_zero_range)
		raw_fallocate(r, req, FALLOC_FL_ZERO_RANGE, raw_zeroed);
	else
		raw_write_zeroes(r, req);
}

static void raw_submit(struct blk *blk, struct blk_req *req)
{
	struct raw_req *r = to_raw_req(req);
	struct raw *raw = CONTAINER_OF(blk, struct raw, blk);

	r->raw = raw;
	if (blk->bio->flushing.err && req->op != BLK_READ) {
		raw_defer(r, raw_refused);
		return;
	}
	switch (req->op) {
	case BLK_READ:
		r->xfer.done = raw_xfer_done;
		xfer_read(&r->xfer, blk->bio, req->iov, req->iovcnt, req->len_bytes,
			  req->offset_bytes);
		break;
	case BLK_WRITE:
		r->xfer.done = raw_xfer_done;
		xfer_write(&r->xfer, blk->bio, req->iov, req->iovcnt, req->len_bytes,
			   req->offset_bytes);
		break;
	case BLK_FLUSH:
		r->op.done = raw_flushed;
		bio_flush(blk->bio, &r->op);
		break;
	case BLK_DISCARD:
		if (raw->can_punch)
			raw_fallocate(r, req, FALLOC_FL_PUNCH_HOLE, raw_discarded);
		else
			raw_defer(r, raw_nothing);
		break;
	case BLK_WRITE_ZEROES:
		raw_submit_zeroes(r, req);
		break;
	}
}

static int raw_map(struct blk *blk, uint64_t offset, uint64_t len, struct blk_extent *out)
{
	const struct bio_ops *ops = blk->bio->ops;
	bool is_hole = ops->is_hole && ops->is_hole(blk->bio, offset, &out->len_bytes);

	out->kind = is_hole ? BLK_EXTENT_ZERO : BLK_EXTENT_DATA;
	out->present = true;
	out->has_host = true;
	out->host_bytes = offset;
	return 0;
}

static int raw_flush_and_free(struct blk *blk)
{
	struct raw *raw = CONTAINER_OF(blk, struct raw, blk);
	int r = 0;

	if (!blk->info.readonly)
		r = bio_flush_sync(blk->bio);
	if (r < 0)
		log_error("disk %s: not all could be written: %s", blk->name, strerror(-r));
	blk_finish(blk);
	free(raw);
	return r;
}

static const struct blk_ops raw_ops = {
	.submit = raw_submit,
	.flush_and_free = raw_flush_and_free,
	.map = raw_map,
};

int raw_create(struct bio *bio, const char *name, bool readonly, struct blk **out)
{
	struct raw *raw;
	int r;

	if (!bio->size_bytes) {
		log_error("disk %s: empty (give it a size first: truncate -s 8G %s)", name, name);
		return -EINVAL;
	}
	raw = calloc(1, sizeof(*raw));
	if (!raw)
		return -ENOMEM;
	r = blk_init(&raw->blk, &raw_ops, bio, name);
	if (r < 0) {
		free(raw);
		return r;
	}
	raw->can_punch = true;
	raw->can_zero_range = true;
	raw->blk.info = (struct blk_info){
		.size_bytes = bio->is_device ? align_down(bio->size_bytes, 512)
					     : align_up(bio->size_bytes, 512),
		.block_bytes = 4096,
		.readonly = readonly,
		.can_discard = !readonly,
		.can_write_zeroes = !readonly,
		.format = "raw",
	};
	*out = &raw->blk;
	return 0;
}
