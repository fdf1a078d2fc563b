/* SPDX-License-Identifier: MIT */
/*
 * Discard and write-zeroes, cluster by cluster; what is less than a cluster is written as
 * zeroes, or left alone by a discard.
 *
 *   reads as zero already        nothing
 *   as the backing file has it   a discard does nothing, else the zero flag alone
 *   version 3, ours              the zero flag; the cluster stays and becomes a hole
 *   version 3, otherwise         the zero flag alone; the reference is dropped
 *   version 2                    unallocated, which reads as zero; the reference is dropped.
 *                                Above a backing file there is no way to say zero: a discard
 *                                does nothing, zeroes are written
 */
#include <errno.h>
#include <fcntl.h>

#include "block/qcow2/impl.h"
#include "util/util.h"

#define ZEROES_AT_ONCE MIB(1)

/* Entries in a row, of one table's slice, that are treated alike. */
struct area {
	uint64_t guest, at, count;
	struct q2_slice *slice;
	uint64_t host; /* a hole is to be made there, or 0 */
	bool skip;     /* nothing to do */
};

static bool may_unmap(struct q2_req *r)
{
	const struct blk_req *req = q2_blk_req(r);

	return req->op == BLK_DISCARD || req->unmap;
}

static uint64_t entry_at(const struct area *a, uint64_t i)
{
	return be64toh(a->slice->l2[a->at + i]);
}

/* Cluster `i` of the area needs nothing. */
static bool skips(const struct qcow2 *q, const struct area *a, uint64_t i, bool is_discard)
{
	uint64_t entry = entry_at(a, i);

	if (entry & QCOW2_COMPRESSED)
		return false;
	if (q->header.version >= 3 && (entry & QCOW2_ZERO))
		return true;
	return !(entry & q->allocated) && (is_discard || !q2_is_backed(q, a->guest + i));
}

/* The cluster stays under the zero flag. */
static bool stays(const struct qcow2 *q, uint64_t entry)
{
	return q->header.version >= 3 && ((entry & QCOW2_COPIED) || q->data) &&
	       !(entry & QCOW2_COMPRESSED);
}

static void limit_area(const struct qcow2 *q, struct area *a, bool is_discard)
{
	uint64_t first = entry_at(a, 0), n = 1;

	a->skip = skips(q, a, 0, is_discard);
	a->host = !a->skip && stays(q, first) ? first & QCOW2_OFFSET : 0;
	for (; n < a->count; n++) {
		uint64_t entry = entry_at(a, n);

		if (skips(q, a, n, is_discard) != a->skip)
			break;
		if (a->skip)
			continue;
		if (stays(q, entry) != (a->host != 0))
			break;
		if (a->host && (entry & QCOW2_OFFSET) != a->host + (n << q->cluster_bits))
			break;
		if (!a->host && !q2_entry_valid(q, a->guest + n, entry))
			break; /* next time it is the first, and checked */
	}
	a->count = n;
}

static int check_area(struct qcow2 *q, const struct area *a)
{
	uint64_t first = entry_at(a, 0);

	if (a->host ? !q2_data_valid(q, a->guest, a->host, a->count << q->cluster_bits)
		    : !q2_entry_valid(q, a->guest, first))
		return q2_corrupt(q, "a cluster out of place", first & QCOW2_OFFSET);
	if (a->host && !q->data && q2_meta_any(q, a->host >> q->cluster_bits, a->count))
		return q2_corrupt(q, "a data cluster that is metadata as well", a->host);
	return 0;
}

static void set_zero(struct qcow2 *q, struct area *a)
{
	for (uint64_t i = 0; i < a->count; i++) {
		uint64_t entry = entry_at(a, i);

		if (!a->host) {
			q2_unlink_entry(q, entry);
			entry = 0;
		}
		if (q->header.version >= 3)
			entry |= QCOW2_ZERO;
		a->slice->l2[a->at + i] = htobe64(entry);
	}
	q2_slice_dirty(q, a->slice);
}

static void punched(struct loop_op *op, int res)
{
	struct q2_piece *piece = CONTAINER_OF(op, struct q2_piece, op);

	/* The flag is what counts; a hole that could not be made costs but space. */
	if (q2_unsupported(res))
		piece->r->q->can_punch = false;
	q2_piece_end(piece, 0);
}

/* Zero the area; nothing waits from here on. */
static int zero_area(struct q2_req *r, struct area *a)
{
	struct qcow2 *q = r->q;
	struct q2_piece *piece;

	if (!a->host || !may_unmap(r) || !q->can_punch) {
		set_zero(q, a);
		return 0;
	}
	piece = q2_piece_get(r, Q2_PIECE_PUNCH);
	if (!piece)
		return -ENOMEM;
	set_zero(q, a);
	q2_piece_lock(piece, a->guest, a->count, a->slice);
	piece->op.done = punched;
	q->data_bio->ops->fallocate(q->data_bio, &piece->op,
				    FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, a->host,
				    a->count << q->cluster_bits);
	return 0;
}

static bool has_table(const struct qcow2 *q, uint64_t guest)
{
	return q2_l1_entry(q, guest >> q->l2_bits) & QCOW2_OFFSET;
}

/* At most `clusters` whole ones from `guest` on. */
static int zero_clusters(struct q2_req *r, uint64_t guest, uint64_t clusters)
{
	struct qcow2 *q = r->q;
	struct area a = {.guest = guest, .at = guest & ((1u << q->slice_bits) - 1)};
	int err;

	a.count = MIN(clusters, (1u << q->slice_bits) - a.at);
	err = q2_unowned(q, guest, &a.count, &r->wait);
	if (!err && !has_table(q, guest))
		err = q2_l2_ensure(q, guest, &r->wait);
	if (!err)
		err = q2_slice_get(q, Q2_L2, guest >> q->slice_bits, &r->wait, &a.slice);
	if (err)
		return err;
	limit_area(q, &a, q2_blk_req(r)->op == BLK_DISCARD);
	if (a.skip) {
		q2_req_advance(r, a.count << q->cluster_bits);
		return 0;
	}
	err = q2_dirty_room(q, &r->wait);
	if (!err)
		err = q2_l2_ensure(q, guest, &r->wait);
	if (!err)
		err = check_area(q, &a);
	if (!err)
		err = zero_area(r, &a);
	if (!err)
		q2_req_advance(r, a.count << q->cluster_bits);
	return err;
}

/* Less than a cluster, or zeroes that must be written. */
static int write_zeroes(struct q2_req *r, uint64_t offset, uint64_t len)
{
	struct q2_extent extent;
	int err;

	if (q2_blk_req(r)->op == BLK_DISCARD) {
		q2_req_advance(r, len);
		return 0;
	}
	err = q2_map(r->q, offset, len, &r->wait, &extent);
	if (err)
		return err;
	if (extent.kind != Q2_EXTENT_ZERO)
		return q2_write_step(r, MIN(extent.len, ZEROES_AT_ONCE));
	q2_req_advance(r, extent.len);
	return 0;
}

int q2_zero_step(struct q2_req *r)
{
	const struct blk_req *req = q2_blk_req(r);
	struct qcow2 *q = r->q;
	uint64_t offset = req->offset_bytes + r->pos, len = req->len_bytes - r->pos;
	uint64_t skip = offset & (q->cluster_bytes - 1), guest = offset >> q->cluster_bits;
	uint64_t table_end = ((guest >> q->l2_bits) + 1) << q->l2_bits << q->cluster_bits;
	bool is_discard = req->op == BLK_DISCARD, is_old = q->header.version < 3;

	if (q->data_raw)
		return q2_data_zero_step(r);
	if (is_discard && is_old && q->backing) {
		q2_req_advance(r, len);
		return 0;
	}
	if (!has_table(q, guest) && (is_discard || !q2_is_backed(q, guest))) {
		q2_req_advance(r, MIN(len, table_end - offset));
		return 0;
	}
	if (skip || len < q->cluster_bytes)
		return write_zeroes(r, offset, MIN(len, q->cluster_bytes - skip));
	if (is_old && (q->backing || !may_unmap(r)))
		return write_zeroes(r, offset, len & ~(q->cluster_bytes - 1));
	return zero_clusters(r, guest, len >> q->cluster_bits);
}
