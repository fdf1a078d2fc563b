/* SPDX-License-Identifier: MIT */
/*
 * New L2 tables: where there was none, or where a snapshot shares the one there is. The new
 * one is complete on its way to disk, as zeroes or as a copy, before L1 points to it in memory;
 * so whatever later reaches the disk of its slices, the table is whole.
 */
#include <errno.h>
#include <stdlib.h>

#include "block/qcow2/impl.h"
#include "util/util.h"

/* A new L2 table in the making. */
struct q2_l2_new {
	LIST_ENTRY(q2_l2_new) entry;
	struct qcow2 *q;
	uint64_t index;   /* in L1 */
	uint64_t old;     /* to copy from, or 0 */
	uint64_t host;
	unsigned char *buf;
	struct xfer xfer;
	struct q2_wait wait;
	struct q2_waitq waiters;
};

/* Returns what came of it. */
static int end(struct q2_l2_new *n, int err)
{
	struct qcow2 *q = n->q;
	struct q2_waitq waiters;

	if (!err)
		err = q2_meta_set(q, n->host >> q->cluster_bits, 1);
	if (!err) {
		q2_l1_set(q, n->index, n->host | QCOW2_COPIED);
		if (n->old)
			q2_unlink(q, n->old >> q->cluster_bits);
	} else if (n->host) {
		q2_give_back(q, n->host >> q->cluster_bits, 1);
		q2_free_kick(q);
	}
	q2_waitq_move(&waiters, &n->waiters);
	LIST_REMOVE(n, entry);
	free(n->buf);
	free(n);
	q2_waitq_wake(&waiters, err);
	return err;
}

static void written(struct xfer *xfer, int err)
{
	end(CONTAINER_OF(xfer, struct q2_l2_new, xfer), err);
}

static void old_read(struct xfer *xfer, int err)
{
	struct q2_l2_new *n = CONTAINER_OF(xfer, struct q2_l2_new, xfer);

	if (err) {
		end(n, err);
		return;
	}
	n->xfer.done = written;
	xfer_write_buf(&n->xfer, n->q->blk.bio, n->buf, n->q->cluster_bytes, n->host);
}

/* Take a cluster and fill it. 0 if that is done, Q2_PARKED if it is under way, or -errno. */
static int start(struct q2_l2_new *n)
{
	struct qcow2 *q = n->q;
	struct q2_got got;
	int r = q2_take(q, 1, &n->wait, &got);

	if (r)
		return r;
	n->host = got.cluster << q->cluster_bits;
	if (n->old) {
		n->buf = aligned_alloc(4096, align_up(q->cluster_bytes, 4096));
		if (!n->buf)
			return -ENOMEM;
		n->xfer.done = old_read;
		xfer_read_buf(&n->xfer, q->blk.bio, n->buf, q->cluster_bytes, n->old);
		return Q2_PARKED;
	}
	if (got.zeroed)
		return 0;
	n->xfer.done = written;
	xfer_zero(&n->xfer, q->blk.bio, q->cluster_bytes, n->host);
	return Q2_PARKED;
}

static void wake(struct q2_wait *wait, int err)
{
	struct q2_l2_new *n = CONTAINER_OF(wait, struct q2_l2_new, wait);

	if (!err)
		err = start(n);
	if (err != Q2_PARKED)
		end(n, err);
}

static struct q2_l2_new *find(struct qcow2 *q, uint64_t index)
{
	struct q2_l2_new *n;

	LIST_FOREACH(n, &q->new_l2, entry) {
		if (n->index == index)
			return n;
	}
	return NULL;
}

int q2_l2_ensure(struct qcow2 *q, uint64_t guest, struct q2_wait *wait)
{
	uint64_t index = guest >> q->l2_bits, entry = q2_l1_entry(q, index);
	struct q2_l2_new *n;
	int r;

	if ((entry & QCOW2_COPIED) && (entry & QCOW2_OFFSET))
		return 0;
	n = find(q, index);
	if (n) {
		q2_waitq_add(&n->waiters, wait);
		return Q2_PARKED;
	}
	r = q2_dirty_room(q, wait);
	if (r)
		return r;
	n = calloc(1, sizeof(*n));
	if (!n)
		return -ENOMEM;
	n->q = q;
	n->index = index;
	n->old = entry & QCOW2_OFFSET;
	n->wait.wake = wake;
	q2_waitq_init(&n->waiters);
	LIST_INSERT_HEAD(&q->new_l2, n, entry);
	r = start(n);
	if (r != Q2_PARKED)
		return end(n, r); /* nobody waits yet */
	q2_waitq_add(&n->waiters, wait);
	return Q2_PARKED;
}
