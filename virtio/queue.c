/* SPDX-License-Identifier: MIT */
/*
 * Split virtqueues, the device's side (virtio 1.2, section 2.7).
 *
 * Three structures lie in guest RAM. The driver writes the descriptor table and the available
 * ring, the device the used ring:
 *
 *	avail->idx ----------> last_avail: what has been popped
 *	                       used_next: what has been pushed
 *	used->idx <----------- used_published: what the driver was shown
 *
 * All four count upwards modulo 65536 and are never masked but to index a ring; differences of
 * them are computed in uint16_t, which makes wrapping harmless.
 *
 * The driver is not trusted. Every field is loaded once, into a local variable, and checked
 * there; guest addresses become pointers by mem_at only; a walk takes at most as many steps as
 * its table has entries; a head is in flight once; and avail->idx may not run ahead of what was
 * shown as used by more than the ring holds, which also bounds what one batch can pop. The
 * first rule broken stops the queue for good: after it nothing the ring says has a meaning.
 *
 * Ordering. Each index is written by one side with release and read by the other with acquire,
 * so that what lies behind it is complete. Where a side writes one location and then must see
 * the other's latest write (publish, then read used_event; set avail_event, then read
 * avail->idx), both accesses are seq_cst here and pair with the driver's full barrier between
 * its own two.
 */
#include "virtio/queue.h"

#include <assert.h>
#include <errno.h>
#include <linux/virtio_ring.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "util/util.h"
#include "vmm/mem.h"

/* 2.7.5: no chain is longer in total. */
#define CHAIN_BYTES_MAX GIB(4)

/* 2.7.6; `ring` is followed by the 16-bit used_event. */
struct avail_ring {
	_Atomic uint16_t flags;
	_Atomic uint16_t idx;
	_Atomic uint16_t ring[];
};

struct used_elem {
	_Atomic uint32_t id;
	_Atomic uint32_t len;
};

/* 2.7.8; `ring` is followed by the 16-bit avail_event. */
struct used_ring {
	_Atomic uint16_t flags;
	_Atomic uint16_t idx;
	struct used_elem ring[];
};

struct virtqueue {
	const struct mem *mem;
	uint16_t size; /* a power of two */
	bool event_idx, indirect;

	/* in guest RAM */
	void *desc;
	struct avail_ring *avail;
	struct used_ring *used;
	_Atomic uint16_t *used_event, *avail_event;

	uint16_t last_avail;
	uint16_t seen_avail; /* avail->idx as last read */
	uint16_t used_next, used_published, used_signalled;
	uint16_t popped; /* the head of the last vq_pop */
	uint64_t popped_bytes; /* that chain's for us to read */
	const char *error;
	struct vq_stats *stats; /* or NULL */

	uint64_t in_flight[VQ_SIZE_MAX / 64];
	struct iovec iov[VQ_IOV_MAX]; /* of the chain popped last */
};

/* A descriptor table a walk is in: the ring's own, or an indirect one. */
struct table {
	const void *at;
	unsigned int count;
	bool indirect;
};

static int broken(struct virtqueue *vq, const char *why)
{
	vq->error = why;
	return -EPROTO;
}

static bool in_flight(const struct virtqueue *vq, uint16_t head)
{
	return vq->in_flight[head / 64] >> head % 64 & 1;
}

static void flip_in_flight(struct virtqueue *vq, uint16_t head)
{
	vq->in_flight[head / 64] ^= (uint64_t)1 << head % 64;
}

/* Each part of guest memory a queue lies in: aligned and inside RAM (2.7, table). */
static int map_part(const struct mem *mem, uint64_t gpa, uint64_t len_bytes, uint64_t align,
		    void **out)
{
	if (gpa & (align - 1))
		return -EINVAL;
	*out = mem_at(mem, gpa, len_bytes);
	return *out ? 0 : -EFAULT;
}

static int map_rings(struct virtqueue *vq, const struct vq_config *config)
{
	void *desc, *avail, *used;
	uint64_t size = config->size;
	int r;

	r = map_part(vq->mem, config->desc_gpa, 16 * size, 16, &desc);
	if (r < 0)
		return r;
	r = map_part(vq->mem, config->avail_gpa, 6 + 2 * size, 2, &avail);
	if (r < 0)
		return r;
	r = map_part(vq->mem, config->used_gpa, 6 + 8 * size, 4, &used);
	if (r < 0)
		return r;
	vq->desc = desc;
	vq->avail = avail;
	vq->used = used;
	vq->used_event = &vq->avail->ring[size];
	vq->avail_event = (_Atomic uint16_t *)&vq->used->ring[size];
	return 0;
}

int vq_create(const struct mem *mem, const struct vq_config *config, struct virtqueue **out)
{
	uint16_t size = config->size;
	struct virtqueue *vq;
	int r;

	if (size == 0 || size > VQ_SIZE_MAX || (size & (size - 1)))
		return -EINVAL;
	vq = malloc(sizeof(*vq));
	if (!vq)
		return -ENOMEM;
	/* Not the iovecs, whose pages stay untouched until a chain needs them. */
	memset(vq, 0, offsetof(struct virtqueue, iov));
	vq->mem = mem;
	vq->size = size;
	vq->event_idx = config->event_idx;
	vq->indirect = config->indirect;
	r = map_rings(vq, config);
	if (r < 0) {
		free(vq);
		return r;
	}
	*out = vq;
	return 0;
}

void vq_destroy(struct virtqueue *vq)
{
	free(vq);
}

void vq_count(struct virtqueue *vq, struct vq_stats *stats)
{
	vq->stats = stats;
}

uint16_t vq_size(const struct virtqueue *vq)
{
	return vq->size;
}

const char *vq_error(const struct virtqueue *vq)
{
	return vq->error;
}

/*
 * The one copy of a descriptor. Atomic loads, so that the compiler can not read again what
 * the driver may change meanwhile. Indirect tables need not be aligned.
 */
static struct vring_desc load_desc(const struct table *table, unsigned int index)
{
	const uint8_t *from = (const uint8_t *)table->at + 16 * (size_t)index;
	struct vring_desc desc;

	_Static_assert(sizeof(desc) == 16, "2.7.5");
	if ((uintptr_t)from % 8 == 0) {
		const _Atomic uint64_t *words = (const void *)from;
		uint64_t copy[2];

		copy[0] = atomic_load_explicit(&words[0], memory_order_relaxed);
		copy[1] = atomic_load_explicit(&words[1], memory_order_relaxed);
		memcpy(&desc, copy, sizeof(desc));
	} else {
		const _Atomic uint8_t *bytes = (const void *)from;
		uint8_t copy[sizeof(desc)];

		for (unsigned int i = 0; i < sizeof(desc); i++)
			copy[i] = atomic_load_explicit(&bytes[i], memory_order_relaxed);
		memcpy(&desc, copy, sizeof(desc));
	}
	return desc;
}

static int add_buffer(struct virtqueue *vq, struct vq_chain *chain, const struct vring_desc *desc)
{
	bool writable = desc->flags & VRING_DESC_F_WRITE;
	unsigned int count = chain->out_count + chain->in_count;
	void *base;

	if (count == VQ_IOV_MAX)
		return broken(vq, "a chain of too many descriptors");
	/* The specification is silent; drivers do not do it, QEMU refuses it too. */
	if (desc->len == 0)
		return broken(vq, "a descriptor of length 0");
	if (!writable && chain->in_count)
		return broken(vq, "a readable descriptor after a writable one"); /* 2.7.4.2 */
	base = mem_at(vq->mem, desc->addr, desc->len);
	if (!base)
		return broken(vq, "a descriptor outside RAM");
	if (chain->out_bytes + chain->in_bytes > CHAIN_BYTES_MAX - desc->len)
		return broken(vq, "a chain of more than 4 GiB");
	vq->iov[count] = (struct iovec){ base, desc->len };
	if (writable) {
		chain->in_count++;
		chain->in_bytes += desc->len;
	} else {
		chain->out_count++;
		chain->out_bytes += desc->len;
	}
	return 0;
}

/* 2.7.5.3. The WRITE flag of `desc` means nothing. */
static int enter_indirect(struct virtqueue *vq, const struct vring_desc *desc,
			  struct table *table)
{
	if (!vq->indirect)
		return broken(vq, "an indirect descriptor, which was not negotiated");
	if (table->indirect)
		return broken(vq, "an indirect descriptor in an indirect table");
	if (desc->flags & VRING_DESC_F_NEXT)
		return broken(vq, "an indirect descriptor with a next one");
	if (desc->len == 0 || desc->len % 16 || desc->len / 16 > VQ_IOV_MAX)
		return broken(vq, "an indirect table of a wrong length");
	table->at = mem_at(vq->mem, desc->addr, desc->len);
	if (!table->at)
		return broken(vq, "an indirect table outside RAM");
	table->count = desc->len / 16;
	table->indirect = true;
	return 0;
}

static int walk(struct virtqueue *vq, uint16_t head, struct vq_chain *chain)
{
	struct table table = { vq->desc, vq->size, false };
	unsigned int index = head, steps = 0;
	int r;

	*chain = (struct vq_chain){ .head = head, .iov = vq->iov };
	while (steps++ < table.count) {
		struct vring_desc desc = load_desc(&table, index);

		if (desc.flags & VRING_DESC_F_INDIRECT) {
			r = enter_indirect(vq, &desc, &table);
			if (r < 0)
				return r;
			index = steps = 0;
			continue;
		}
		r = add_buffer(vq, chain, &desc);
		if (r < 0)
			return r;
		if (!(desc.flags & VRING_DESC_F_NEXT))
			return 0;
		if (desc.next >= table.count)
			return broken(vq, "a next descriptor outside its table");
		index = desc.next;
	}
	return broken(vq, "a chain that loops");
}

/* True if the driver has made more available than was popped. */
static bool more_available(struct virtqueue *vq)
{
	/* Pairs with the driver's release of avail->idx, and seq_cst with its barrier between
	 * that and its reading of avail_event or used->flags (see vq_arm). */
	vq->seen_avail = atomic_load_explicit(&vq->avail->idx, memory_order_seq_cst);
	return vq->seen_avail != vq->last_avail;
}

bool vq_has_more(struct virtqueue *vq)
{
	return vq->error || vq->seen_avail != vq->last_avail || more_available(vq);
}

int vq_pop(struct virtqueue *vq, struct vq_chain *chain)
{
	uint16_t head, room;
	int r;

	if (vq->error)
		return -EPROTO;
	if (vq->seen_avail == vq->last_avail && !more_available(vq))
		return 0;
	room = vq->size - (uint16_t)(vq->last_avail - vq->used_published);
	if ((uint16_t)(vq->seen_avail - vq->last_avail) > room)
		return broken(vq, "more buffers available than the ring holds");
	/* Relaxed: ordered by the acquire of avail->idx. */
	head = atomic_load_explicit(&vq->avail->ring[vq->last_avail & (vq->size - 1)],
				    memory_order_relaxed);
	if (head >= vq->size)
		return broken(vq, "an available head outside the descriptor table");
	if (in_flight(vq, head))
		return broken(vq, "an available head that is in use already");
	r = walk(vq, head, chain);
	if (r < 0)
		return r;
	flip_in_flight(vq, head);
	vq->last_avail++;
	vq->popped = head;
	if (vq->stats) {
		vq->popped_bytes = chain->out_bytes;
		counter_add(&vq->stats->bytes_out, chain->out_bytes);
	}
	return 1;
}

void vq_unpop(struct virtqueue *vq)
{
	assert(in_flight(vq, vq->popped));
	flip_in_flight(vq, vq->popped);
	vq->last_avail--;
	if (vq->stats)
		counter_add(&vq->stats->bytes_out, -vq->popped_bytes);
}

void vq_push(struct virtqueue *vq, uint16_t head, uint32_t written)
{
	struct used_elem *elem = &vq->used->ring[vq->used_next & (vq->size - 1)];

	assert(in_flight(vq, head));
	flip_in_flight(vq, head);
	/* Relaxed: vq_publish's release of used->idx orders them. */
	atomic_store_explicit(&elem->id, head, memory_order_relaxed);
	atomic_store_explicit(&elem->len, written, memory_order_relaxed);
	vq->used_next++;
	if (vq->stats) {
		moment_note(&vq->stats->first);
		counter_add(&vq->stats->requests, 1);
		counter_add(&vq->stats->bytes_in, written);
	}
}

unsigned int vq_show(struct virtqueue *vq)
{
	uint16_t count = vq->used_next - vq->used_published;

	if (!count)
		return 0;
	vq->used_published = vq->used_next;
	if (vq->stats)
		histogram_add(&vq->stats->batches, count);
	/* Release, with the driver's acquire of used->idx: the elements are complete. And
	 * seq_cst before the loads of vq_wants_irq, with the driver's barrier between asking for
	 * interrupts and looking at used->idx again: one of us sees the other. */
	atomic_store_explicit(&vq->used->idx, vq->used_published, memory_order_seq_cst);
	return count;
}

bool vq_wants_irq(struct virtqueue *vq)
{
	uint16_t old = vq->used_signalled, new = vq->used_published, event;

	if (new == old)
		return false;
	vq->used_signalled = new;
	if (!vq->event_idx) {
		uint16_t flags = atomic_load_explicit(&vq->avail->flags, memory_order_seq_cst);

		return !(flags & VRING_AVAIL_F_NO_INTERRUPT);
	}
	/* 2.7.10.1: an interrupt if used->idx has just moved past used_event. */
	event = atomic_load_explicit(vq->used_event, memory_order_seq_cst);
	return (uint16_t)(new - event - 1) < (uint16_t)(new - old);
}

bool vq_publish(struct virtqueue *vq)
{
	vq_show(vq);
	return vq_wants_irq(vq);
}

bool vq_is_idle(const struct virtqueue *vq)
{
	return vq->last_avail == vq->used_next;
}

void vq_disarm(struct virtqueue *vq)
{
	/* With EVENT_IDX the stale avail_event already keeps the driver quiet (2.7.10). */
	if (!vq->event_idx)
		atomic_store_explicit(&vq->used->flags, VRING_USED_F_NO_NOTIFY,
				      memory_order_relaxed); /* a hint: no partner */
}

bool vq_arm(struct virtqueue *vq)
{
	if (vq->error)
		return false;
	/* seq_cst before the load of avail->idx, with the driver's barrier between moving
	 * avail->idx and reading these: either it kicks, or we see what it added. */
	if (vq->event_idx)
		atomic_store_explicit(vq->avail_event, vq->last_avail, memory_order_seq_cst);
	else
		atomic_store_explicit(&vq->used->flags, 0, memory_order_seq_cst);
	return more_available(vq);
}

void vq_lend(const struct virtqueue *vq, struct vq_place *out)
{
	*out = (struct vq_place){
		.size = vq->size,
		.next = vq->last_avail,
		.desc = vq->desc,
		.avail = vq->avail,
		.used = vq->used,
	};
}

bool vq_resume(struct virtqueue *vq, uint16_t next)
{
	/* acquire: with the release by who served it. The driver can write it, too. */
	uint16_t used = atomic_load_explicit(&vq->used->idx, memory_order_acquire);

	vq->last_avail = vq->seen_avail = next;
	vq->used_next = vq->used_published = vq->used_signalled = used;
	if ((uint16_t)(next - used) > vq->size)
		broken(vq, "more buffers used than were available");
	return next == used;
}
