/* SPDX-License-Identifier: MIT */
/*
 * Giving up clusters. A reference that is dropped (`unlinked`) may be counted down only when
 *
 *   - the commit that removes it is on disk: else a power cut finds a cluster in use that the
 *     refcounts call free; and
 *   - the pieces of requests that were in flight then have ended: they may still read or write
 *     there. (A request that waits has looked nothing up that it would not look up again.)
 *
 * After that the hole is punched, then the count goes down in memory, and from then on the
 * cluster may be taken again. That the lower count reaches the disk only with a later commit
 * does no harm: too high a count leaks, and no more.
 *
 * Pieces are counted by parity; to wait for those in flight is to change the parity for new
 * ones and wait until the old one's count is 0.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "block/qcow2/impl.h"
#include "util/util.h"

static void free_step(struct qcow2 *q);

/* Where memory is short the cluster leaks. */
static void vec_push(struct q2_vec *vec, uint64_t value)
{
	if (vec->count == vec->capacity) {
		size_t capacity = MAX(2 * vec->capacity, 64);
		uint64_t *v = realloc(vec->v, capacity * sizeof(*v));

		if (!v)
			return;
		vec->v = v;
		vec->capacity = capacity;
	}
	vec->v[vec->count++] = value;
}

void q2_unlink(struct qcow2 *q, uint64_t cluster)
{
	vec_push(&q->freeing.unlinked, cluster);
}

static void unlink_data(struct qcow2 *q, uint64_t host)
{
	if (q2_meta_any(q, host >> q->cluster_bits, 1))
		q2_corrupt(q, "a data cluster that is metadata as well", host);
	else
		q2_unlink(q, host >> q->cluster_bits);
}

/* Compressed data touches one cluster or several, and counts in each. */
static void unlink_packed(struct qcow2 *q, uint64_t entry)
{
	struct q2_packed at = q2_packed_at(q, entry);
	uint64_t last = (at.host + at.len - 1) >> q->cluster_bits;

	for (uint64_t cluster = at.host >> q->cluster_bits; cluster <= last; cluster++)
		unlink_data(q, cluster << q->cluster_bits);
}

void q2_unlink_entry(struct qcow2 *q, uint64_t entry)
{
	if (q->data)
		return; /* nothing there is counted */
	if (entry & QCOW2_COMPRESSED)
		unlink_packed(q, entry);
	else if (entry & QCOW2_OFFSET)
		unlink_data(q, entry & QCOW2_OFFSET);
}

bool q2_packed_valid(const struct qcow2 *q, uint64_t entry)
{
	struct q2_packed at = q2_packed_at(q, entry);

	return at.host >= q->cluster_bytes && at.host <= q->reach && at.len <= q->reach - at.host;
}

void q2_give_back(struct qcow2 *q, uint64_t cluster, uint64_t count)
{
	while (count--)
		vec_push(&q->freeing.ripe, cluster++);
}

bool q2_free_pending(const struct qcow2 *q)
{
	const struct q2_freeing *f = &q->freeing;

	return f->unlinked.count || f->frozen.count || f->ripe.count || f->busy;
}

static uint16_t *count_of(struct qcow2 *q, uint64_t cluster)
{
	return &q->freeing.slice->refcounts[cluster & ((1u << q->rc_slice_bits) - 1)];
}

static void count_down(struct qcow2 *q, uint64_t cluster)
{
	uint16_t count = be16toh(*count_of(q, cluster));

	*count_of(q, cluster) = htobe16((uint16_t)(count - 1));
	q2_slice_dirty(q, q->freeing.slice);
	if (count > 1)
		return;
	q2_meta_clear(q, cluster);
	q->scan = MIN(q->scan, cluster);
}

static void extent_done(struct qcow2 *q)
{
	struct q2_freeing *f = &q->freeing;

	for (; f->extent; f->extent--)
		count_down(q, f->batch.v[f->at++]);
	q2_slice_unpin(f->slice);
}

static void punched(struct loop_op *op, int res)
{
	struct qcow2 *q = CONTAINER_OF(op, struct qcow2, freeing.op);

	if (q2_unsupported(res))
		q->can_punch = false;
	extent_done(q);
	free_step(q);
}

/* Clusters in a row from the batch that nobody else refers to. */
static uint64_t last_users(struct qcow2 *q)
{
	struct q2_freeing *f = &q->freeing;
	uint64_t first = f->batch.v[f->at], n = 0;

	while (f->at + n < f->batch.count && f->batch.v[f->at + n] == first + n &&
	       (first + n) >> q->rc_slice_bits == first >> q->rc_slice_bits &&
	       be16toh(*count_of(q, first + n)) == 1)
		n++;
	return n;
}

/* With the slice at hand. True if a punch is under way. */
static bool free_extent(struct qcow2 *q)
{
	struct q2_freeing *f = &q->freeing;
	uint64_t cluster = f->batch.v[f->at];

	if (!*count_of(q, cluster)) {
		q2_corrupt(q, "a cluster in use is counted as free", cluster << q->cluster_bits);
		f->at++;
		return false;
	}
	f->extent = MAX(last_users(q), 1);
	q2_slice_pin(f->slice);
	if (be16toh(*count_of(q, cluster)) > 1 || !q->can_punch) {
		extent_done(q);
		return false;
	}
	f->op.done = punched;
	q->blk.bio->ops->fallocate(q->blk.bio, &f->op, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				   cluster << q->cluster_bits, f->extent << q->cluster_bits);
	return true;
}

static void free_step(struct qcow2 *q)
{
	struct q2_freeing *f = &q->freeing;

	while (f->at < f->batch.count && !q->failed) {
		uint64_t cluster = f->batch.v[f->at];
		int r = -EINVAL;

		if (q2_has_refblock(q, cluster))
			r = q2_slice_get(q, Q2_REFCOUNT, cluster >> q->rc_slice_bits, &f->wait,
					 &f->slice);
		if (r == Q2_PARKED)
			return;
		if (r < 0)
			f->at++; /* leaks */
		else if (free_extent(q))
			return;
	}
	f->busy = false;
	f->batch.count = 0;
	q2_free_kick(q);
	q2_prep_space(q);
}

static void slice_there(struct q2_wait *wait, int err)
{
	struct qcow2 *q = CONTAINER_OF(wait, struct qcow2, freeing.wait);

	if (err)
		q->freeing.at++;
	free_step(q);
}

static int by_number(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* Also called when a request ends while we wait for the last of the old ones. */
void q2_free_kick(struct qcow2 *q)
{
	struct q2_freeing *f = &q->freeing;
	struct q2_vec empty = f->batch;

	if (f->waiting) {
		if (q->live[q->parity ^ 1])
			return;
		f->waiting = false;
		free_step(q);
		return;
	}
	if (f->busy || !f->ripe.count)
		return;
	f->batch = f->ripe;
	f->ripe = empty;
	f->at = 0;
	f->busy = true;
	f->wait.wake = slice_there;
	qsort(f->batch.v, f->batch.count, sizeof(*f->batch.v), by_number);
	q->parity ^= 1;
	f->waiting = true;
	q2_free_kick(q);
}

void q2_free_finish(struct qcow2 *q)
{
	free(q->freeing.unlinked.v);
	free(q->freeing.frozen.v);
	free(q->freeing.ripe.v);
	free(q->freeing.batch.v);
}
