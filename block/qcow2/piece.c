/* SPDX-License-Identifier: MIT */
/* Pieces of requests: their memory, the guest clusters that they own, and memory to copy in. */
#include <errno.h>
#include <stdlib.h>

#include "block/qcow2/impl.h"
#include "util/util.h"

#define COW_BYTES_MAX MIB(8)

struct q2_piece *q2_piece_get(struct q2_req *r, enum q2_piece_kind kind)
{
	struct qcow2 *q = r->q;
	struct q2_piece *piece = q->free_pieces;

	if (piece)
		q->free_pieces = piece->next;
	else
		piece = calloc(1, sizeof(*piece));
	if (!piece)
		return NULL;
	piece->r = r;
	piece->parity = q->parity;
	q->live[piece->parity]++;
	piece->kind = kind;
	piece->iovcnt = 0;
	r->pieces++;
	return piece;
}

void q2_piece_put(struct q2_piece *piece, int err)
{
	struct q2_req *r = piece->r;
	struct qcow2 *q = r->q;

	q->live[piece->parity]--;
	piece->next = q->free_pieces;
	q->free_pieces = piece;
	if (q->freeing.waiting)
		q2_free_kick(q);
	if (err && !r->err)
		r->err = err;
	if (r->stalled) {
		r->stalled = false;
		r->pieces -= 2; /* this one, and what stalling held */
		q2_req_run(r);
	} else if (--r->pieces == 0) {
		q2_req_finish(r, r->err);
	}
}

int q2_piece_add(struct q2_piece *piece, void *base, size_t len)
{
	if (piece->iovcnt == piece->iov_capacity) {
		unsigned int capacity = MAX(2 * piece->iov_capacity, 8);
		struct iovec *iov = realloc(piece->iov, capacity * sizeof(*iov));

		if (!iov)
			return -ENOMEM;
		piece->iov = iov;
		piece->iov_capacity = capacity;
	}
	piece->iov[piece->iovcnt++] = (struct iovec){base, len};
	return 0;
}

static int gather_zeroes(struct q2_piece *piece, uint64_t len)
{
	int r = 0;

	while (len && !r) {
		uint64_t n = MIN(len, ZERO_BLOCK_BYTES);

		r = q2_piece_add(piece, zero_block(), n);
		len -= n;
	}
	return r;
}

/* The request's memory from `pos` on; zeroes where it writes zeroes. */
int q2_piece_gather(struct q2_piece *piece, uint64_t len)
{
	struct q2_req *r = piece->r;
	struct blk_req *req = q2_blk_req(r);
	unsigned int i = r->iov_index;
	size_t skip = r->iov_skip;
	int err = 0;

	if (req->op != BLK_READ && req->op != BLK_WRITE)
		return gather_zeroes(piece, len);
	while (len && !err) {
		size_t n = MIN(len, req->iov[i].iov_len - skip);

		if (n)
			err = q2_piece_add(piece, (char *)req->iov[i].iov_base + skip, n);
		len -= n;
		skip = 0;
		i++;
	}
	return err;
}

/* Move the request's cursor past `len` bytes. */
void q2_req_advance(struct q2_req *r, uint64_t len)
{
	const struct blk_req *req = q2_blk_req(r);

	r->pos += len;
	if (req->op != BLK_READ && req->op != BLK_WRITE)
		return;
	while (len) {
		size_t n = MIN(len, req->iov[r->iov_index].iov_len - r->iov_skip);

		r->iov_skip += n;
		len -= n;
		if (r->iov_skip < req->iov[r->iov_index].iov_len)
			break;
		r->iov_index++;
		r->iov_skip = 0;
	}
}

/* --- owning guest clusters --- */

void q2_piece_lock(struct q2_piece *piece, uint64_t guest, uint64_t count,
		   struct q2_slice *slice)
{
	piece->guest = guest;
	piece->count = count;
	piece->slice = slice;
	piece->locked = true;
	q2_slice_pin(slice);
	q2_waitq_init(&piece->waiters);
	LIST_INSERT_HEAD(&piece->r->q->owned, piece, entry);
}

int q2_unowned(struct qcow2 *q, uint64_t guest, uint64_t *count, struct q2_wait *wait)
{
	struct q2_piece *piece;

	LIST_FOREACH(piece, &q->owned, entry) {
		if (piece->guest >= guest + *count || guest >= piece->guest + piece->count)
			continue;
		if (piece->guest <= guest) {
			q2_waitq_add(&piece->waiters, wait);
			return Q2_PARKED;
		}
		*count = piece->guest - guest;
	}
	return 0;
}

static void piece_unlock(struct q2_piece *piece)
{
	piece->locked = false;
	LIST_REMOVE(piece, entry);
	q2_slice_unpin(piece->slice);
}

/* The piece is done with: let go of what it owned, then tell its request and who waits. */
void q2_piece_end(struct q2_piece *piece, int err)
{
	struct q2_waitq waiters;

	q2_waitq_init(&waiters);
	if (piece->locked) {
		piece_unlock(piece);
		q2_waitq_move(&waiters, &piece->waiters);
	}
	q2_piece_put(piece, err);
	q2_waitq_wake(&waiters, 0);
}

/* --- copying --- */

int q2_cow_get(struct qcow2 *q, struct q2_wait *wait, struct q2_cow **out)
{
	struct q2_cow *cow = q->free_cows;

	if (cow) {
		q->free_cows = cow->next;
		*out = cow;
		return 0;
	}
	if (q->cows >= MAX(COW_BYTES_MAX >> q->cluster_bits, 4)) {
		q2_waitq_add(&q->cache.room, wait);
		return Q2_PARKED;
	}
	cow = calloc(1, sizeof(*cow));
	if (cow)
		cow->data = aligned_alloc(4096, align_up(q->cluster_bytes, 4096));
	if (!cow || !cow->data) {
		free(cow);
		return -ENOMEM;
	}
	q->cows++;
	*out = cow;
	return 0;
}

void q2_cow_put(struct qcow2 *q, struct q2_cow *cow)
{
	if (!cow)
		return;
	cow->next = q->free_cows;
	q->free_cows = cow;
	q2_cache_room(q);
}
