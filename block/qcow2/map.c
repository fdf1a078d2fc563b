/* SPDX-License-Identifier: MIT */
/* What lies behind a part of the disk, for those who ask and wait; here or in a file below. */
#include <errno.h>

#include "block/qcow2/impl.h"
#include "util/util.h"

static void woken(struct q2_wait *wait, int err)
{
}

int q2_map_now(struct qcow2 *q, uint64_t offset, uint64_t len, struct q2_extent *out)
{
	struct bio *bio = q->blk.bio;
	struct q2_wait wait = {.wake = woken};
	int r = Q2_PARKED;

	/* Once to read it, once to use it. */
	for (int i = 0; i < 2 && r == Q2_PARKED; i++) {
		bio->ops->begin_sync(bio);
		r = q2_map(q, offset, len, &wait, out);
		bio->ops->run_sync(bio);
	}
	return r == Q2_PARKED ? -EIO : r;
}

/*
 * Zeroes by an entry, with or without a cluster that is kept for them, and where there is no entry
 * are one to q2_map: shorten `extent` to what is of the first one's kind.
 */
static void split_zeroes(struct qcow2 *q, uint64_t offset, struct q2_extent *extent)
{
	uint64_t guest = offset >> q->cluster_bits, skip = offset & (q->cluster_bytes - 1);
	uint64_t at = guest & ((1u << q->slice_bits) - 1), n = 1, count;
	uint64_t first = extent->entry & (QCOW2_OFFSET | QCOW2_ZERO);
	uint64_t step = first & QCOW2_OFFSET ? q->cluster_bytes : 0;
	struct q2_wait wait = {.wake = woken};
	struct q2_slice *slice;

	if (!(q2_l1_entry(q, guest >> q->l2_bits) & QCOW2_OFFSET) ||
	    q2_slice_get(q, Q2_L2, guest >> q->slice_bits, &wait, &slice) != 0)
		return;
	count = (skip + extent->len + q->cluster_bytes - 1) >> q->cluster_bits;
	while (n < count && (be64toh(slice->l2[at + n]) & (QCOW2_OFFSET | QCOW2_ZERO)) ==
			    first + n * step)
		n++;
	extent->len = MIN(extent->len, (n << q->cluster_bits) - skip);
}

static int map_below(struct qcow2 *q, uint64_t offset, uint64_t len, struct blk_extent *out)
{
	int r = blk_map(q->backing, offset, len, out);

	out->depth++;
	return r;
}

int q2_map_sync(struct blk *blk, uint64_t offset, uint64_t len, struct blk_extent *out)
{
	struct qcow2 *q = CONTAINER_OF(blk, struct qcow2, blk);
	struct q2_extent extent = {0};
	int r = q2_map_now(q, offset, len, &extent);

	if (r < 0)
		return r;
	if (extent.kind == Q2_EXTENT_BACKING)
		return map_below(q, offset, extent.len, out);
	if (extent.kind == Q2_EXTENT_ZERO)
		split_zeroes(q, offset, &extent);
	out->len_bytes = extent.len;
	out->present = extent.kind != Q2_EXTENT_ZERO ||
		       (extent.entry & (QCOW2_OFFSET | QCOW2_ZERO));
	out->kind = extent.kind == Q2_EXTENT_ZERO ? BLK_EXTENT_ZERO
		    : extent.kind == Q2_EXTENT_DATA ? BLK_EXTENT_DATA : BLK_EXTENT_COMPRESSED;
	out->has_host = extent.kind == Q2_EXTENT_DATA ||
			(extent.kind == Q2_EXTENT_ZERO && (extent.entry & QCOW2_OFFSET));
	out->host_bytes = out->has_host ? extent.host : 0;
	if (out->has_host && q->data)
		out->file = q->data->name;
	return 0;
}
