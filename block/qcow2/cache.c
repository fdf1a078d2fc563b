/* SPDX-License-Identifier: MIT */
/*
 * Cached metadata. L2 tables and refcount blocks come in slices, found through flat arrays by
 * the guest offset, or the host cluster, that they describe. Slices that are loading, pinned,
 * dirty or frozen stay; of the others the clock's hand takes one that was not used of late.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/qcow2/impl.h"
#include "util/util.h"

#define L2_CACHE_BYTES_MAX MIB(32)
#define SPARE_SLICES 64 /* for refcounts, and what is pinned */
#define DIRTY_KICK 256  /* slices: commit without being asked */
#define SLICES_MIN 8u
#define NO_INDEX UINT32_MAX

/* --- queues of who waits --- */

void q2_waitq_init(struct q2_waitq *queue)
{
	queue->first = NULL;
	queue->last = &queue->first;
}

void q2_waitq_add(struct q2_waitq *queue, struct q2_wait *wait)
{
	wait->next = NULL;
	*queue->last = wait;
	queue->last = &wait->next;
}

void q2_waitq_move(struct q2_waitq *to, struct q2_waitq *from)
{
	q2_waitq_init(to);
	if (!from->first)
		return;
	*to = *from;
	q2_waitq_init(from);
}

void q2_waitq_wake(struct q2_waitq *queue, int err)
{
	struct q2_wait *wait = queue->first, *next;

	q2_waitq_init(queue);
	for (; wait; wait = next) {
		next = wait->next;
		wait->wake(wait, err);
	}
}

/* --- slices --- */

int q2_cache_init(struct qcow2 *q, uint32_t bytes)
{
	struct q2_cache *cache = &q->cache;
	uint64_t per_slice = q->cluster_bytes << q->slice_bits;
	uint64_t slices = (q->blk.info.size_bytes + per_slice - 1) / per_slice;

	q2_waitq_init(&cache->room);
	cache->capacity = (uint32_t)MIN(slices, L2_CACHE_BYTES_MAX / q->slice_bytes) +
			  SPARE_SLICES;
	if (bytes)
		cache->capacity = MAX(bytes / q->slice_bytes, SLICES_MIN);
	cache->slices = calloc(cache->capacity, sizeof(*cache->slices));
	cache->maps[Q2_L2] = calloc(slices, sizeof(*cache->maps[Q2_L2]));
	cache->map_len[Q2_L2] = slices;
	if (!cache->slices || !cache->maps[Q2_L2])
		return -ENOMEM;
	return 0;
}

/* Refcounts: there are as many slices as the file has grown to need. */
static int grow_map(struct qcow2 *q, uint64_t index)
{
	uint64_t *len = &q->cache.map_len[Q2_REFCOUNT], want;
	struct q2_slice **map;

	if (index < *len)
		return 0;
	want = MAX(index + 1, 2 * *len);
	map = realloc(q->cache.maps[Q2_REFCOUNT], want * sizeof(*map));
	if (!map)
		return -ENOMEM;
	memset(map + *len, 0, (want - *len) * sizeof(*map));
	q->cache.maps[Q2_REFCOUNT] = map;
	*len = want;
	return 0;
}

static void slice_free(struct q2_slice *slice)
{
	free(slice->data);
	free(slice);
}

void q2_cache_finish(struct qcow2 *q)
{
	for (uint32_t i = 0; i < q->cache.count; i++)
		slice_free(q->cache.slices[i]);
	free(q->cache.slices);
	for (int kind = 0; kind < Q2_KINDS; kind++)
		free(q->cache.maps[kind]);
}

uint64_t q2_slice_host(const struct qcow2 *q, const struct q2_slice *slice)
{
	/* Entries per table and per slice differ only by the slices that a table has. */
	uint32_t bits = q->cluster_bits - (uint32_t)__builtin_ctz(q->slice_bytes);
	uint64_t table = slice->index >> bits;
	uint64_t within = (uint64_t)(slice->index & ((1u << bits) - 1)) * q->slice_bytes;

	if (slice->kind == Q2_L2)
		return (q2_l1_entry(q, table) & QCOW2_OFFSET) + within;
	return be64toh(q->reftable[table]) + within;
}

static bool evictable(const struct q2_slice *slice)
{
	return slice->loaded && !slice->pins && !slice->dirty && !slice->frozen;
}

/* An old slice to reuse: two turns of the hand find one if there is one. */
static struct q2_slice *evict(struct q2_cache *cache)
{
	for (uint32_t i = 0; i < 2 * cache->count; i++) {
		struct q2_slice *slice = cache->slices[cache->hand];

		cache->hand = (cache->hand + 1) % cache->count;
		if (!evictable(slice))
			continue;
		if (!slice->referenced) {
			if (slice->index != NO_INDEX)
				cache->maps[slice->kind][slice->index] = NULL;
			return slice;
		}
		slice->referenced = false;
	}
	return NULL;
}

/* Beyond the capacity only when there is no other way. */
static struct q2_slice *slice_new(struct qcow2 *q)
{
	struct q2_cache *cache = &q->cache;
	struct q2_slice *slice, **slices;

	if (cache->count >= cache->capacity) {
		slices = realloc(cache->slices, (cache->count + 1) * sizeof(struct q2_slice *));
		if (!slices)
			return NULL;
		cache->slices = slices;
	}
	slice = calloc(1, sizeof(*slice));
	if (!slice)
		return NULL;
	slice->data = aligned_alloc(MAX(512u, q->blk.bio->mem_align),
				    MAX(q->slice_bytes, q->blk.bio->mem_align));
	if (!slice->data) {
		free(slice);
		return NULL;
	}
	slice->q = q;
	q->cache.slices[q->cache.count++] = slice;
	return slice;
}

static void slice_loaded(struct xfer *xfer, int err)
{
	struct q2_slice *slice = CONTAINER_OF(xfer, struct q2_slice, xfer);
	struct qcow2 *q = slice->q;

	slice->loaded = true;
	if (err < 0) {
		log_guest(&q->log_read, "disk %s: cannot read its tables: %s", q->blk.name,
			  strerror(-err));
		q->cache.maps[slice->kind][slice->index] = NULL;
		slice->index = NO_INDEX;
	}
	slice->pins++;
	q2_waitq_wake(&slice->waiters, err);
	q2_slice_unpin(slice);
}

static struct q2_slice *slice_room(struct qcow2 *q)
{
	struct q2_cache *cache = &q->cache;
	struct q2_slice *slice = NULL;

	if (cache->count < cache->capacity)
		slice = slice_new(q);
	if (!slice)
		slice = evict(cache);
	/* What could not be written stays for ever: reading must go on without it. */
	if (!slice && q->failed)
		slice = slice_new(q);
	return slice;
}

static int slice_load(struct qcow2 *q, enum q2_kind kind, uint64_t index, struct q2_wait *wait)
{
	struct q2_cache *cache = &q->cache;
	struct q2_slice *slice = slice_room(q);

	if (!slice && (q->failed || cache->count < cache->capacity))
		return -ENOMEM;
	if (!slice) {
		q2_waitq_add(&cache->room, wait);
		q2_commit_kick(q);
		return Q2_PARKED;
	}
	slice->kind = kind;
	slice->index = (uint32_t)index;
	slice->loaded = false;
	slice->referenced = true;
	q2_waitq_init(&slice->waiters);
	q2_waitq_add(&slice->waiters, wait);
	cache->maps[kind][index] = slice;
	slice->xfer.done = slice_loaded;
	xfer_read_buf(&slice->xfer, q->blk.bio, slice->data, q->slice_bytes,
		      q2_slice_host(q, slice));
	return Q2_PARKED;
}

int q2_slice_get(struct qcow2 *q, enum q2_kind kind, uint64_t index, struct q2_wait *wait,
		 struct q2_slice **out)
{
	struct q2_slice *slice;

	if (kind == Q2_REFCOUNT && grow_map(q, index) < 0)
		return -ENOMEM;
	slice = q->cache.maps[kind][index];
	if (!slice)
		return slice_load(q, kind, index, wait);
	if (!slice->loaded) {
		q2_waitq_add(&slice->waiters, wait);
		return Q2_PARKED;
	}
	slice->referenced = true;
	*out = slice;
	return 0;
}

void q2_slice_pin(struct q2_slice *slice)
{
	slice->pins++;
}

void q2_slice_unpin(struct q2_slice *slice)
{
	slice->pins--;
	if (evictable(slice))
		q2_cache_room(slice->q);
}

static void room_wake(struct loop_op *op, int res)
{
	struct q2_cache *cache = CONTAINER_OF(op, struct q2_cache, room_op);

	cache->room_due = false;
	q2_waitq_wake(&cache->room, 0);
}

void q2_cache_room(struct qcow2 *q)
{
	if (!q->cache.room.first || q->cache.room_due)
		return;
	q->cache.room_due = true;
	q->cache.room_op.done = room_wake;
	q->blk.bio->ops->defer(q->blk.bio, &q->cache.room_op);
}

void q2_slice_dirty(struct qcow2 *q, struct q2_slice *slice)
{
	if (slice->dirty)
		return;
	slice->dirty = true;
	slice->next_dirty = q->cache.dirty[slice->kind];
	q->cache.dirty[slice->kind] = slice;
	q->cache.dirty_count[slice->kind]++;
	if (q->cache.dirty_count[Q2_L2] + q->cache.dirty_count[Q2_REFCOUNT] >= DIRTY_KICK)
		q2_commit_kick(q);
	else if (q->timer)
		loop_watch_resume(q->loop, q->timer);
}

/* Half of the cache stays for reading. */
int q2_dirty_room(struct qcow2 *q, struct q2_wait *wait)
{
	struct q2_cache *cache = &q->cache;
	uint32_t dirty = cache->dirty_count[Q2_L2] + cache->dirty_count[Q2_REFCOUNT] +
			 q->commit.slice_count;

	if (dirty < cache->capacity / 2)
		return 0;
	q2_commit_kick(q);
	q2_waitq_add(&cache->room, wait);
	return Q2_PARKED;
}
