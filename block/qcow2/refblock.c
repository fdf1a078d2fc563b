/* SPDX-License-Identifier: MIT */
/*
 * New refcount blocks and a larger refcount table. Each is a small commit of its own: write
 * what is new where nothing was, counted in itself; barrier; write the one pointer that makes
 * it valid; barrier. They are taken from the run being prepared, which lies where no block is,
 * so that all around it is free.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/qcow2/impl.h"
#include "util/util.h"

static uint64_t bytes_of(const struct qcow2 *q, uint64_t clusters)
{
	return clusters << q->cluster_bits;
}

static void give_up(struct qcow2 *q, int err)
{
	free(q->prep.buf);
	q->prep.buf = NULL;
	q2_prep_end(q, err);
}

/* The pointer is on disk: what is new counts. */
static void pointer_synced(struct loop_op *op, int res)
{
	struct qcow2 *q = CONTAINER_OF(op, struct qcow2, prep.op);
	struct q2_prep *prep = &q->prep;
	uint64_t used = prep->blocks + prep->table_clusters;

	if (res < 0) {
		q2_fail(q, "sync", res);
		give_up(q, -EIO);
		return;
	}
	free(prep->buf);
	prep->buf = NULL;
	if (prep->table_clusters) {
		q2_give_back(q, prep->old_table, prep->old_clusters);
		q2_free_kick(q);
	}
	prep->start += used;
	prep->count -= MIN(used, prep->count);
	if (prep->count)
		q2_prep_found(q);
	else
		q2_prep_restart(q);
}

static void pointer_written(struct xfer *xfer, int err)
{
	struct qcow2 *q = CONTAINER_OF(xfer, struct qcow2, prep.xfer);

	if (err) {
		/* Whether the old or the new one is on disk is unknown. */
		q2_fail(q, "write of the refcount table", err);
		give_up(q, -EIO);
		return;
	}
	q->prep.op.done = pointer_synced;
	bio_flush(q->blk.bio, &q->prep.op);
}

/* One entry of the table, that is, its sector. */
static void write_entry(struct qcow2 *q)
{
	struct q2_prep *prep = &q->prep;
	uint64_t block = q2_refblock_of(q, prep->start);
	uint64_t at = align_down(block * 8, 512);

	q->reftable[block] = htobe64(bytes_of(q, prep->start));
	prep->xfer.done = pointer_written;
	xfer_write_buf(&prep->xfer, q->blk.bio, (char *)q->reftable + at, 512,
		       q->header.reftable_offset + at);
}

/* Change over to the new table, at the end of the buffer, and write the header. */
static void write_header(struct qcow2 *q)
{
	struct q2_prep *prep = &q->prep;
	uint64_t bytes = bytes_of(q, prep->table_clusters);
	uint64_t offset = htobe64(bytes_of(q, prep->start + prep->blocks));
	uint32_t clusters = htobe32((uint32_t)prep->table_clusters);

	prep->old_table = q->header.reftable_offset >> q->cluster_bits;
	prep->old_clusters = q->header.reftable_clusters;
	memcpy(q->reftable, prep->buf + bytes_of(q, prep->blocks), bytes);
	q->reftable_entries = bytes / 8;
	q2_set_reach(q);
	q->header.reftable_offset = be64toh(offset);
	q->header.reftable_clusters = (uint32_t)prep->table_clusters;
	memcpy(q->sector + QCOW2_AT_REFTABLE, &offset, sizeof(offset));
	memcpy(q->sector + QCOW2_AT_REFTABLE + 8, &clusters, sizeof(clusters));
	prep->xfer.done = pointer_written;
	xfer_write_buf(&prep->xfer, q->blk.bio, q->sector, 512, 0);
}

static void content_synced(struct loop_op *op, int res)
{
	struct qcow2 *q = CONTAINER_OF(op, struct qcow2, prep.op);
	uint64_t used = q->prep.blocks + q->prep.table_clusters;
	int err;

	if (res < 0) {
		q2_fail(q, "sync", res);
		give_up(q, -EIO);
	} else if (q->failed) {
		give_up(q, -EIO);
	} else if ((err = q2_meta_set(q, q->prep.start, used)) < 0) {
		give_up(q, err);
	} else if (q->prep.table_clusters) {
		write_header(q);
	} else {
		write_entry(q);
	}
}

static void content_written(struct xfer *xfer, int err)
{
	struct qcow2 *q = CONTAINER_OF(xfer, struct qcow2, prep.xfer);

	if (err) {
		give_up(q, err);
		return;
	}
	q->prep.op.done = content_synced;
	bio_flush(q->blk.bio, &q->prep.op);
}

/* `blocks` refcount blocks from `start` on, which count `used` clusters from there. */
static void fill_blocks(struct qcow2 *q, uint64_t used)
{
	uint16_t *counts = (uint16_t *)q->prep.buf;
	uint64_t first = q->prep.start & ((1ull << q->refblock_bits) - 1);

	for (uint64_t i = 0; i < used; i++)
		counts[first + i] = htobe16(1);
}

/*
 * A table of at least twice the size for block `last`, behind the blocks that count it and
 * themselves. The number of blocks depends on what they count: start with one.
 */
static int plan_table(struct qcow2 *q)
{
	struct q2_prep *prep = &q->prep;
	uint64_t first = q2_refblock_of(q, prep->start), last = first;
	uint64_t bytes;

	do {
		prep->blocks = last - first + 1;
		bytes = align_up(MAX(2 * q->reftable_entries, last + 1) * 8, q->cluster_bytes);
		bytes = MIN(bytes, QCOW2_REFTABLE_BYTES_MAX);
		prep->table_clusters = bytes >> q->cluster_bits;
		last = q2_refblock_of(q, prep->start + prep->blocks + prep->table_clusters - 1);
	} while (last - first + 1 > prep->blocks);
	return last < bytes / 8 ? 0 : -ENOSPC;
}

static int make_table(struct qcow2 *q)
{
	struct q2_prep *prep = &q->prep;
	uint64_t first = q2_refblock_of(q, prep->start);
	uint64_t bytes = bytes_of(q, prep->table_clusters);
	uint64_t *table, *more = aligned_alloc(4096, align_up(bytes, 4096));

	if (!more)
		return -ENOMEM;
	memcpy(more, q->reftable, q->reftable_entries * 8);
	free(q->reftable);
	q->reftable = more;
	table = (uint64_t *)(prep->buf + bytes_of(q, prep->blocks));
	memcpy(table, q->reftable, q->reftable_entries * 8);
	for (uint64_t i = 0; i < prep->blocks; i++)
		table[first + i] = htobe64(bytes_of(q, prep->start + i));
	return 0;
}

void q2_prep_refblock(struct qcow2 *q)
{
	struct q2_prep *prep = &q->prep;
	bool grow = q2_refblock_of(q, prep->start) >= q->reftable_entries;
	uint64_t used, bytes;
	int r = 0;

	prep->blocks = 1;
	prep->table_clusters = 0;
	if (grow)
		r = plan_table(q);
	used = prep->blocks + prep->table_clusters;
	bytes = bytes_of(q, used);
	if (!r && q2_meta_any(q, prep->start, used))
		r = q2_corrupt(q, "metadata that is not counted", bytes_of(q, prep->start));
	prep->buf = r ? NULL : aligned_alloc(4096, align_up(bytes, 4096));
	if (!r && !prep->buf)
		r = -ENOMEM;
	if (!r) {
		memset(prep->buf, 0, bytes);
		fill_blocks(q, used);
	}
	if (!r && grow)
		r = make_table(q);
	if (r < 0) {
		give_up(q, r);
		return;
	}
	q->file_clusters = MAX(q->file_clusters, prep->start + used);
	prep->xfer.done = content_written;
	xfer_write_buf(&prep->xfer, q->blk.bio, prep->buf, bytes, bytes_of(q, prep->start));
}
