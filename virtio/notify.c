/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * A kick is an exit of the driver's vCPU: as long as the loop is awake it looks at the rings it
 * awaits something from, and the driver is asked to kick only before the loop sleeps. How long that
 * pays depends on what an exit takes: a few microseconds, or tens of them where the host is a
 * virtual machine itself.
 *
 * An interrupt is a few exits. One may be held back (virtio_publish_lazily, moderation.h) while the
 * loop looks for what comes next, if nothing is in flight: then the driver either is about to
 * submit more, or waits, and which of the two it is, moderation.h learns. The loop never sleeps on
 * an interrupt (a nap is none: it is bounded, as the hold is), nor is one held while requests are in flight, which would delay those of a driver
 * that waits for the disk.
 */
#include "virtio/notify.h"

#include <errno.h>

#include "util/util.h"
#include "virtio/device.h"
#include "virtio/stats.h"

/* About what it takes on hardware; and so that an odd figure does no harm. */
#define EXIT_NS_MIN 2000u
#define EXIT_NS_MAX 125000u

static bool is_stopped(const struct virtio_dev *dev)
{
	/* `broken` is set on this thread */
	return dev->draining || atomic_load_explicit(&dev->broken, memory_order_relaxed);
}

void virtio_queue_kick(struct virtio_queue *queue)
{
	struct virtio_dev *dev = queue->dev;

	moderation_goes_on(&queue->moderation, loop_now_ns(dev->loop));
	if (!is_stopped(dev))
		dev->ops->kick(dev, (unsigned int)(queue - dev->queues));
}

static void kicked(void *arg)
{
	struct virtio_queue *queue = arg;

	if (queue->stats)
		counter_add(&queue->stats->doorbells, 1);
	virtio_queue_kick(queue);
}

static void interrupt(struct virtio_queue *queue, bool wanted)
{
	struct virtio_dev *dev = queue->dev;

	if (!wanted || !dev->transport.queue_irq)
		return;
	if (queue->stats)
		counter_add(&queue->stats->irqs, 1);
	dev->transport.queue_irq(dev->transport.owner, (unsigned int)(queue - dev->queues));
}

static void let_go(struct virtio_queue *queue)
{
	moderation_end(&queue->moderation);
	interrupt(queue, vq_wants_irq(queue->vq));
}

static bool has_more(struct loop_look *look)
{
	struct virtio_queue *queue = CONTAINER_OF(look, struct virtio_queue, look);
	struct virtio_dev *dev = queue->dev;

	if (queue->moderation.holding &&
	    moderation_is_over(&queue->moderation, loop_now_ns(dev->loop), dev->exit_ns))
		let_go(queue);
	return !is_stopped(dev) && vq_has_more(queue->vq);
}

static bool arm(struct loop_look *look)
{
	struct virtio_queue *queue = CONTAINER_OF(look, struct virtio_queue, look);

	if (queue->moderation.holding)
		let_go(queue);
	return !is_stopped(queue->dev) && vq_arm(queue->vq);
}

static void found(struct loop_look *look)
{
	struct virtio_queue *queue = CONTAINER_OF(look, struct virtio_queue, look);

	if (queue->stats)
		counter_add(&queue->stats->found, 1);
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

void virtio_notify_start(struct virtio_dev *dev)
{
	uint32_t exit_ns = 0;

	if (dev->transport.exit_ns)
		exit_ns = dev->transport.exit_ns(dev->transport.owner);
	/* The guest's caches and TLB are cold afterwards: about as much again. */
	dev->exit_ns = MIN(MAX(2 * (uint64_t)exit_ns, EXIT_NS_MIN), EXIT_NS_MAX);
	loop_wake_costs(dev->loop, dev->exit_ns);
}

int virtio_listen(struct virtio_queue *queue)
{
	queue->moderation = (struct moderation){0};
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
	struct virtio_queue *queue = &dev->queues[index];

	interrupt(queue, vq_publish(queue->vq));
}

/* Only who is looked at may be kept waiting. */
static bool may_hold(const struct virtio_queue *queue)
{
	return queue->look.listed && vq_is_idle(queue->vq);
}

static bool begin_hold(struct virtio_queue *queue, unsigned int count)
{
	return moderation_hold(&queue->moderation, count, loop_now_ns(queue->dev->loop),
			       queue->dev->exit_ns);
}

void virtio_publish_lazily(struct virtio_dev *dev, unsigned int index)
{
	struct virtio_queue *queue = &dev->queues[index];
	unsigned int count = vq_show(queue->vq);

	if (may_hold(queue) && (queue->moderation.holding || begin_hold(queue, count)))
		return;
	if (queue->moderation.holding)
		let_go(queue);
	else
		interrupt(queue, vq_wants_irq(queue->vq));
}
