/* SPDX-License-Identifier: MIT */
/* Between a virtio device (device.h) and the bus its driver finds it on. */
#pragma once

#include <stdint.h>

struct virtio_dev;
struct virtio_queue;

/* What a transport gives a device; set by the transport before the guest runs. */
struct virtio_transport {
	/* Any thread; cheap. */
	void (*queue_irq)(void *owner, unsigned int queue);
	/*
	 * Optional: an eventfd that when written does what queue_irq does, or -1 if there is none
	 * now. Good until virtio_irqs_moved.
	 */
	int (*queue_irq_fd)(void *owner, unsigned int queue);
	void (*config_irq)(void *owner);
	/* Optional: what an exit of a vCPU takes on this host, in nanoseconds; 0: not known yet. */
	uint32_t (*exit_ns)(void *owner);
	/* The device was reset: the transport's registers too. Under the lock. */
	void (*reset)(void *owner);
	void *owner;
};

/* The driver's side, on vCPU threads. While a reset goes on, all writes are ignored. */
uint8_t virtio_get_status(struct virtio_dev *dev);
void virtio_set_status(struct virtio_dev *dev, uint8_t status);
/* 32 bits of the feature words; `select` 0 or 1. */
uint32_t virtio_get_features(struct virtio_dev *dev, uint32_t select);
uint32_t virtio_get_driver_features(struct virtio_dev *dev, uint32_t select);
void virtio_set_driver_features(struct virtio_dev *dev, uint32_t select, uint32_t value);
void virtio_config_read(struct virtio_dev *dev, uint64_t offset, void *data, unsigned int len);
void virtio_config_write(struct virtio_dev *dev, uint64_t offset, const void *data,
			 unsigned int len);
/* Queue `index` if its registers may change now, else NULL. Under the lock. */
struct virtio_queue *virtio_settable_queue(struct virtio_dev *dev, unsigned int index);
/* What queue_irq_fd says may have changed. */
void virtio_irqs_moved(struct virtio_dev *dev);
/* A doorbell that did not go through the eventfd. */
void virtio_kick(struct virtio_dev *dev, unsigned int index);
