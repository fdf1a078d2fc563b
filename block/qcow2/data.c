/* SPDX-License-Identifier: MIT */
/*
 * An external data file: guest data lies in a file of its own, each cluster at the offset that
 * it has on the guest's disk; the image holds tables alone. So nothing is allocated there, and
 * nothing counted; an L2 entry says whether the cluster is valid, zero, or the backing file's.
 * A commit's first barrier is for both files.
 *
 * Where the file is marked raw it must be the disk also for who does not look at the image. We
 * do not look either: what is read and zeroed there is what the file holds. Only before a write
 * the entries of what it touches are made to say so, and that is waited for to be on disk: so a
 * reader of the image never finds less than one of the file, whenever the power is cut. (QEMU
 * makes such images with all entries in place, so this is seldom waited for.)
 */
#include <errno.h>

#include "block/bio.h"
#include "block/qcow2/impl.h"
#include "block/qcow2/qcow2.h"
#include "util/util.h"

static int check_size(struct qcow2 *q)
{
	uint64_t bytes = q->data_bio->size_bytes, want = q->header.size_bytes;

	if (bytes >= want || (!q->data_raw && !q->data_bio->is_device))
		return 0;
	log_error("disk %s: its data file is shorter than the disk (%llu bytes, not %llu: make it "
		  "as long)", q->blk.name, (unsigned long long)bytes, (unsigned long long)want);
	return -EINVAL;
}

int q2_data_open(struct qcow2 *q, const struct qcow2_options *opts)
{
	const struct q2_header *h = &q->header;
	bool external = h->incompatible & QCOW2_INCOMPAT_DATA_FILE;
	int r = 0;

	q->data_bio = q->blk.bio;
	q->allocated = QCOW2_OFFSET;
	if (external && !opts->open_data) {
		log_error("disk %s: has an external data file", q->blk.name);
		return -ENOTSUP;
	}
	if (opts->open_data)
		r = opts->open_data(opts->arg, h->data_file, external ? &q->data : NULL);
	if (r < 0 || !external)
		return r;
	q->data_bio = q->data->bio;
	q->allocated |= QCOW2_COPIED; /* the first cluster is at 0 */
	q->data_raw = h->autoclear & QCOW2_AUTOCLEAR_DATA_RAW;
	return check_size(q);
}

bool q2_data_entry_valid(const struct qcow2 *q, uint64_t guest, uint64_t entry)
{
	uint64_t host = entry & QCOW2_OFFSET;

	if (entry & QCOW2_COMPRESSED)
		return false;
	if (!host && (!(entry & QCOW2_COPIED) || (entry & QCOW2_ZERO)))
		return true; /* it has none */
	return host == guest << q->cluster_bits;
}

/* --- raw --- */

/* Every entry of the slice, up to the disk's end; what contradicts stays, to be found later. */
static void map_slice(struct qcow2 *q, uint64_t guest, struct q2_slice *slice)
{
	uint64_t first = guest & ~((1ull << q->slice_bits) - 1);
	uint64_t end = (q->blk.info.size_bytes + q->cluster_bytes - 1) >> q->cluster_bits;
	uint64_t count = MIN(1ull << q->slice_bits, end - first);

	for (uint64_t i = 0; i < count; i++) {
		uint64_t entry = be64toh(slice->l2[i]);

		if (q2_data_entry_valid(q, first + i, entry))
			slice->l2[i] = htobe64((first + i) << q->cluster_bits | QCOW2_COPIED);
	}
	q2_slice_dirty(q, slice);
}

int q2_data_map(struct qcow2 *q, uint64_t guest, uint64_t clusters, struct q2_slice *slice,
		struct q2_wait *wait)
{
	uint64_t at = guest & ((1u << q->slice_bits) - 1);
	bool mapped = true;
	int r = 0;

	for (uint64_t i = 0; i < clusters; i++)
		mapped &= be64toh(slice->l2[at + i]) ==
			  ((guest + i) << q->cluster_bits | QCOW2_COPIED);
	if (!mapped)
		r = q2_dirty_room(q, wait);
	if (r)
		return r;
	if (!mapped)
		map_slice(q, guest, slice);
	if (!slice->dirty && !slice->frozen)
		return 0;
	q2_waitq_add(&q->flushes, wait);
	q2_commit_kick(q);
	return Q2_PARKED;
}

static void zeroed(struct blk_req *below, int err)
{
	q2_piece_put(CONTAINER_OF(below, struct q2_piece, below), err);
}

int q2_data_zero_step(struct q2_req *r)
{
	const struct blk_req *req = q2_blk_req(r);
	struct q2_piece *piece = q2_piece_get(r, Q2_PIECE_PUNCH);

	if (!piece)
		return -ENOMEM;
	piece->below = (struct blk_req){
		.op = req->op,
		.unmap = req->unmap,
		.offset_bytes = req->offset_bytes + r->pos,
		.len_bytes = req->len_bytes - r->pos,
		.done = zeroed,
	};
	q2_req_advance(r, piece->below.len_bytes);
	blk_submit(r->q->data, &piece->below);
	return 0;
}
