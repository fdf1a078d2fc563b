/* SPDX-License-Identifier: MIT */
/*
 * How a driver and its device, which includes this by device.h, tell each other that there is
 * something: doorbells and interrupts. On the loop.
 */
#pragma once

struct virtio_dev;
struct virtio_queue;

/* --- for devices --- */

/* Queue `index` is empty: ops->kick once there is more, whether the driver kicks or not. */
void virtio_await(struct virtio_dev *dev, unsigned int index);
/* Publish what was pushed on queue `index` and interrupt the driver if it wants that. */
void virtio_publish(struct virtio_dev *dev, unsigned int index);
/* The same, but where the driver seems to be busy with what comes next the interrupt may wait. */
void virtio_publish_lazily(struct virtio_dev *dev, unsigned int index);
/* Another listens to the doorbell of queue `index`, as the kernel: no ops->kick until it is taken
 * back. */
void virtio_lend_doorbell(struct virtio_dev *dev, unsigned int index);
void virtio_take_doorbell(struct virtio_dev *dev, unsigned int index);

/* --- for device.c --- */

/* Before anything else; the queue has its `dev`. */
void virtio_notify_init(struct virtio_queue *queue);
/* The device starts: what is an exit worth here? */
void virtio_notify_start(struct virtio_dev *dev);
/* Hear the doorbell of a live queue. 0 or -ENOMEM. */
int virtio_listen(struct virtio_queue *queue);
void virtio_stop_listening(struct virtio_queue *queue);
/* ops->kick, unless the device is stopped. */
void virtio_queue_kick(struct virtio_queue *queue);
