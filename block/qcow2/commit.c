/* SPDX-License-Identifier: MIT */
/*
 * The commit: what was changed in memory goes to disk in an order that no power cut can turn
 * into damage (see qcow2.c).
 *
 *   freeze   copy what is dirty; what changes from now on belongs to the next commit
 *   first    refcounts, then a barrier: data, fillings and new L2 tables that were written
 *            before the freeze are on disk with them
 *   second   L2 slices and L1 sectors, that is, the pointers to all that; a barrier
 *   done     flushes that came before the freeze are answered; what these pointers no longer
 *            point to may be freed
 *
 * One commit at a time; flushes that come meanwhile share the next one.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/qcow2/impl.h"
#include "util/util.h"

struct q2_chunk {
	struct xfer xfer;
	struct qcow2 *q;
	uint64_t host;
	uint32_t len;
	const void *from; /* before it is copied */
	unsigned char *data;
};

static void commit_start(struct qcow2 *q);

bool q2_is_dirty(const struct qcow2 *q)
{
	return q->cache.dirty_count[Q2_L2] || q->cache.dirty_count[Q2_REFCOUNT] ||
	       q->l1_dirty_count;
}

void q2_l1_set(struct qcow2 *q, uint64_t index, uint64_t entry)
{
	uint64_t sector = index * 8 / 512;
	uint8_t bit = (uint8_t)(1u << sector % 8);

	q->l1[index] = htobe64(entry);
	if (!(q->l1_dirty[sector / 8] & bit))
		q->l1_dirty_count++;
	q->l1_dirty[sector / 8] |= bit;
	if (q->timer)
		loop_watch_resume(q->loop, q->timer);
}

/* --- freeze --- */

static void add_chunk(struct qcow2 *q, uint64_t host, uint32_t len, const void *from)
{
	q->commit.chunks[q->commit.count++] =
		(struct q2_chunk){.q = q, .host = host, .len = len, .from = from};
}

static void freeze_slices(struct qcow2 *q, enum q2_kind kind)
{
	struct q2_slice *slice = q->cache.dirty[kind];

	for (; slice; slice = slice->next_dirty) {
		slice->dirty = false;
		slice->frozen = true;
		q->commit.slices[q->commit.slice_count++] = slice;
		add_chunk(q, q2_slice_host(q, slice), q->slice_bytes, slice->data);
	}
	q->cache.dirty[kind] = NULL;
	q->cache.dirty_count[kind] = 0;
}

static void freeze_l1(struct qcow2 *q)
{
	uint64_t bytes = align_up((uint64_t)q->header.l1_entries * 8, 512);

	for (uint64_t at = 0; q->l1_dirty_count && at < bytes; at += 512) {
		uint8_t *bits = &q->l1_dirty[at / 512 / 8], bit = (uint8_t)(1u << at / 512 % 8);

		if (!(*bits & bit))
			continue;
		*bits &= (uint8_t)~bit;
		q->l1_dirty_count--;
		add_chunk(q, q->header.l1_offset + at, 512, (char *)q->l1 + at);
	}
}

static int by_host(const void *a, const void *b)
{
	const struct q2_chunk *x = a, *y = b;

	return x->host < y->host ? -1 : x->host > y->host;
}

/* Sort chunks [first, first + count), copy them to `to`, and join neighbours. Their new count. */
static unsigned int gather(struct q2_commit *commit, unsigned int first, unsigned int count,
			   unsigned char *to)
{
	struct q2_chunk *in = commit->chunks + first, *out = in, *last = NULL;

	qsort(in, count, sizeof(*in), by_host);
	for (unsigned int i = 0; i < count; i++) {
		struct q2_chunk chunk = in[i];

		memcpy(to, chunk.from, chunk.len);
		chunk.data = to;
		to += chunk.len;
		if (last && last->host + last->len == chunk.host) {
			last->len += chunk.len;
		} else {
			last = out++;
			*last = chunk;
		}
	}
	return (unsigned int)(out - in);
}

static int freeze(struct qcow2 *q)
{
	struct q2_commit *commit = &q->commit;
	unsigned int slices = q->cache.dirty_count[Q2_L2] + q->cache.dirty_count[Q2_REFCOUNT];
	size_t bytes = (size_t)slices * q->slice_bytes + q->l1_dirty_count * 512;
	unsigned int tables;

	commit->count = 0;
	commit->slice_count = 0;
	commit->refcounts = 0;
	commit->chunks = calloc(slices + q->l1_dirty_count + 1, sizeof(*commit->chunks));
	commit->slices = calloc(slices + 1, sizeof(struct q2_slice *));
	commit->buf = aligned_alloc(4096, align_up(bytes + 1, 4096));
	if (!commit->chunks || !commit->slices || !commit->buf)
		return -ENOMEM;
	freeze_slices(q, Q2_REFCOUNT);
	bytes = (size_t)commit->count * q->slice_bytes;
	slices = commit->count;
	freeze_slices(q, Q2_L2);
	freeze_l1(q);
	tables = gather(commit, slices, commit->count - slices, commit->buf + bytes);
	commit->refcounts = gather(commit, 0, slices, commit->buf);
	memmove(commit->chunks + commit->refcounts, commit->chunks + slices,
		tables * sizeof(*commit->chunks));
	commit->count = commit->refcounts + tables;
	return 0;
}

/* --- writing --- */

static void commit_free(struct q2_commit *commit)
{
	free(commit->chunks);
	free(commit->slices);
	free(commit->buf);
	commit->chunks = NULL;
	commit->slices = NULL;
	commit->buf = NULL;
}

static void commit_end(struct qcow2 *q, const char *what, int err)
{
	struct q2_commit *commit = &q->commit;
	struct q2_waitq flushes;

	if (err)
		q2_fail(q, what, err); /* what was frozen stays so: memory alone has it */
	for (unsigned int i = 0; !err && i < commit->slice_count; i++)
		commit->slices[i]->frozen = false;
	commit->slice_count = 0;
	commit_free(commit);
	commit->running = false;
	if (!err) {
		for (size_t i = 0; i < q->freeing.frozen.count; i++)
			q2_give_back(q, q->freeing.frozen.v[i], 1);
		q->freeing.frozen.count = 0;
	}
	q2_waitq_move(&flushes, &commit->flushes);
	q2_waitq_wake(&flushes, err ? -EIO : 0);
	q2_cache_room(q);
	q2_free_kick(q);
	q2_prep_space(q); /* or else it waits for freeing that is not to come */
	if (commit->wanted && !commit->running)
		commit_start(q);
}

static void commit_next(struct qcow2 *q);

static void one_synced(struct qcow2 *q, int res)
{
	struct q2_commit *commit = &q->commit;
	bool more = !commit->second && commit->count > commit->refcounts;

	if (res < 0 && !commit->err)
		commit->err = res;
	if (--commit->syncs)
		return;
	if (commit->err || !more) {
		commit_end(q, "sync", commit->err);
		return;
	}
	commit->second = true;
	commit_next(q);
}

static void image_synced(struct loop_op *op, int res)
{
	one_synced(CONTAINER_OF(op, struct qcow2, commit.op), res);
}

static void data_synced(struct loop_op *op, int res)
{
	one_synced(CONTAINER_OF(op, struct qcow2, commit.data_op), res);
}

/* The first is for guest data as well, which may be in a file of its own. */
static void barrier(struct qcow2 *q)
{
	struct q2_commit *commit = &q->commit;
	bool data = q->data && !commit->second, image = !data || commit->count;

	commit->syncs = (unsigned int)data + (unsigned int)image;
	commit->op.done = image_synced;
	commit->data_op.done = data_synced;
	if (data)
		bio_flush(q->data_bio, &commit->data_op);
	if (image)
		bio_flush(q->blk.bio, &commit->op);
}

static void chunk_written(struct xfer *xfer, int err)
{
	struct qcow2 *q = CONTAINER_OF(xfer, struct q2_chunk, xfer)->q;

	if (err && !q->commit.err)
		q->commit.err = err;
	if (--q->commit.pending == 0)
		commit_next(q);
}

static void write_chunks(struct qcow2 *q, unsigned int first, unsigned int count)
{
	q->commit.pending = count + 1;
	for (unsigned int i = first; i < first + count; i++) {
		struct q2_chunk *chunk = &q->commit.chunks[i];

		chunk->xfer.done = chunk_written;
		xfer_write_buf(&chunk->xfer, q->blk.bio, chunk->data, chunk->len, chunk->host);
	}
	q->commit.pending--;
}

/* The chunks of this half, if any are left to write; then the barrier. */
static void commit_next(struct qcow2 *q)
{
	struct q2_commit *commit = &q->commit;
	unsigned int first = commit->second ? commit->refcounts : 0;
	unsigned int count = commit->second ? commit->count - first : commit->refcounts;

	if (commit->err) {
		commit_end(q, "write of metadata", commit->err);
		return;
	}
	if (count && !commit->chunks[first].xfer.done) {
		write_chunks(q, first, count);
		return;
	}
	barrier(q);
}

static void no_memory(struct loop_op *op, int res)
{
	commit_end(CONTAINER_OF(op, struct qcow2, commit.op), "commit", -ENOMEM);
}

static void commit_start(struct qcow2 *q)
{
	struct q2_commit *commit = &q->commit;
	struct q2_vec frozen = q->freeing.frozen;

	commit->wanted = false;
	if (q->failed || (!q->flushes.first && !q2_is_dirty(q)))
		return;
	commit->running = true;
	commit->second = false;
	commit->err = 0;
	q2_waitq_move(&commit->flushes, &q->flushes);
	if (freeze(q) < 0) {
		commit->op.done = no_memory;
		q->blk.bio->ops->defer(q->blk.bio, &commit->op);
		return;
	}
	q->freeing.frozen = q->freeing.unlinked; /* the other is empty, but has room */
	q->freeing.unlinked = frozen;
	commit_next(q);
}

void q2_commit_kick(struct qcow2 *q)
{
	if (q->commit.running)
		q->commit.wanted = true;
	else
		commit_start(q);
}

void q2_commit_finish(struct qcow2 *q)
{
	commit_free(&q->commit);
}
