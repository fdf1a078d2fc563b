/* SPDX-License-Identifier: MIT */
/* What all formats have in common. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/bio.h"
#include "block/impl.h"
#include "block/snapshot.h"
#include "util/util.h"

#define SECTOR 512

/* --- base --- */

int blk_init(struct blk *blk, const struct blk_ops *ops, struct bio *bio, const char *name)
{
	blk->name = strdup(name);
	if (!blk->name)
		return -ENOMEM;
	blk->ops = ops;
	blk->bio = bio;
	return 0;
}

void blk_finish(struct blk *blk)
{
	bio_destroy(blk->bio);
	free(blk->name);
}

int blk_close(struct blk *blk)
{
	struct snapshot *snapshot;
	int r;

	if (!blk)
		return 0;
	snapshot = blk->snapshot;
	r = blk->ops->flush_and_free(blk);
	snapshot_finish(snapshot);
	return r;
}

const struct blk_info *blk_info(const struct blk *blk)
{
	return &blk->info;
}

int blk_map(struct blk *blk, uint64_t offset, uint64_t len, struct blk_extent *out)
{
	if (!len || !range_fits(offset, len, blk->info.size_bytes))
		return -EINVAL;
	if (!blk->ops->map)
		return -ENOTSUP;
	*out = (struct blk_extent){.len_bytes = len, .file = blk->name};
	return blk->ops->map(blk, offset, len, out);
}

/* --- requests --- */

/* In blk_req.priv, for a request that is answered here. */
struct early {
	struct loop_op op;
	int err;
};

static void early_done(struct loop_op *op, int res)
{
	struct early *early = CONTAINER_OF(op, struct early, op);
	struct blk_req *req = CONTAINER_OF((void *)early, struct blk_req, priv);

	req->done(req, early->err);
}

static void answer(struct blk *blk, struct blk_req *req, int err)
{
	struct early *early = (struct early *)&req->priv;

	early->op.done = early_done;
	early->err = err;
	blk->bio->ops->defer(blk->bio, &early->op);
}

static int check_req(const struct blk *blk, const struct blk_req *req)
{
	if (req->op != BLK_READ && blk->info.readonly)
		return req->op == BLK_FLUSH ? 0 : -EROFS;
	if (req->op == BLK_FLUSH)
		return 0;
	if ((req->offset_bytes | req->len_bytes) % SECTOR ||
	    !range_fits(req->offset_bytes, req->len_bytes, blk->info.size_bytes))
		return -EINVAL;
	return 0;
}

void blk_submit(struct blk *blk, struct blk_req *req)
{
	int r = check_req(blk, req);
	bool nothing = req->op == BLK_FLUSH ? blk->info.readonly : !req->len_bytes;

	if (r < 0 || nothing)
		answer(blk, req, r);
	else
		blk->ops->submit(blk, req);
}

struct sync_request {
	struct blk_req req;
	int err;
};

static void sync_request_done(struct blk_req *req, int err)
{
	CONTAINER_OF(req, struct sync_request, req)->err = err;
}

int blk_request_sync(struct blk *blk, enum blk_op op, void *buf, uint64_t len, uint64_t offset)
{
	struct iovec iov = {buf, len};
	struct sync_request sync = {
		.req = {.op = op, .unmap = op == BLK_WRITE_ZEROES, .offset_bytes = offset,
			.len_bytes = len, .iov = &iov, .iovcnt = buf ? 1 : 0,
			.done = sync_request_done},
		.err = -EIO,
	};

	blk->bio->ops->begin_sync(blk->bio);
	blk_submit(blk, &sync.req);
	blk->bio->ops->run_sync(blk->bio);
	return sync.err;
}

int blk_read_sync(struct blk *blk, void *buf, uint64_t len, uint64_t offset)
{
	uint64_t start = align_down(offset, SECTOR), end;
	void *sectors;
	int r;

	if (!range_fits(offset, len, blk->info.size_bytes))
		return -EINVAL;
	end = align_up(offset + len, SECTOR);
	if (start == offset && end == offset + len)
		return blk_request_sync(blk, BLK_READ, buf, len, offset);
	sectors = malloc(end - start);
	if (!sectors)
		return -ENOMEM;
	r = blk_request_sync(blk, BLK_READ, sectors, end - start, start);
	if (!r)
		memcpy(buf, (char *)sectors + (offset - start), len);
	free(sectors);
	return r;
}
