/* SPDX-License-Identifier: MIT */
/*
 * Compressed clusters. The file is read by the loop, unpacking is done beside it, and the result
 * is kept, least recently used out first, because guests read less than a cluster at a time.
 * The key is the L2 entry: nobody writes compressed clusters, so for as long as an entry is in
 * use it means the same bytes. All clusters of one read are begun together, and a reader who
 * goes forward finds the next ones done.
 */
#include "block/qcow2/unpack.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/decompress.h"
#include "block/qcow2/impl.h"
#include "util/loop.h"
#include "util/util.h"

#define CACHE_BYTES MIB(16)
#define CLUSTERS_MIN 16u
#define CLUSTERS_MAX 4096u
#define AHEAD_BYTES MIB(1)
#define AT_ONCE 64u /* clusters */
#define SECTOR 512

struct q2_unpacked {
	LIST_ENTRY(q2_unpacked) bucket;
	TAILQ_ENTRY(q2_unpacked) lru;
	struct qcow2 *q;
	uint64_t entry;
	bool ready;
	bool used; /* somebody had it */
	int err;
	uint32_t skip, packed_len; /* in `packed`, which begins at a sector */
	unsigned char *packed;     /* while it is on its way */
	unsigned char *data;
	struct q2_waitq waiters;
	struct xfer xfer;
	struct loop_work work;
	struct loop_op op; /* where there is no loop to work beside */
};

struct q2_packed q2_packed_at(const struct qcow2 *q, uint64_t entry)
{
	uint32_t bits = 62 - (q->cluster_bits - 8);
	uint64_t host = entry & ((1ull << bits) - 1);
	uint32_t sectors = (uint32_t)(entry >> bits & ((1u << (q->cluster_bits - 8)) - 1)) + 1;

	return (struct q2_packed){host, sectors * SECTOR - (uint32_t)(host % SECTOR)};
}

void q2_unpack_init(struct qcow2 *q)
{
	struct q2_unpack *u = &q->unpack;

	for (unsigned int i = 0; i < Q2_UNPACK_BUCKETS; i++)
		LIST_INIT(&u->buckets[i]);
	TAILQ_INIT(&u->lru);
	u->max = (unsigned int)(CACHE_BYTES >> q->cluster_bits);
	u->max = MIN(MAX(u->max, CLUSTERS_MIN), CLUSTERS_MAX);
	u->last = UINT64_MAX;
}

static void unpacked_free(struct q2_unpacked *c)
{
	LIST_REMOVE(c, bucket);
	TAILQ_REMOVE(&c->q->unpack.lru, c, lru);
	c->q->unpack.count--;
	c->q->unpack.unused -= !c->used;
	free(c->packed);
	free(c->data);
	free(c);
}

void q2_unpack_finish(struct qcow2 *q)
{
	struct q2_unpacked *c;

	if (!q->unpack.max)
		return; /* the image was not opened */
	while ((c = TAILQ_FIRST(&q->unpack.lru)))
		unpacked_free(c);
}

static unsigned int bucket_of(uint64_t entry)
{
	return (unsigned int)((entry >> 9 ^ entry >> 20) % Q2_UNPACK_BUCKETS);
}

static struct q2_unpacked *find(struct qcow2 *q, uint64_t entry)
{
	struct q2_unpacked *c;

	LIST_FOREACH(c, &q->unpack.buckets[bucket_of(entry)], bucket) {
		if (c->entry == entry)
			return c;
	}
	return NULL;
}

/* --- unpacking --- */

static void finish(struct q2_unpacked *c, int err)
{
	struct qcow2 *q = c->q;
	struct q2_waitq waiters;

	free(c->packed);
	c->packed = NULL;
	c->ready = true;
	q2_waitq_init(&waiters);
	q2_waitq_move(&waiters, &c->waiters);
	if (err) {
		log_guest(&q->log_read, "disk %s: cannot unpack the cluster at 0x%llx: %s",
			  q->blk.name, (unsigned long long)q2_packed_at(q, c->entry).host,
			  err == -EIO ? "damaged" : strerror(-err));
		unpacked_free(c);
	}
	q2_waitq_wake(&waiters, err);
	q2_cache_room(q);
}

static void unpack_run(struct loop_work *work)
{
	struct q2_unpacked *c = CONTAINER_OF(work, struct q2_unpacked, work);

	c->err = decompress((enum decompress_type)c->q->header.compression, c->packed + c->skip,
			    c->packed_len - c->skip, c->data, c->q->cluster_bytes);
}

static void unpack_done(struct loop_work *work)
{
	struct q2_unpacked *c = CONTAINER_OF(work, struct q2_unpacked, work);

	finish(c, c->err);
}

static void unpacked_here(struct loop_op *op, int res)
{
	struct q2_unpacked *c = CONTAINER_OF(op, struct q2_unpacked, op);

	finish(c, c->err);
}

static void packed_read(struct xfer *xfer, int err)
{
	struct q2_unpacked *c = CONTAINER_OF(xfer, struct q2_unpacked, xfer);
	struct bio *bio = c->q->blk.bio;

	if (err) {
		finish(c, err);
		return;
	}
	c->work.run = unpack_run;
	c->work.done = unpack_done;
	if (!bio_is_sync(bio)) {
		loop_work(c->q->loop, &c->work);
		return;
	}
	unpack_run(&c->work);
	c->op.done = unpacked_here;
	bio->ops->defer(bio, &c->op);
}

/* --- the cache --- */

/* A cluster's place: a new one, or the one not used for longest. NULL: all are on their way. */
static struct q2_unpacked *place(struct qcow2 *q)
{
	struct q2_unpack *u = &q->unpack;
	struct q2_unpacked *c = NULL;

	if (u->count >= u->max) {
		TAILQ_FOREACH_REVERSE(c, &u->lru, q2_unpack_lru, lru) {
			if (c->ready)
				break;
		}
		if (!c)
			return NULL;
		unpacked_free(c);
	}
	c = calloc(1, sizeof(*c));
	if (c)
		c->data = malloc(q->cluster_bytes);
	if (!c || !c->data) {
		free(c);
		return NULL;
	}
	u->count++;
	u->unused++;
	return c;
}

static struct q2_unpacked *start(struct qcow2 *q, uint64_t entry)
{
	struct q2_packed at = q2_packed_at(q, entry);
	struct q2_unpacked *c = place(q);

	if (!c)
		return NULL;
	c->q = q;
	c->entry = entry;
	q2_waitq_init(&c->waiters);
	LIST_INSERT_HEAD(&q->unpack.buckets[bucket_of(entry)], c, bucket);
	TAILQ_INSERT_HEAD(&q->unpack.lru, c, lru);
	c->skip = at.host % SECTOR;
	c->packed_len = c->skip + at.len;
	c->packed = aligned_alloc(4096, align_up(c->packed_len, 4096));
	if (!c->packed) {
		unpacked_free(c);
		return NULL;
	}
	c->xfer.done = packed_read;
	xfer_read_buf(&c->xfer, q->blk.bio, c->packed, c->packed_len, at.host - c->skip);
	return c;
}

static bool in_file(const struct qcow2 *q, uint64_t entry)
{
	struct q2_packed at = q2_packed_at(q, entry);

	return !q->data && at.host >= q->cluster_bytes &&
	       at.host < MAX(q->blk.bio->size_bytes, q->file_clusters << q->cluster_bits);
}

int q2_unpack_get(struct qcow2 *q, uint64_t guest, uint64_t entry, struct q2_wait *wait,
		  const unsigned char **data)
{
	struct q2_unpacked *c = find(q, entry);

	if (!c && !in_file(q, entry))
		return q2_corrupt(q, "a compressed cluster out of place",
				  q2_packed_at(q, entry).host);
	if (!c)
		c = start(q, entry);
	if (!c && !q->unpack.count)
		return -ENOMEM;
	if (!c || !c->ready) {
		q2_waitq_add(c ? &c->waiters : &q->cache.room, wait);
		return Q2_PARKED;
	}
	TAILQ_REMOVE(&q->unpack.lru, c, lru);
	TAILQ_INSERT_HEAD(&q->unpack.lru, c, lru);
	q->unpack.unused -= !c->used;
	c->used = true;
	q->unpack.last = guest;
	*data = c->data;
	return 0;
}

/* The L2 entry of a guest cluster, if it is at hand; else 0. */
static uint64_t peek(const struct qcow2 *q, uint64_t guest)
{
	uint64_t index = guest >> q->slice_bits;
	const struct q2_slice *slice;

	if (index >= q->cache.map_len[Q2_L2])
		return 0;
	slice = q->cache.maps[Q2_L2][index];
	return slice && slice->loaded ? be64toh(slice->l2[guest & ((1u << q->slice_bits) - 1)]) : 0;
}

void q2_unpack_ahead(struct qcow2 *q, uint64_t guest, uint64_t count)
{
	bool forward = guest == q->unpack.last || guest == q->unpack.last + 1;

	if (forward)
		count += MAX(AHEAD_BYTES >> q->cluster_bits, 1);
	count = MIN(count, MIN(q->unpack.max / 2, AT_ONCE));
	/* What nobody had yet must not push each other out. */
	for (uint64_t i = 0; i < count && q->unpack.unused < q->unpack.max / 2; i++) {
		uint64_t entry = peek(q, guest + i);

		if ((entry & QCOW2_COMPRESSED) && !find(q, entry) && in_file(q, entry))
			start(q, entry);
	}
}
