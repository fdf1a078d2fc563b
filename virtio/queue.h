/* SPDX-License-Identifier: MIT */
/*
 * Split virtqueues (virtio 1.2, section 2.7), the device's side: indirect descriptors and
 * EVENT_IDX. Used on the device's loop only.
 *
 *	while ((r = vq_pop(vq, &chain)) == 1)
 *		... vq_push(vq, chain.head, written) now or later ...
 *	if (vq_publish(vq))
 *		raise the interrupt
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "util/histogram.h"
#include "util/moment.h"

struct mem;

#define VQ_SIZE_MAX 1024
/* A chain's buffers: as many as preadv(2) takes. Indirect tables may exceed the ring's size,
 * as drivers that had to shrink the ring make them; direct chains may not. */
#define VQ_IOV_MAX 1024

/* What the driver wrote through the transport; vq_init validates it into a live queue. */
struct vq_config {
	uint16_t size;
	uint64_t desc_gpa, avail_gpa, used_gpa;
	bool event_idx; /* VIRTIO_F_EVENT_IDX negotiated */
	bool indirect;  /* VIRTIO_F_INDIRECT_DESC negotiated */
};

/* A checked chain: device-readable buffers first, then device-writable ones. */
struct vq_chain {
	uint16_t head;
	unsigned int out_count; /* iov[0 .. out_count) is for the device to read */
	unsigned int in_count;  /* iov[out_count .. out_count + in_count) to write */
	uint64_t out_bytes, in_bytes;
	struct iovec *iov; /* belongs to the queue until the next vq_pop: copy what must last */
};

struct virtqueue;

/* One queue's numbers. Its loop counts; others may read meanwhile. */
struct vq_stats {
	_Atomic uint64_t requests;            /* answered */
	_Atomic uint64_t bytes_out, bytes_in; /* from and to the guest, headers and all */
	_Atomic uint64_t irqs;
	_Atomic uint64_t doorbells; /* heard: several kicks may be one */
	_Atomic uint64_t found;     /* there was more, without a doorbell */
	struct histogram batches;   /* requests shown to the driver at once */
	struct moment first;        /* of the requests */
};

/* 0 or -errno: -EINVAL size or alignment, -EFAULT not in RAM, -ENOMEM. */
int vq_create(const struct mem *mem, const struct vq_config *config, struct virtqueue **out);
void vq_destroy(struct virtqueue *vq);
/* Count what passes in `stats`: the first three and `batches`. NULL: do not. */
void vq_count(struct virtqueue *vq, struct vq_stats *stats);
uint16_t vq_size(const struct virtqueue *vq);

/*
 * 1: *chain is the next request, at least one byte long; 0: none; -EPROTO: the ring is broken
 * for good. Between two vq_publish it returns at most as many chains as the ring has entries,
 * whatever the driver does.
 */
int vq_pop(struct virtqueue *vq, struct vq_chain *chain);
/* Give the chain of the last vq_pop back, to be popped again. */
void vq_unpop(struct virtqueue *vq);
/* What is wrong with the ring, once vq_pop said -EPROTO; else NULL. */
const char *vq_error(const struct virtqueue *vq);
/* Return a chain; `written` bytes were written to it. Not visible before vq_publish. */
void vq_push(struct virtqueue *vq, uint16_t head, uint32_t written);
/* Show the driver what was pushed. True: it wants an interrupt for it. */
bool vq_publish(struct virtqueue *vq);
/* The same in two steps, for an interrupt that may wait: show, and return how many these are; and
 * whether it wants an interrupt for what was shown since it was last asked. */
unsigned int vq_show(struct virtqueue *vq);
bool vq_wants_irq(struct virtqueue *vq);
/* All that was popped was pushed. */
bool vq_is_idle(const struct virtqueue *vq);
/* True: vq_pop would not return 0. */
bool vq_has_more(struct virtqueue *vq);
/* Ask the driver not to kick; and ask it to, after each time the queue was emptied: without,
 * it may never kick again. True: more came meanwhile, pop again. */
void vq_disarm(struct virtqueue *vq);
bool vq_arm(struct virtqueue *vq);

/*
 * Where a queue lies and how far it is, for another who serves it, as the kernel. No chain may be
 * in use here, and nothing be called until vq_resume, which goes on with the chain that the other
 * would have taken next. False: it took some that it did not return; they stay in use for good.
 */
struct vq_place {
	uint16_t size, next;
	void *desc, *avail, *used;
};
void vq_lend(const struct virtqueue *vq, struct vq_place *out);
bool vq_resume(struct virtqueue *vq, uint16_t next);
