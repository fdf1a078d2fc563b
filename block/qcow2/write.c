/* SPDX-License-Identifier: MIT */
/*
 * Writing. A cluster that is ours alone is written in place. Any other write owns its guest
 * clusters for as long as it takes, so that nobody else changes their mapping, and
 *
 *   - takes new clusters, or keeps the one under a zero cluster;
 *   - reads what the write leaves of a cluster that is copied;
 *   - writes it all at once: head, data, tail;
 *   - only then changes L2, in memory; and drops the old reference.
 *
 * A failure on the way leaves the mapping as it was.
 */
#include <errno.h>
#include <string.h>

#include "block/qcow2/impl.h"
#include "util/util.h"

/* What becomes of the cluster written to. */
enum way {
	WAY_IN_PLACE, /* ours, with data */
	WAY_KEEP,     /* ours, but reads as zero: fill what is not written */
	WAY_NEW,      /* nothing there, or zeroes */
	WAY_COPY,     /* somebody else's data; likewise, the source differs: */
	WAY_BACKING,
	WAY_UNPACK,
};

static enum way way_of(const struct qcow2 *q, uint64_t guest, uint64_t entry)
{
	bool zero = q->header.version >= 3 && (entry & QCOW2_ZERO);

	if (entry & QCOW2_COMPRESSED)
		return WAY_UNPACK;
	if (!(entry & q->allocated) && !zero && q2_is_backed(q, guest))
		return WAY_BACKING;
	if (q->data) /* every cluster has its place, and nobody shares it */
		return zero || !(entry & q->allocated) ? WAY_KEEP : WAY_IN_PLACE;
	if (!(entry & QCOW2_OFFSET))
		return WAY_NEW;
	if (!(entry & QCOW2_COPIED))
		return zero ? WAY_NEW : WAY_COPY;
	return zero ? WAY_KEEP : WAY_IN_PLACE;
}

/* Of the cluster that `entry` has, or will have. */
static uint64_t host_of(const struct qcow2 *q, uint64_t guest, uint64_t entry)
{
	return q->data ? guest << q->cluster_bits : entry & QCOW2_OFFSET;
}

/* The write at hand: what the step found out so far. */
struct target {
	uint64_t guest;    /* first cluster */
	uint64_t skip;     /* into it */
	uint64_t len;      /* bytes to write */
	uint64_t clusters; /* that these touch */
	struct q2_slice *slice;
	uint64_t at;       /* of `guest` in the slice */
	enum way way;
	uint64_t entry;    /* there */
	uint64_t host;     /* of the old cluster, or 0 */
};

static uint64_t entry_at(const struct target *t, uint64_t i)
{
	return be64toh(t->slice->l2[t->at + i]);
}

static void limit_clusters(const struct qcow2 *q, struct target *t, uint64_t clusters)
{
	t->clusters = clusters;
	t->len = MIN(t->len, (clusters << q->cluster_bits) - t->skip);
}

/*
 * Clusters that go the same way: in a row on the host, where they stay; else with an old one
 * each that can be given up. Where one can not, it is the next step's first, which is checked.
 */
static void limit_to_alike(const struct qcow2 *q, struct target *t)
{
	bool stays = t->way == WAY_IN_PLACE || t->way == WAY_KEEP;
	uint64_t n = 1;

	for (; n < t->clusters; n++) {
		uint64_t entry = entry_at(t, n);

		if (way_of(q, t->guest + n, entry) != t->way)
			break;
		if (stays && host_of(q, t->guest + n, entry) != t->host + (n << q->cluster_bits))
			break;
		if (!q2_entry_valid(q, t->guest + n, entry))
			break;
	}
	limit_clusters(q, t, n);
}

/* A copy of part of a cluster goes alone; whole ones need no copy and go together. */
static void limit_copy(const struct qcow2 *q, struct target *t)
{
	uint64_t tail = (t->skip + t->len) & (q->cluster_bytes - 1);

	if (t->skip)
		limit_clusters(q, t, 1);
	else if (tail && t->clusters > 1)
		limit_clusters(q, t, t->clusters - 1);
}

static int find_target(struct q2_req *r, uint64_t len, struct target *t)
{
	const struct blk_req *req = q2_blk_req(r);
	struct qcow2 *q = r->q;
	uint64_t offset = req->offset_bytes + r->pos;
	int err;

	t->guest = offset >> q->cluster_bits;
	t->skip = offset & (q->cluster_bytes - 1);
	t->len = len;
	err = q2_l2_ensure(q, t->guest, &r->wait);
	if (!err)
		err = q2_slice_get(q, Q2_L2, t->guest >> q->slice_bits, &r->wait, &t->slice);
	if (err)
		return err;
	t->at = t->guest & ((1u << q->slice_bits) - 1);
	limit_clusters(q, t, MIN((t->skip + len + q->cluster_bytes - 1) >> q->cluster_bits,
				 (1u << q->slice_bits) - t->at));
	t->entry = entry_at(t, 0);
	t->way = way_of(q, t->guest, t->entry);
	t->host = host_of(q, t->guest, t->entry);
	if (!q2_entry_valid(q, t->guest, t->entry))
		return q2_corrupt(q, "a cluster out of place", t->entry & QCOW2_OFFSET);
	limit_to_alike(q, t);
	return q->data_raw ? q2_data_map(q, t->guest, t->clusters, t->slice, &r->wait) : 0;
}

/* Before a write there: never over metadata, whatever the tables say. */
static int check_host(struct qcow2 *q, uint64_t host, uint64_t clusters)
{
	if (q->data)
		return 0;
	if ((host >> q->cluster_bits) + clusters > q->file_clusters)
		q->wrote_past_end = true;
	if (!q2_meta_any(q, host >> q->cluster_bits, clusters))
		return 0;
	return q2_corrupt(q, "a data cluster that is metadata as well", host);
}

/* --- the write itself --- */

static void set_entries(struct q2_piece *piece)
{
	struct qcow2 *q = piece->r->q;
	uint64_t at = piece->guest & ((1u << q->slice_bits) - 1);

	for (uint64_t i = 0; i < piece->count; i++) {
		uint64_t *entry = &piece->slice->l2[at + i];

		if (piece->taken)
			q2_unlink_entry(q, be64toh(*entry));
		*entry = htobe64((piece->host + (i << q->cluster_bits)) | QCOW2_COPIED);
	}
	q2_slice_dirty(q, piece->slice);
}

static void alloc_end(struct q2_piece *piece, int err)
{
	struct qcow2 *q = piece->r->q;
	struct q2_cow *cow = piece->cow;

	piece->cow = NULL;
	if (!err) {
		set_entries(piece);
	} else if (piece->taken) {
		q2_give_back(q, piece->host >> q->cluster_bits, piece->count);
		q2_free_kick(q);
	}
	q2_piece_end(piece, err);
	q2_cow_put(q, cow);
}

static void written(struct xfer *xfer, int err)
{
	struct q2_piece *piece = CONTAINER_OF(xfer, struct q2_piece, xfer);

	if (piece->kind == Q2_PIECE_ALLOC)
		alloc_end(piece, err);
	else
		q2_piece_end(piece, err);
}

static void write_piece(struct q2_piece *piece)
{
	uint64_t len = 0;

	for (unsigned int i = 0; i < piece->iovcnt; i++)
		len += piece->iov[i].iov_len;
	piece->xfer.done = written;
	xfer_write(&piece->xfer, piece->r->q->data_bio, piece->iov, piece->iovcnt, len,
		   piece->data_offset);
}

static void source_read(struct q2_piece *piece, int err)
{
	if (err)
		alloc_end(piece, err);
	else
		write_piece(piece);
}

static void old_read(struct xfer *xfer, int err)
{
	source_read(CONTAINER_OF(xfer, struct q2_piece, xfer), err);
}

static void below_read(struct blk_req *below, int err)
{
	source_read(CONTAINER_OF(below, struct q2_piece, below), err);
}

/* The cluster as the backing file has it; zeroes from that one's end on. */
static void read_below(struct q2_piece *piece)
{
	struct qcow2 *q = piece->r->q;
	uint64_t offset = piece->guest << q->cluster_bits;
	uint64_t len = MIN(q->cluster_bytes, q->backing_bytes - offset);

	memset(piece->cow->data + len, 0, q->cluster_bytes - len);
	piece->cow->iov = (struct iovec){piece->cow->data, len};
	piece->below.done = below_read;
	q2_read_backing(piece, offset, len, &piece->cow->iov, 1);
}

static int add_filling(struct q2_piece *piece, uint64_t from, uint64_t to)
{
	int err = 0;

	while (from < to && !err) {
		uint64_t n = MIN(to - from, ZERO_BLOCK_BYTES);

		err = piece->cow ? q2_piece_add(piece, piece->cow->data + from, to - from)
				 : q2_piece_add(piece, zero_block(), n);
		from = piece->cow ? to : from + n;
	}
	return err;
}

/* Memory for the write: head, data, tail; without filling just the data. */
static int gather(struct q2_piece *piece, const struct target *t, bool fill)
{
	const struct qcow2 *q = piece->r->q;
	uint64_t end = t->skip + t->len, tail = align_up(end, q->cluster_bytes);
	int err = 0;

	if (q->data && q->data_bio->is_device) /* it may end within the disk's last cluster */
		tail = MIN(tail, MAX(q->data_bio->size_bytes - t->host, end));

	piece->data_offset = piece->host + (fill ? 0 : t->skip);
	if (fill)
		err = add_filling(piece, 0, t->skip);
	if (!err)
		err = q2_piece_gather(piece, t->len);
	if (!err && fill)
		/* `cow` holds one cluster, and then there is but one */
		err = add_filling(piece, end, tail);
	return err;
}

static int start_in_place(struct q2_req *r, const struct target *t)
{
	const struct blk_req *req = q2_blk_req(r);
	struct qcow2 *q = r->q;
	struct q2_piece *piece;
	int err = check_host(q, t->host, t->clusters);

	if (err)
		return err;
	piece = q2_piece_get(r, Q2_PIECE_IO);
	if (!piece)
		return -ENOMEM;
	piece->xfer.done = written;
	if (req->op == BLK_WRITE && t->len == req->len_bytes) {
		q2_req_advance(r, t->len);
		xfer_write(&piece->xfer, q->data_bio, req->iov, req->iovcnt, t->len,
			   t->host + t->skip);
		return 0;
	}
	piece->host = t->host;
	err = gather(piece, t, false);
	if (err) {
		q2_piece_put(piece, err);
		return err;
	}
	q2_req_advance(r, t->len);
	write_piece(piece);
	return 0;
}

/* With clusters at `host`: nothing waits from here on. */
static int start_alloc(struct q2_req *r, const struct target *t, uint64_t host, bool taken,
		       bool fill, struct q2_cow *cow)
{
	struct qcow2 *q = r->q;
	struct q2_piece *piece = q2_piece_get(r, Q2_PIECE_ALLOC);
	int err;

	if (!piece) {
		if (taken)
			q2_give_back(q, host >> q->cluster_bits, t->clusters);
		q2_cow_put(q, cow);
		return -ENOMEM;
	}
	piece->host = host;
	piece->taken = taken;
	piece->cow = cow;
	q2_piece_lock(piece, t->guest, t->clusters, t->slice);
	err = gather(piece, t, fill);
	if (err) {
		alloc_end(piece, err);
		return err;
	}
	q2_req_advance(r, t->len);
	if (!cow || t->way == WAY_UNPACK) {
		write_piece(piece);
	} else if (t->way == WAY_BACKING) {
		read_below(piece);
	} else {
		piece->xfer.done = old_read;
		xfer_read_buf(&piece->xfer, q->blk.bio, cow->data, q->cluster_bytes, t->host);
	}
	return 0;
}

/* Memory for what the write leaves of a cluster; of a compressed one, filled. */
static int get_source(struct q2_req *r, const struct target *t, struct q2_cow **cow)
{
	const unsigned char *data = NULL;
	struct qcow2 *q = r->q;
	int err = 0;

	if (t->way == WAY_UNPACK)
		err = q2_unpack_get(q, t->guest, t->entry, &r->wait, &data);
	if (!err)
		err = q2_cow_get(q, &r->wait, cow);
	if (!err && data)
		memcpy((*cow)->data, data, q->cluster_bytes);
	return err;
}

/* Clusters for the target: any, or in an external file those that are meant for it. */
static int take(struct q2_req *r, const struct target *t, struct q2_got *got)
{
	if (!r->q->data)
		return q2_take(r->q, t->clusters, &r->wait, got);
	*got = (struct q2_got){.cluster = t->guest, .count = t->clusters};
	return 0;
}

static int start_new(struct q2_req *r, struct target *t)
{
	struct qcow2 *q = r->q;
	struct q2_cow *cow = NULL;
	struct q2_got got;
	bool has_source = t->way != WAY_NEW, partial;
	int err = 0;

	if (has_source)
		limit_copy(q, t);
	partial = (t->skip | t->len) & (q->cluster_bytes - 1);
	if (has_source && partial)
		err = get_source(r, t, &cow);
	if (!err)
		err = take(r, t, &got);
	if (err) {
		if (cow)
			q2_cow_put(q, cow);
		return err;
	}
	limit_clusters(q, t, got.count);
	err = check_host(q, got.cluster << q->cluster_bits, got.count);
	if (err) {
		q2_cow_put(q, cow);
		return err;
	}
	return start_alloc(r, t, got.cluster << q->cluster_bits, !q->data,
			   cow || (partial && !got.zeroed), cow);
}

int q2_write_step(struct q2_req *r, uint64_t len)
{
	struct qcow2 *q = r->q;
	uint64_t clusters;
	struct target t;
	int err = find_target(r, len, &t);

	if (err)
		return err;
	if (t.way == WAY_IN_PLACE)
		return start_in_place(r, &t);
	err = q2_dirty_room(q, &r->wait);
	clusters = t.clusters;
	if (!err)
		err = q2_unowned(q, t.guest, &clusters, &r->wait);
	if (err)
		return err;
	limit_clusters(q, &t, clusters);
	if (t.way != WAY_KEEP)
		return start_new(r, &t);
	err = check_host(q, t.host, t.clusters);
	return err ? err : start_alloc(r, &t, t.host, false, true, NULL);
}
