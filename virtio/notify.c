/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * A kick is an exit of the driver's vCPU: as long as the loop is awake it looks at the rings it
 * awaits something from, and the driver is asked to kick only before the loop sleeps.
 */
#include "virtio/notify.h"

#include <errno.h>

#include "util/util.h"
#include "virtio/device.h"
#include "virtio/stats.h"

static bool is_stopped(const struct virtio_dev *dev)
{
	/* `broken` is set on this thread */
	return dev->draining || atomic_load_explicit(&dev->broken, memory_order_relaxed);
}

void virtio_queue_kick(struct virtio_queue *queue)
{
	if (!is_stopped(queue->dev))
		queue->dev->ops->kick(queue->dev, (unsigned int)(queue - queue->dev->queues));
}

static void kicked(void *arg)
{
	struct virtio_queue *queue = arg;

	if (queue->stats)
		run_count(&queue->stats->doorbells, 1);
	virtio_queue_kick(queue);
}

static bool has_more(struct loop_look *look)
{
	struct virtio_queue *queue = CONTAINER_OF(look, struct virtio_queue, look);

	return !is_stopped(queue->dev) && vq_has_more(queue->vq);
}

static bool arm(struct loop_look *look)
{
	struct virtio_queue *queue = CONTAINER_OF(look, struct virtio_queue, look);

	return !is_stopped(queue->dev) && vq_arm(queue->vq);
}

static void found(struct loop_look *look)
{
	struct virtio_queue *queue = CONTAINER_OF(look, struct virtio_queue, look);

	if (queue->stats)
		run_count(&queue->stats->found, 1);
	virtio_queue_kick(queue);
}

void virtio_await(struct virtio_dev *dev, unsigned int index)
{
	loop_look(dev->loop, &dev->queues[index].look);
}

void virtio_notify_init(struct virtio_queue *queue)
{
	queue->look = (struct loop_look){.there = has_more, .arm = arm, .found = found};
}

int virtio_listen(struct virtio_queue *queue)
{
	queue->watch = loop_watch_event(queue->dev->loop, queue->kick_fd, kicked, queue);
	return queue->watch ? 0 : -ENOMEM;
}

void virtio_stop_listening(struct virtio_queue *queue)
{
	loop_unlook(&queue->look);
	loop_unwatch(queue->dev->loop, queue->watch);
	queue->watch = NULL;
}

void virtio_lend_doorbell(struct virtio_dev *dev, unsigned int index)
{
	loop_unlook(&dev->queues[index].look);
	loop_watch_pause(dev->loop, dev->queues[index].watch);
}

/* A reset may have dropped the watch before. */
void virtio_take_doorbell(struct virtio_dev *dev, unsigned int index)
{
	if (dev->queues[index].watch)
		loop_watch_resume(dev->loop, dev->queues[index].watch);
}

void virtio_publish(struct virtio_dev *dev, unsigned int index)
{
	if (!vq_publish(dev->queues[index].vq) || !dev->transport.queue_irq)
		return;
	if (dev->queues[index].stats)
		run_count(&dev->queues[index].stats->irqs, 1);
	dev->transport.queue_irq(dev->transport.owner, index);
}
