/* SPDX-License-Identifier: MIT */
/*
 * qcow2, versions 2 and 3, reading and writing.
 *
 * Theory of operation
 *
 * One thread owns an image and all of its metadata: there are no locks, and no metadata is read
 * or written but by completions on that thread's loop. Guest offsets map to file offsets by two
 * levels of tables (L1 in memory, L2 in cached slices); refcounts say which clusters of the
 * file are in use (their table in memory, the counts in slices of the same cache).
 *
 * Requests (io.c) go forward in steps that never block: a step does its work or parks the
 * request on what is missing. Reads and writes of clusters that are ours alone go to the file
 * with the caller's iovec, without copies or allocations. Other writes (write.c) put data
 * into a new cluster first and point to it afterwards. Metadata changes in memory only.
 *
 * The commit (commit.c) writes it, on a flush, every few seconds, or when much is dirty:
 *
 *     refcounts | barrier | L2 and L1 | barrier | the flushes are answered
 *
 * Why no power cut harms the image, whichever of the writes since the last barrier reach the
 * disk. (1) An L2 entry is written only after a barrier that follows the write of the data it
 * points to and of the count of that cluster; an L1 entry only after one that follows the
 * whole L2 table. So what is reachable is always complete and counted. (2) A count goes down
 * only after a barrier that follows the removal of the reference (free.c), and a cluster
 * is taken anew only after its count went down. So nothing reachable is ever reused. What a
 * cut can leave is a count without a reference: a leak, which qemu-img check reports as
 * harmless (its exit status 3). (3) New refcount blocks and tables are written, synced and only
 * then pointed to (refblock.c). (4) A flush is answered after the second barrier of a
 * commit whose freeze came after the flush, hence after the L2 changes of every write that was
 * answered before it. Lazy refcounts, which would give up (1), are never used.
 *
 * Failures. Data that can not be written fails its request, and the mapping stays. Metadata
 * that can not be written, or a sync that fails, ends all writing for good (q2_fail): what is
 * on disk is then unknown, but by the above it is whole. A table that contradicts itself
 * (q2_corrupt) ends writing too, and marks the image so that others see it. Every host offset
 * is checked before use, and no guest data is written where metadata is known to be.
 *
 * Limits: no encryption or extended L2; refused by name at open. Clusters are read compressed
 * (unpack.c), and never written so. Internal snapshots are kept intact; refcounts of other
 * than 16 bits are read only. Guest data may be in a file of its own (data.c).
 */
#include "block/qcow2/qcow2.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/qcow2/impl.h"
#include "util/util.h"

#define COMMIT_PERIOD_MS 5000
#define RUN_BYTES_FIRST MIB(1)
#define CLOSE_ROUNDS 8

/* --- failures --- */

bool q2_unsupported(int err)
{
	return err == -EOPNOTSUPP || err == -ENOSYS || err == -EINVAL || err == -ENODEV;
}

void q2_fail(struct qcow2 *q, const char *what, int err)
{
	if (q->failed)
		return;
	q->failed = err;
	log_error("disk %s: %s failed: %s (what was not flushed may be lost; no more writes are "
		  "accepted)", q->blk.name, what, strerror(-err));
	q2_waitq_wake(&q->flushes, -EIO);
	q2_cache_room(q); /* writes to fail, reads to go on */
	q2_prep_space(q);
}

static void mark_synced(struct loop_op *op, int res)
{
	CONTAINER_OF(op, struct qcow2, mark_op)->marking = false;
}

static void mark_written(struct xfer *xfer, int err)
{
	struct qcow2 *q = CONTAINER_OF(xfer, struct qcow2, mark_xfer);

	q->mark_op.done = mark_synced;
	bio_flush(q->blk.bio, &q->mark_op);
}

int q2_corrupt(struct qcow2 *q, const char *what, uint64_t where)
{
	uint64_t bits = htobe64(q->header.incompatible | QCOW2_INCOMPAT_CORRUPT);

	if (q->corrupt)
		return -EIO;
	q->corrupt = true;
	log_error("disk %s: corrupt: %s (0x%llx); no more writes are accepted (repair it: "
		  "minivmm disk check --repair all %s)", q->blk.name, what,
		  (unsigned long long)where, q->blk.name);
	if (q->blk.info.readonly || q->header.version < 3)
		return -EIO;
	memcpy(q->sector + QCOW2_AT_INCOMPAT, &bits, sizeof(bits));
	q->marking = true;
	q->mark_xfer.done = mark_written;
	xfer_write_buf(&q->mark_xfer, q->blk.bio, q->sector, 512, 0);
	return -EIO;
}

/* --- closing --- */

static void free_pools(struct qcow2 *q)
{
	struct q2_piece *piece;
	struct q2_cow *cow;

	while ((piece = q->free_pieces)) {
		q->free_pieces = piece->next;
		free(piece->iov);
		free(piece);
	}
	while ((cow = q->free_cows)) {
		q->free_cows = cow->next;
		free(cow->data);
		free(cow);
	}
}

static void q2_free(struct qcow2 *q)
{
	if (q->timer)
		loop_unwatch(q->loop, q->timer);
	blk_close(q->backing);
	blk_close(q->data);
	free_pools(q);
	q2_unpack_finish(q);
	q2_cache_finish(q);
	q2_meta_finish(q);
	q2_free_finish(q);
	q2_commit_finish(q);
	free(q->prep.buf);
	free(q->sector);
	free(q->l1);
	free(q->l1_dirty);
	free(q->reftable);
	free(q);
}

/* Commit until nothing is dirty, waits to be freed, or to be synced. */
static int write_back(struct qcow2 *q)
{
	struct bio *bio = q->blk.bio;

	for (int i = 0; i < CLOSE_ROUNDS && !q->failed; i++) {
		if (i && !q2_is_dirty(q) && !q->freeing.busy && !q->freeing.ripe.count)
			break;
		bio->ops->begin_sync(bio);
		q2_commit_kick(q);
		q2_free_kick(q);
		bio->ops->run_sync(bio);
	}
	return q->failed ? -EIO : bio_flush_sync(bio);
}

/* Files other than the disk's first, which is to be closed last. */
static int close_others(struct qcow2 *q)
{
	int r = blk_close(q->data);

	blk_close(q->backing);
	q->data = NULL;
	q->backing = NULL;
	return r;
}

/* Give back what the file was extended by and was not used. */
static int trim_file(struct qcow2 *q)
{
	uint64_t end = q->file_clusters;

	if (q->next_run.at_end && q->next_run.end == end)
		end = q->next_run.next;
	if (q->run.at_end && q->run.end == end)
		end = q->run.next;
	if (end == q->file_clusters || q->wrote_past_end)
		return 0;
	return q->blk.bio->ops->truncate(q->blk.bio, end << q->cluster_bits);
}

static int qcow2_flush_and_free(struct blk *blk)
{
	struct qcow2 *q = CONTAINER_OF(blk, struct qcow2, blk);
	int r = 0, closed;

	if (!blk->info.readonly) {
		r = write_back(q);
		if (!r)
			r = trim_file(q);
		if (r < 0)
			log_error("disk %s: not all could be written: %s", blk->name,
				  strerror(-r));
	}
	closed = close_others(q);
	blk_finish(blk);
	q2_free(q);
	return r ? r : closed;
}

static const struct blk_ops qcow2_ops = {
	.submit = q2_submit,
	.flush_and_free = qcow2_flush_and_free,
	.map = q2_map_sync,
};

/* --- opening --- */

/* Armed by what becomes dirty. */
static void commit_timer(void *arg)
{
	struct qcow2 *q = arg;

	q2_commit_kick(q);
	if (!q2_is_dirty(q))
		loop_watch_pause(q->loop, q->timer);
}

static void init_state(struct qcow2 *q)
{
	q2_unpack_init(q);
	q2_waitq_init(&q->run_wait);
	q2_waitq_init(&q->flushes);
	q2_waitq_init(&q->commit.flushes);
	LIST_INIT(&q->owned);
	LIST_INIT(&q->new_l2);
	q->run_bytes = RUN_BYTES_FIRST;
	q->file_clusters = q->blk.bio->size_bytes >> q->cluster_bits;
	q->solid_clusters = q->file_clusters;
	if (!q->blk.bio->is_device && (q->blk.bio->size_bytes & (q->cluster_bytes - 1)))
		q->file_clusters++; /* the file grows to it; a device does not */
	q->can_punch = true;
	q->can_zero_range = true;
	q->can_fallocate = true;
}

static int open_backing(struct qcow2 *q, const struct qcow2_options *opts)
{
	const struct q2_header *h = &q->header;
	int r;

	if (!h->backing_offset)
		return 0;
	if (!opts->open_backing) {
		log_error("disk %s: has a backing file", q->blk.name);
		return -ENOTSUP;
	}
	r = opts->open_backing(opts->arg, h->backing, h->backing_format, &q->backing);
	if (!r && q->backing)
		q->backing_bytes = blk_info(q->backing)->size_bytes;
	return r;
}

static int start(struct qcow2 *q, const struct qcow2_options *opts)
{
	bool readonly = opts->readonly;
	int r = q2_load(q, readonly);

	if (!r)
		r = q2_data_open(q, opts);
	if (!r)
		r = open_backing(q, opts);
	if (!r && !readonly)
		r = q2_clear_autoclear(q);
	if (r < 0)
		return r;
	if (!q->header.size_bytes) {
		log_error("disk %s: has no size (qemu-img resize %s 8G)", q->blk.name, q->blk.name);
		return -EINVAL;
	}
	q->blk.info = (struct blk_info){
		.size_bytes = align_up(q->header.size_bytes, 512),
		.block_bytes = MIN(4096u, (uint32_t)q->cluster_bytes),
		.cluster_bytes = (uint32_t)q->cluster_bytes,
		.readonly = readonly,
		.can_discard = !readonly,
		.can_write_zeroes = !readonly,
		.format = "qcow2",
	};
	init_state(q);
	r = q2_cache_init(q, opts->cache_bytes);
	if (!r && q->loop && !readonly) {
		q->timer = loop_watch_timer(q->loop, COMMIT_PERIOD_MS, commit_timer, q);
		r = q->timer ? 0 : -ENOMEM;
	}
	if (r < 0)
		log_error("disk %s: %s", q->blk.name, strerror(-r));
	return r;
}

int qcow2_create(struct bio *bio, const struct qcow2_options *opts, struct blk **out)
{
	struct qcow2 *q = calloc(1, sizeof(*q));
	int r;

	if (!q)
		return -ENOMEM;
	q->loop = opts->loop;
	r = blk_init(&q->blk, &qcow2_ops, bio, opts->name);
	if (!r)
		r = start(q, opts);
	if (r < 0) {
		free(q->blk.name);
		q2_free(q);
		return r;
	}
	*out = &q->blk;
	return 0;
}
