/* SPDX-License-Identifier: MIT */
/*
 * For tests: guest memory without KVM, and the driver's side of a split virtqueue in it.
 *
 *	struct mem mem;
 *	struct ring ring;
 *
 *	guest_init(&mem, KIB(64), KIB(64));
 *	ring_init(&ring, &mem, 8, 0x1000);
 *	config = ring_config(&ring);
 *	head = ring_add(&ring, (struct ring_buf[]){{0x4000, 16}, {0x5000, 512}}, 1, 1);
 *	... the device pops, pushes, publishes ...
 *	while (ring_used(&ring, &used)) ...
 *
 * ring_add keeps the rules; ring_desc and ring_offer write whatever a test wants. All of it is
 * done with atomic accesses, so that it may run in a thread beside the device's.
 */
#pragma once

#include <linux/virtio_ring.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "util/util.h"
#include "virtio/queue.h"
#include "vmm/mem.h"

#define RING_HIGH_GPA GIB(4)

/* Low RAM from 0, high RAM from 4 GiB unless 0 long; each an allocation the sanitizer fences. */
static inline void guest_init(struct mem *mem, size_t low_bytes, size_t high_bytes)
{
	*mem = (struct mem){.count = high_bytes ? 2 : 1};
	mem->regions[0] = (struct mem_region){0, low_bytes, aligned_alloc(4096, low_bytes)};
	memset(mem->regions[0].hva, 0, low_bytes);
	if (!high_bytes)
		return;
	mem->regions[1] =
		(struct mem_region){RING_HIGH_GPA, high_bytes, aligned_alloc(4096, high_bytes)};
	memset(mem->regions[1].hva, 0, high_bytes);
}

static inline void guest_finish(struct mem *mem)
{
	for (unsigned int i = 0; i < mem->count; i++)
		free(mem->regions[i].hva);
	mem->count = 0;
}

struct ring {
	const struct mem *mem;
	uint16_t size;
	bool event_idx, indirect;
	uint64_t desc_gpa, avail_gpa, used_gpa;
	_Atomic uint64_t *desc;  /* two words each */
	_Atomic uint16_t *avail; /* flags, idx, ring[size], used_event */
	_Atomic uint16_t *used;  /* flags, idx, {id, len}[size], avail_event */
	uint16_t avail_next;     /* the driver's own copies of both indices */
	uint16_t kicked;         /* avail_next at the last ring_wants_kick */
	uint16_t used_next;
	uint16_t free_head, free_count;
	uint16_t free_next[VQ_SIZE_MAX];  /* also links the descriptors of a chain in use */
	uint16_t chain_len[VQ_SIZE_MAX]; /* by head */
};

struct ring_buf {
	uint64_t gpa;
	uint32_t len;
};

struct ring_elem {
	uint32_t id, len;
};

/* Lay the ring out from `gpa`, a multiple of 16, and zero it. Returns the first gpa behind it. */
static inline uint64_t ring_init(struct ring *ring, const struct mem *mem, uint16_t size,
				 uint64_t gpa)
{
	uint64_t used_bytes = 6 + 8 * (uint64_t)size, avail_bytes = 6 + 2 * (uint64_t)size;

	memset(ring, 0, sizeof(*ring));
	ring->mem = mem;
	ring->size = size;
	ring->desc_gpa = gpa;
	ring->avail_gpa = gpa + 16 * (uint64_t)size;
	ring->used_gpa = align_up(ring->avail_gpa + avail_bytes, 4);
	ring->desc = mem_at(mem, ring->desc_gpa, 16 * (uint64_t)size);
	ring->avail = mem_at(mem, ring->avail_gpa, avail_bytes);
	ring->used = mem_at(mem, ring->used_gpa, used_bytes);
	if (!ring->desc || !ring->avail || !ring->used)
		abort();
	memset((void *)ring->desc, 0, 16 * (size_t)size);
	memset((void *)ring->avail, 0, avail_bytes);
	memset((void *)ring->used, 0, used_bytes);
	ring->free_count = size;
	for (uint16_t i = 0; i < size; i++)
		ring->free_next[i] = i + 1;
	return align_up(ring->used_gpa + used_bytes, 16);
}

/* What the device is told; set ring->event_idx and ->indirect before. */
static inline struct vq_config ring_config(const struct ring *ring)
{
	return (struct vq_config){
		.size = ring->size,
		.desc_gpa = ring->desc_gpa,
		.avail_gpa = ring->avail_gpa,
		.used_gpa = ring->used_gpa,
		.event_idx = ring->event_idx,
		.indirect = ring->indirect,
	};
}

/* --- raw: no rule is kept --- */

static inline void ring_put16(_Atomic uint16_t *at, uint16_t value)
{
	atomic_store_explicit(at, value, memory_order_relaxed);
}

/* Entry `index` of any table of descriptors. */
static inline void ring_table_desc(_Atomic uint64_t *table, unsigned int index, uint64_t gpa,
				   uint32_t len, uint16_t flags, uint16_t next)
{
	atomic_store_explicit(&table[2 * index], gpa, memory_order_relaxed);
	atomic_store_explicit(&table[2 * index + 1],
			      len | (uint64_t)flags << 32 | (uint64_t)next << 48,
			      memory_order_relaxed);
}

static inline void ring_desc(struct ring *ring, unsigned int index, uint64_t gpa, uint32_t len,
			     uint16_t flags, uint16_t next)
{
	ring_table_desc(ring->desc, index, gpa, len, flags, next);
}

/* avail->idx as given. */
static inline void ring_set_avail(struct ring *ring, uint16_t idx)
{
	ring->avail_next = idx;
	/* Release: with the device's acquire of avail->idx. seq_cst: with its store of
	 * avail_event or used->flags before that. */
	atomic_store_explicit(&ring->avail[1], idx, memory_order_seq_cst);
}

/* Make `head` available, whatever it is. */
static inline void ring_offer(struct ring *ring, uint16_t head)
{
	ring_put16(&ring->avail[2 + (ring->avail_next & (ring->size - 1))], head);
	ring_set_avail(ring, ring->avail_next + 1);
}

static inline void ring_set_used_event(struct ring *ring, uint16_t idx)
{
	atomic_store_explicit(&ring->avail[2 + ring->size], idx, memory_order_seq_cst);
}

static inline void ring_set_no_interrupt(struct ring *ring, bool on)
{
	ring_put16(&ring->avail[0], on ? VRING_AVAIL_F_NO_INTERRUPT : 0);
}

static inline uint16_t ring_avail_event(const struct ring *ring)
{
	return atomic_load_explicit(&ring->used[2 + 4 * ring->size], memory_order_seq_cst);
}

static inline uint16_t ring_used_flags(const struct ring *ring)
{
	return atomic_load_explicit(&ring->used[0], memory_order_seq_cst);
}

static inline uint16_t ring_used_idx(const struct ring *ring)
{
	return atomic_load_explicit(&ring->used[1], memory_order_seq_cst);
}

/* --- by the rules --- */

static inline uint16_t ring_take_desc(struct ring *ring)
{
	uint16_t index = ring->free_head;

	if (!ring->free_count--)
		abort();
	ring->free_head = ring->free_next[index];
	return index;
}

/*
 * Make a chain of out_count buffers for the device to read, then in_count for it to write,
 * available. Returns its head. Its descriptors are free again when ring_used returned it.
 */
static inline uint16_t ring_add(struct ring *ring, const struct ring_buf *bufs,
				unsigned int out_count, unsigned int in_count)
{
	unsigned int count = out_count + in_count;
	uint16_t head = ring->free_head, last = head;

	for (unsigned int i = 0; i < count; i++) {
		uint16_t flags = i < out_count ? 0 : VRING_DESC_F_WRITE;

		last = ring_take_desc(ring);
		if (i + 1 < count)
			flags |= VRING_DESC_F_NEXT;
		ring_desc(ring, last, bufs[i].gpa, bufs[i].len, flags, ring->free_head);
	}
	ring->chain_len[head] = (uint16_t)count;
	ring->free_next[last] = UINT16_MAX;
	ring_offer(ring, head);
	return head;
}

/* The same by an indirect table at `table_gpa`, a multiple of 8 here. */
static inline uint16_t ring_add_indirect(struct ring *ring, uint64_t table_gpa,
					 const struct ring_buf *bufs, unsigned int out_count,
					 unsigned int in_count)
{
	unsigned int count = out_count + in_count;
	_Atomic uint64_t *table = mem_at(ring->mem, table_gpa, 16 * (uint64_t)count);
	uint16_t head = ring_take_desc(ring);

	if (!table)
		abort();
	for (unsigned int i = 0; i < count; i++) {
		uint16_t flags = i < out_count ? 0 : VRING_DESC_F_WRITE;

		if (i + 1 < count)
			flags |= VRING_DESC_F_NEXT;
		ring_table_desc(table, i, bufs[i].gpa, bufs[i].len, flags, (uint16_t)(i + 1));
	}
	ring_desc(ring, head, table_gpa, 16 * count, VRING_DESC_F_INDIRECT, 0);
	ring->chain_len[head] = 1;
	ring->free_next[head] = UINT16_MAX;
	ring_offer(ring, head);
	return head;
}

/* Whether the driver must kick for what was made available since the last call (2.7.13.4.1). */
static inline bool ring_wants_kick(struct ring *ring)
{
	uint16_t old = ring->kicked, new = ring->avail_next;

	ring->kicked = new;
	if (new == old)
		return false;
	if (!ring->event_idx)
		return !(ring_used_flags(ring) & VRING_USED_F_NO_NOTIFY);
	return (uint16_t)(new - ring_avail_event(ring) - 1) < (uint16_t)(new - old);
}

/* Take the next used element. False: there is none. */
static inline bool ring_used(struct ring *ring, struct ring_elem *elem)
{
	_Atomic uint32_t *at = (_Atomic uint32_t *)&ring->used[2];
	uint16_t slot = ring->used_next & (ring->size - 1), left, index;

	if (ring_used_idx(ring) == ring->used_next)
		return false;
	elem->id = atomic_load_explicit(&at[2 * slot], memory_order_relaxed);
	elem->len = atomic_load_explicit(&at[2 * slot + 1], memory_order_relaxed);
	ring->used_next++;
	if (elem->id >= ring->size || !ring->chain_len[elem->id])
		return true; /* not one of ring_add's */
	left = ring->chain_len[elem->id];
	ring->chain_len[elem->id] = 0;
	ring->free_count += left;
	for (index = (uint16_t)elem->id; --left; index = ring->free_next[index])
		;
	ring->free_next[index] = ring->free_head;
	ring->free_head = (uint16_t)elem->id;
	return true;
}
