/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * Under the lock are what the driver asked for: `status`, the queues' registers, `resetting`.
 * The loop's side follows by one call, update: it is posted when DRIVER_OK is set or a reset of
 * a started device asked for, and it looks at what is wanted now. So it does not matter how
 * often or in which order things were asked for: a reset that overtakes the activation finds
 * nothing live and is done at once; a second reset finds `resetting` set and adds nothing.
 *
 * While `resetting`, register writes are ignored and the status keeps its old, non-zero value.
 * The end of the reset clears all registers in one step; then the driver sees 0. A device that
 * was never started has nothing on the loop, and is reset on the vCPU's thread.
 *
 * Live queues belong to the loop alone and never change between activation and reset.
 */
#include "virtio/device.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "util/util.h"

/* The bits a driver may set (2.1). */
#define STATUS_DRIVER_BITS                                                                         \
	(VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK |      \
	 VIRTIO_CONFIG_S_DRIVER_OK | VIRTIO_CONFIG_S_FAILED)

#define FEATURE(bit) (1ull << (bit))
#define COMMON_FEATURES                                                                            \
	(FEATURE(VIRTIO_F_VERSION_1) | FEATURE(VIRTIO_RING_F_INDIRECT_DESC) |                      \
	 FEATURE(VIRTIO_RING_F_EVENT_IDX))

static void update(struct loop_call *call);

/* --- the driver's side, under the lock --- */

static void clear_registers_locked(struct virtio_dev *dev)
{
	dev->status = 0;
	dev->driver_features = 0;
	atomic_store(&dev->broken, false); /* pairs with the load in virtio_get_status */
	for (unsigned int i = 0; i < dev->nqueues; i++) {
		dev->queues[i].config = (struct vq_config){.size = dev->ops->queue_size_max};
		dev->queues[i].enabled = false;
	}
	if (dev->ops->config_reset)
		dev->ops->config_reset(dev);
	if (dev->transport.reset)
		dev->transport.reset(dev->transport.owner);
}

static void post_update_locked(struct virtio_dev *dev)
{
	dev->used_loop = true;
	if (dev->update_posted)
		return;
	dev->update_posted = true;
	loop_post(dev->loop, &dev->update_call);
}

static void reset_locked(struct virtio_dev *dev)
{
	if (dev->resetting)
		return;
	if (!(dev->status & VIRTIO_CONFIG_S_DRIVER_OK)) {
		clear_registers_locked(dev);
		return;
	}
	dev->resetting = true;
	post_update_locked(dev);
}

/* 2.2.2, and 6.2: a driver without VERSION_1 would use the legacy formats. */
static bool features_acceptable_locked(const struct virtio_dev *dev)
{
	return !(dev->driver_features & ~dev->offered) &&
	       dev->driver_features & FEATURE(VIRTIO_F_VERSION_1);
}

/* Bits are only ever added (2.1.1); those not acceptable stay clear, as the driver will see. */
static void add_status_locked(struct virtio_dev *dev, uint8_t wanted)
{
	uint8_t added = wanted & STATUS_DRIVER_BITS & ~dev->status;

	if (added & VIRTIO_CONFIG_S_FEATURES_OK && !features_acceptable_locked(dev))
		added &= ~VIRTIO_CONFIG_S_FEATURES_OK;
	if (!((dev->status | added) & VIRTIO_CONFIG_S_FEATURES_OK))
		added &= ~VIRTIO_CONFIG_S_DRIVER_OK;
	dev->status |= added;
	if (!(added & VIRTIO_CONFIG_S_DRIVER_OK))
		return;
	moment_note(&dev->driver_ok);
	post_update_locked(dev);
}

uint8_t virtio_get_status(struct virtio_dev *dev)
{
	uint8_t status;

	pthread_mutex_lock(&dev->lock);
	status = dev->status;
	if (atomic_load(&dev->broken)) /* pairs with virtio_broken */
		status |= VIRTIO_CONFIG_S_NEEDS_RESET;
	pthread_mutex_unlock(&dev->lock);
	return status;
}

void virtio_set_status(struct virtio_dev *dev, uint8_t status)
{
	pthread_mutex_lock(&dev->lock);
	if (status == 0)
		reset_locked(dev);
	else if (!dev->resetting)
		add_status_locked(dev, status);
	pthread_mutex_unlock(&dev->lock);
}

uint32_t virtio_get_features(struct virtio_dev *dev, uint32_t select)
{
	return select < 2 ? (uint32_t)(dev->offered >> 32 * select) : 0;
}

uint32_t virtio_get_driver_features(struct virtio_dev *dev, uint32_t select)
{
	uint64_t features;

	pthread_mutex_lock(&dev->lock);
	features = dev->driver_features;
	pthread_mutex_unlock(&dev->lock);
	return select < 2 ? (uint32_t)(features >> 32 * select) : 0;
}

/* Fixed once FEATURES_OK is set (3.1.1, step 5). */
void virtio_set_driver_features(struct virtio_dev *dev, uint32_t select, uint32_t value)
{
	uint64_t mask = 0xffffffffull << 32 * (select & 1);

	pthread_mutex_lock(&dev->lock);
	if (select < 2 && !dev->resetting && !(dev->status & VIRTIO_CONFIG_S_FEATURES_OK))
		dev->driver_features =
			(dev->driver_features & ~mask) | (uint64_t)value << 32 * select;
	pthread_mutex_unlock(&dev->lock);
}

struct virtio_queue *virtio_settable_queue(struct virtio_dev *dev, unsigned int index)
{
	/* DRIVER_OK stays set while a reset goes on */
	if (index >= dev->nqueues || dev->queues[index].enabled ||
	    dev->status & VIRTIO_CONFIG_S_DRIVER_OK)
		return NULL;
	return &dev->queues[index];
}

/* How many of [offset, offset + len) are inside the config space. */
static unsigned int config_inside(const struct virtio_dev *dev, uint64_t offset, unsigned int len)
{
	size_t bytes = dev->ops->config_bytes;

	return offset < bytes ? (unsigned int)MIN(len, bytes - offset) : 0;
}

void virtio_config_read(struct virtio_dev *dev, uint64_t offset, void *data, unsigned int len)
{
	unsigned int inside = config_inside(dev, offset, len);

	memset(data, 0, len);
	if (!inside)
		return;
	pthread_mutex_lock(&dev->lock);
	dev->ops->config_read(dev, offset, data, inside);
	pthread_mutex_unlock(&dev->lock);
}

void virtio_config_write(struct virtio_dev *dev, uint64_t offset, const void *data,
			 unsigned int len)
{
	unsigned int inside = config_inside(dev, offset, len);

	if (!inside || !dev->ops->config_write)
		return;
	pthread_mutex_lock(&dev->lock);
	if (!dev->resetting)
		dev->ops->config_write(dev, offset, data, inside);
	pthread_mutex_unlock(&dev->lock);
}

void virtio_kick(struct virtio_dev *dev, unsigned int index)
{
	if (index < dev->nqueues)
		eventfd_write(dev->queues[index].kick_fd, 1);
}

/* Those set up before DRIVER_OK are looked at then. */
void virtio_irqs_moved(struct virtio_dev *dev)
{
	pthread_mutex_lock(&dev->lock);
	if (dev->ops->irqs_moved && dev->status & VIRTIO_CONFIG_S_DRIVER_OK && !dev->resetting) {
		dev->irqs_moved = true;
		post_update_locked(dev);
	}
	pthread_mutex_unlock(&dev->lock);
}

void virtio_config_changed(struct virtio_dev *dev)
{
	bool started;

	atomic_fetch_add(&dev->config_generation, 1); /* pairs with the transport's read */
	pthread_mutex_lock(&dev->lock);
	started = dev->status & VIRTIO_CONFIG_S_DRIVER_OK && !dev->resetting;
	pthread_mutex_unlock(&dev->lock);
	if (started && dev->transport.config_irq)
		dev->transport.config_irq(dev->transport.owner);
}

/* --- the device's side, on the loop --- */

static void stop_listening(struct virtio_dev *dev)
{
	for (unsigned int i = 0; i < dev->nqueues; i++)
		virtio_stop_listening(&dev->queues[i]);
}

static void drop_queues(struct virtio_dev *dev)
{
	for (unsigned int i = 0; i < dev->nqueues; i++) {
		vq_destroy(dev->queues[i].vq);
		dev->queues[i].vq = NULL;
	}
}

/* Validate what the driver wrote into a live queue. */
static int make_queue(struct virtio_dev *dev, unsigned int index, const struct vq_config *config)
{
	struct virtio_queue *queue = &dev->queues[index];
	struct vq_config live = *config;
	int r = -EINVAL;

	live.event_idx = virtio_has(dev, VIRTIO_RING_F_EVENT_IDX);
	live.indirect = virtio_has(dev, VIRTIO_RING_F_INDIRECT_DESC);
	if (live.size <= dev->ops->queue_size_max)
		r = vq_create(dev->mem, &live, &queue->vq);
	if (r == 0) {
		vq_count(queue->vq, queue->stats);
		r = virtio_listen(queue);
	}
	if (r < 0)
		log_guest(&dev->log_limit, "%s: the guest's queue %u of %u entries cannot be used: %s",
			  dev->name, index, live.size, strerror(-r));
	return r;
}

/* What the driver asked for when it set DRIVER_OK. */
struct activation {
	uint64_t features;
	bool enabled[VIRTIO_QUEUES_MAX];
	struct vq_config configs[VIRTIO_QUEUES_MAX];
};

static void activate(struct virtio_dev *dev, const struct activation *wanted)
{
	int r = 0;

	dev->features = wanted->features;
	virtio_notify_start(dev);
	for (unsigned int i = 0; r == 0 && i < dev->nqueues; i++)
		if (wanted->enabled[i])
			r = make_queue(dev, i, &wanted->configs[i]);
	if (r < 0) {
		stop_listening(dev);
		drop_queues(dev);
		virtio_broken(dev, "its queues are not valid");
		return;
	}
	dev->live = true;
	if (dev->ops->activate)
		dev->ops->activate(dev);
	/* Buffers may have been there before anybody listened to the doorbell. */
	for (unsigned int i = 0; i < dev->nqueues; i++)
		if (dev->queues[i].vq)
			virtio_queue_kick(&dev->queues[i]);
}

static void finish_reset(struct virtio_dev *dev)
{
	pthread_mutex_lock(&dev->lock);
	clear_registers_locked(dev);
	dev->resetting = false;
	pthread_cond_broadcast(&dev->idle);
	pthread_mutex_unlock(&dev->lock);
}

static void drain(struct virtio_dev *dev)
{
	if (dev->draining)
		return;
	if (!dev->live) {
		finish_reset(dev);
		return;
	}
	dev->draining = true;
	stop_listening(dev);
	if (dev->ops->quiesce)
		dev->ops->quiesce(dev);
	else
		virtio_quiesced(dev);
}

void virtio_quiesced(struct virtio_dev *dev)
{
	if (!dev->draining)
		return;
	drop_queues(dev);
	dev->features = 0;
	dev->live = false;
	dev->draining = false;
	finish_reset(dev);
}

static void update(struct loop_call *call)
{
	struct virtio_dev *dev = CONTAINER_OF(call, struct virtio_dev, update_call);
	struct activation wanted;
	bool resetting, started, moved;

	pthread_mutex_lock(&dev->lock);
	dev->update_posted = false;
	moved = dev->irqs_moved;
	dev->irqs_moved = false;
	resetting = dev->resetting;
	started = dev->status & VIRTIO_CONFIG_S_DRIVER_OK;
	wanted.features = dev->driver_features;
	for (unsigned int i = 0; i < dev->nqueues; i++) {
		wanted.enabled[i] = dev->queues[i].enabled;
		wanted.configs[i] = dev->queues[i].config;
	}
	pthread_mutex_unlock(&dev->lock);

	if (resetting)
		drain(dev);
	else if (started && !dev->live)
		activate(dev, &wanted);
	else if (moved && dev->live)
		dev->ops->irqs_moved(dev);
}

void virtio_broken(struct virtio_dev *dev, const char *why)
{
	if (atomic_exchange(&dev->broken, true)) /* pairs with the load in virtio_get_status */
		return;
	log_guest(&dev->log_limit, "%s: stopped until the guest resets it: %s", dev->name, why);
	if (dev->transport.config_irq)
		dev->transport.config_irq(dev->transport.owner);
}

/* --- creation and end --- */

int virtio_dev_init(struct virtio_dev *dev, const struct virtio_ops *ops, const char *name,
		    struct loop *loop, const struct mem *mem, uint64_t features,
		    unsigned int nqueues)
{
	memset(dev, 0, sizeof(*dev));
	dev->ops = ops;
	dev->loop = loop;
	dev->mem = mem;
	dev->offered = features | COMMON_FEATURES;
	dev->update_call.fn = update;
	snprintf(dev->name, sizeof(dev->name), "%s", name);
	if (nqueues > VIRTIO_QUEUES_MAX)
		return -EINVAL;
	pthread_mutex_init(&dev->lock, NULL);
	pthread_cond_init(&dev->idle, NULL);
	for (; dev->nqueues < nqueues; dev->nqueues++) {
		struct virtio_queue *queue = &dev->queues[dev->nqueues];

		queue->dev = dev;
		virtio_notify_init(queue);
		queue->kick_fd = eventfd(0, EFD_CLOEXEC);
		if (queue->kick_fd < 0) {
			int r = -errno;

			virtio_dev_finish(dev);
			return r;
		}
	}
	clear_registers_locked(dev); /* nobody else knows it yet */
	return 0;
}

void virtio_dev_finish(struct virtio_dev *dev)
{
	for (unsigned int i = 0; i < dev->nqueues; i++)
		close(dev->queues[i].kick_fd);
	free(dev->stats);
	pthread_cond_destroy(&dev->idle);
	pthread_mutex_destroy(&dev->lock);
}

static void nothing(void *arg)
{
}

void virtio_dev_stop(struct virtio_dev *dev)
{
	bool used_loop;

	pthread_mutex_lock(&dev->lock);
	reset_locked(dev);
	used_loop = dev->used_loop;
	pthread_mutex_unlock(&dev->lock);
	if (!used_loop || loop_drain(dev->loop))
		return;
	pthread_mutex_lock(&dev->lock);
	while (dev->resetting)
		pthread_cond_wait(&dev->idle, &dev->lock);
	pthread_mutex_unlock(&dev->lock);
	/* The callback in which the reset ended has returned when this has. */
	loop_call_wait(dev->loop, nothing, NULL);
}

void virtio_dev_destroy(struct virtio_dev *dev)
{
	if (dev)
		dev->ops->destroy(dev);
}
