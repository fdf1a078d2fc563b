/* SPDX-License-Identifier: MIT */
/*
 * Allocation. Requests take clusters from a run: free clusters in a row, prepared beforehand so
 * that taking is a few additions. A run lies within one slice of refcounts, which is pinned; it
 * reads as zero wherever the file system can make it so, hence what a small write leaves of a
 * cluster needs no filling; and it has space on the host, whose ENOSPC shows up here, before
 * anything was changed.
 *
 * Preparing a run: look for free clusters from where the last search ended, through a few
 * slices at most; else extend the file. Then make a refcount block if none covers the run
 * (refblock.c), and pin the slice. The next run is prepared while half of this one is
 * left. Only when the host has no space is every refcount looked at; and then, before anybody
 * is told so, what was given up is committed and waited for.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "block/qcow2/impl.h"
#include "util/util.h"

#define SCAN_SLICES 8
#define RUN_BYTES_MAX MIB(64)

static void prep_find(struct qcow2 *q);

uint64_t q2_refblock_of(const struct qcow2 *q, uint64_t cluster)
{
	return cluster >> q->refblock_bits;
}

bool q2_has_refblock(const struct qcow2 *q, uint64_t cluster)
{
	uint64_t block = q2_refblock_of(q, cluster);

	return block < q->reftable_entries && q->reftable[block];
}

static uint64_t slice_end(const struct qcow2 *q, uint64_t cluster)
{
	return ((cluster >> q->rc_slice_bits) + 1) << q->rc_slice_bits;
}

static uint16_t *refcount_at(const struct qcow2 *q, struct q2_slice *slice, uint64_t cluster)
{
	return &slice->refcounts[cluster & ((1u << q->rc_slice_bits) - 1)];
}

/* --- taking --- */

static bool run_left(const struct q2_run *run)
{
	return run->next < run->end;
}

static void run_used_up(struct qcow2 *q)
{
	struct q2_slice *slice = q->run.slice;

	q->run = q->next_run;
	q->next_run = (struct q2_run){0};
	if (slice)
		q2_slice_unpin(slice);
}

int q2_take(struct qcow2 *q, uint64_t want, struct q2_wait *wait, struct q2_got *got)
{
	struct q2_run *run = &q->run;

	if (!run_left(run))
		run_used_up(q);
	if (!run_left(run)) {
		q2_waitq_add(&q->run_wait, wait);
		q2_prep_kick(q);
		return Q2_PARKED;
	}
	got->cluster = run->next;
	got->count = MIN(want, run->end - run->next);
	got->zeroed = run->zeroed;
	for (uint64_t i = 0; i < got->count; i++)
		*refcount_at(q, run->slice, run->next++) = htobe16(1);
	q2_slice_dirty(q, run->slice);
	/* Early enough for the next to be there in time. */
	if (run->at_end && !run->ahead && run->end - run->next < (run->end - run->start) / 2) {
		run->ahead = true;
		q2_prep_kick(q);
	}
	return 0;
}

/* --- preparing --- */

static void prep_wake(struct q2_wait *wait, int err)
{
	struct qcow2 *q = CONTAINER_OF(wait, struct qcow2, prep.wait);

	if (err)
		q2_prep_end(q, err);
	else
		q->prep.step(q);
}

/* Not inside q2_take: the caller, which is parked by then, must not be woken within. */
static void prep_begin(struct loop_op *op, int res)
{
	prep_find(CONTAINER_OF(op, struct qcow2, prep.op));
}

void q2_prep_kick(struct qcow2 *q)
{
	struct q2_prep *prep = &q->prep;

	if (prep->busy || run_left(&q->next_run))
		return;
	*prep = (struct q2_prep){.busy = true, .budget = SCAN_SLICES, .wait.wake = prep_wake};
	prep->op.done = prep_begin;
	q->blk.bio->ops->defer(q->blk.bio, &prep->op);
}

void q2_prep_restart(struct qcow2 *q)
{
	prep_find(q);
}

void q2_prep_end(struct qcow2 *q, int err)
{
	q->prep.busy = false;
	q2_waitq_wake(&q->run_wait, err);
}

static void prep_no_space(struct qcow2 *q)
{
	if (q->failed || !q2_free_pending(q)) {
		q2_prep_end(q, q->failed ? -EIO : -ENOSPC);
		return;
	}
	q->prep.for_space = true;
	q2_commit_kick(q);
}

void q2_prep_space(struct qcow2 *q)
{
	struct q2_prep *prep = &q->prep;

	if (!prep->busy || !prep->for_space)
		return;
	prep->for_space = false;
	prep->scan_all = true;
	if (q->failed)
		q2_prep_end(q, -EIO);
	else
		prep_find(q);
}

static uint64_t prep_target(const struct qcow2 *q)
{
	return MAX(q->run_bytes >> q->cluster_bits, 1);
}

/* In no run, that is, really free where its count is 0. */
static bool is_reserved(const struct qcow2 *q, uint64_t cluster)
{
	return (cluster >= q->run.next && cluster < q->run.end) ||
	       (cluster >= q->next_run.next && cluster < q->next_run.end);
}

/*
 * The first free clusters in [from, to), which `slice` describes, or nothing does (all are
 * free); at most `max`. Their number.
 */
static uint64_t find_free(const struct qcow2 *q, struct q2_slice *slice, uint64_t from,
			  uint64_t to, uint64_t max, uint64_t *start)
{
	uint64_t count = 0;

	for (; from < to && count < max; from++) {
		bool free = !is_reserved(q, from) &&
			    (!slice || !*refcount_at(q, slice, from));

		if (free && !count++)
			*start = from;
		if (!free && count)
			break;
	}
	return count;
}

/* Refcounts from `cluster` on: slice, or NULL where there is no block. */
static int prep_slice(struct qcow2 *q, uint64_t cluster, struct q2_slice **out)
{
	*out = NULL;
	if (!q2_has_refblock(q, cluster))
		return 0;
	return q2_slice_get(q, Q2_REFCOUNT, cluster >> q->rc_slice_bits, &q->prep.wait, out);
}

/* Refcounts that call metadata free are not to be believed in anything. */
static bool prep_damaged(struct qcow2 *q)
{
	const struct q2_prep *prep = &q->prep;

	if (!q2_meta_any(q, prep->start, prep->count))
		return false;
	q2_prep_end(q, q2_corrupt(q, "metadata that is counted as free",
				  prep->start << q->cluster_bits));
	return true;
}

static void prep_allocated(struct loop_op *op, int res)
{
	struct qcow2 *q = CONTAINER_OF(op, struct qcow2, prep.op);
	struct q2_prep *prep = &q->prep;
	bool full = res == -ENOSPC || res == -EDQUOT || res == -EFBIG;

	if (full && prep->count > 1) {
		prep->count /= 2;
		q->run_bytes = prep->count << q->cluster_bits;
		q->blk.bio->ops->fallocate(q->blk.bio, op, 0, prep->start << q->cluster_bits,
					   prep->count << q->cluster_bits);
		return;
	}
	if (full && !prep->scan_all && q->scan < q->file_clusters) {
		prep->scan_all = true;
		prep_find(q);
		return;
	}
	if (full) {
		prep_no_space(q);
		return;
	}
	if (res < 0 && !q2_unsupported(res)) {
		q2_prep_end(q, res);
		return;
	}
	if (res < 0)
		q->can_fallocate = false;
	prep->zeroed = res >= 0;
	q->file_clusters = prep->start + prep->count;
	if (prep->zeroed)
		q->solid_clusters = MAX(q->solid_clusters, q->file_clusters);
	q->run_bytes = MIN(2 * q->run_bytes, RUN_BYTES_MAX);
	q2_prep_found(q);
}

/* Extend the file by a run. Clusters past its end may be counted: of a truncated image. */
static void prep_extend(struct qcow2 *q)
{
	struct q2_prep *prep = &q->prep;
	struct q2_slice *slice;
	int r;

	do {
		uint64_t from = q->file_clusters, to = slice_end(q, from);

		r = q->blk.bio->is_device ? -ENOSPC : prep_slice(q, from, &slice);
		if (r)
			break;
		prep->count = find_free(q, slice, from, to, prep_target(q), &prep->start);
		if (!prep->count)
			q->file_clusters = to;
	} while (!prep->count);
	if (r == -ENOSPC)
		prep_no_space(q);
	else if (r < 0)
		q2_prep_end(q, r);
	if (r || prep_damaged(q))
		return;
	prep->at_end = true;
	prep->op.done = prep_allocated;
	if (!q->can_fallocate)
		prep_allocated(&prep->op, -EOPNOTSUPP);
	else
		q->blk.bio->ops->fallocate(q->blk.bio, &prep->op, 0,
					   prep->start << q->cluster_bits,
					   prep->count << q->cluster_bits);
}

static void prep_zero(struct qcow2 *q);

/* Where anything fails there are no zeroes to rely on: writes will fill. */
static void prep_reserved(struct loop_op *op, int res)
{
	struct qcow2 *q = CONTAINER_OF(op, struct qcow2, prep.op);

	q->prep.zeroed = res >= 0;
	q2_prep_found(q);
}

/* A hole has no space yet, and a table in it could then not be written. */
static void prep_reserve(struct qcow2 *q)
{
	struct q2_prep *prep = &q->prep;

	prep->op.done = prep_reserved;
	q->blk.bio->ops->fallocate(q->blk.bio, &prep->op, FALLOC_FL_KEEP_SIZE,
				   prep->start << q->cluster_bits,
				   prep->count << q->cluster_bits);
}

static void prep_zeroed(struct loop_op *op, int res)
{
	struct qcow2 *q = CONTAINER_OF(op, struct qcow2, prep.op);
	struct q2_prep *prep = &q->prep;

	if (res >= 0 && (prep->mode & FALLOC_FL_PUNCH_HOLE)) {
		prep_reserve(q);
		return;
	}
	if (!q2_unsupported(res)) {
		prep_reserved(op, res);
		return;
	}
	if (prep->mode & FALLOC_FL_ZERO_RANGE)
		q->can_zero_range = false;
	else
		q->can_punch = false;
	prep_zero(q);
}

/*
 * Make a run inside the file read as zero. What could be behind its end does so, but a table must
 * not be left there: it is written.
 */
static void prep_zero(struct qcow2 *q)
{
	struct q2_prep *prep = &q->prep;

	prep->zeroed = false;
	if ((!q->can_zero_range && !q->can_punch) ||
	    prep->start + prep->count > q->solid_clusters) {
		q2_prep_found(q);
		return;
	}
	prep->mode = FALLOC_FL_KEEP_SIZE |
		     (q->can_zero_range ? FALLOC_FL_ZERO_RANGE : FALLOC_FL_PUNCH_HOLE);
	prep->op.done = prep_zeroed;
	q->blk.bio->ops->fallocate(q->blk.bio, &prep->op, prep->mode,
				   prep->start << q->cluster_bits,
				   prep->count << q->cluster_bits);
}

static void prep_find(struct qcow2 *q)
{
	struct q2_prep *prep = &q->prep;
	struct q2_slice *slice;

	prep->step = prep_find;
	while (q->scan < q->file_clusters && (prep->budget || prep->scan_all)) {
		uint64_t end = MIN(slice_end(q, q->scan), q->file_clusters);
		int r = prep_slice(q, q->scan, &slice);

		if (r < 0)
			q2_prep_end(q, r);
		if (r)
			return;
		prep->count = find_free(q, slice, q->scan, end, prep_target(q), &prep->start);
		q->scan = prep->count ? prep->start + prep->count : end;
		if (prep->count) {
			prep->at_end = false;
			if (!prep_damaged(q))
				prep_zero(q);
			return;
		}
		prep->budget -= prep->budget ? 1 : 0;
		prep->scan_all |= q->blk.bio->is_device;
	}
	prep->step = prep_extend;
	prep_extend(q);
}

static void prep_ready(struct qcow2 *q)
{
	struct q2_prep *prep = &q->prep;
	struct q2_slice *slice;
	int r = prep_slice(q, prep->start, &slice);

	if (r < 0)
		q2_prep_end(q, r);
	if (r)
		return;
	q2_slice_pin(slice);
	q->next_run = (struct q2_run){
		.start = prep->start,
		.next = prep->start,
		.end = prep->start + prep->count,
		.zeroed = prep->zeroed,
		.at_end = prep->at_end,
		.slice = slice,
	};
	q2_prep_end(q, 0);
}

/* Clusters were found and have space: see that they can be counted. */
void q2_prep_found(struct qcow2 *q)
{
	q->prep.step = prep_ready;
	if (!q2_has_refblock(q, q->prep.start))
		q2_prep_refblock(q);
	else
		prep_ready(q);
}
