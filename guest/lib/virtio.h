/* SPDX-License-Identifier: MIT */
/*
 * A polled driver for modern virtio PCI devices. The caller says which descriptors a chain
 * uses, so that a hostile test can say what it likes.
 */
#pragma once

#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include <linux/virtio_ring.h>
#include <stdbool.h>
#include <stdint.h>

#define VIRTIO_NET 1
#define VIRTIO_BLK 2
#define VIRTIO_RNG 4

#define BIT(n) (1ull << (n))

struct vdev {
	unsigned int slot;
	uint64_t common, notify, isr, config; /* addresses; 0 where there is none */
	uint16_t notify_port;
	uint32_t notify_multiplier; /* of both */
	uint64_t features;
};

struct vqueue {
	struct vdev *dev;
	uint16_t index, size;
	struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;
	uint16_t used_next;
	uint16_t avail_told; /* avail->idx when vqueue_tell last looked */
	uint64_t doorbell;
	uint16_t doorbell_port;
	unsigned int kicks;
};

struct vbuf {
	void *data;
	uint32_t len;
};

/* A register of the common configuration. */
#define COMMON(dev, field) ((dev)->common + offsetof(struct virtio_pci_common_cfg, field))

/* Find the `nth` device of the kind, and its structures in its BARs. */
void vdev_find(struct vdev *dev, unsigned int virtio_id, unsigned int nth);
/* The same after its BAR moved. */
void vdev_locate(struct vdev *dev);
void vdev_reset(struct vdev *dev);
/* Reset; then accept those of `wanted` that are offered, and VERSION_1. */
void vdev_begin(struct vdev *dev, uint64_t wanted);
/* `size` 0: the largest the device takes. */
void vqueue_init(struct vqueue *queue, struct vdev *dev, uint16_t index, uint16_t size);
/* DRIVER_OK */
void vdev_go(struct vdev *dev);
uint8_t vdev_status(struct vdev *dev);

/* Write a chain into descriptors `head` and following: `out` buffers to read, `in` to write. */
void vqueue_chain(struct vqueue *queue, uint16_t head, const struct vbuf *bufs, unsigned int out,
		  unsigned int in);
/* The same into `table`, to which descriptor `head` then refers. */
void vqueue_indirect(struct vqueue *queue, uint16_t head, struct vring_desc *table,
		     const struct vbuf *bufs, unsigned int out, unsigned int in);
void vqueue_offer(struct vqueue *queue, uint16_t head);
/* By memory and by port in turns. */
void vqueue_kick(struct vqueue *queue);
/* Kick if the device asks for it, by port where there is one: as a driver does. */
void vqueue_tell(struct vqueue *queue);
bool vqueue_poll(struct vqueue *queue, struct vring_used_elem *elem);
/* Wait some seconds at most, then fail. */
struct vring_used_elem vqueue_wait(struct vqueue *queue);

/* Waiting with a limit: false after some seconds since `start` (rdtsc). */
bool still_patient(uint64_t start);
