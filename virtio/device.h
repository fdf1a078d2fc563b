/* SPDX-License-Identifier: MIT */
/*
 * A virtio device (virtio 1.2, chapter 2), between its transport and its back end.
 *
 * Two sides, two threads. The transport's side runs on vCPU threads, under the device's lock:
 * status, features, queue registers, config space. The device's side runs on its loop: live
 * queues, kicks, completions. What the driver wrote is validated into live queues at
 * DRIVER_OK, on the loop; a reset goes there too, and the status reads non-zero until the loop
 * has drained what was in flight (2.1.2). Kicks, completions and packets take no lock.
 *
 * States of the loop's side: idle -> live (activate) -> draining (quiesce, until
 * virtio_quiesced) -> idle. `broken` sticks from virtio_broken until the reset.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/log.h"
#include "util/loop.h"
#include "util/moment.h"
#include "virtio/queue.h"
#include "virtio/moderation.h"
#include "virtio/notify.h"
#include "virtio/transport.h"

struct mem;
struct virtio_stats;

#define VIRTIO_QUEUES_MAX 64

struct virtio_ops {
	const char *name;        /* for messages: "blk" */
	uint16_t id;             /* virtio device id (5.) */
	uint32_t pci_class;      /* 24-bit class code a PCI transport shows */
	uint16_t queue_size_max; /* power of two */
	size_t config_bytes;

	/* Mandatory: [offset, offset + len) is inside config_bytes; vCPU, under the lock. */
	void (*config_read)(struct virtio_dev *dev, size_t offset, void *data, size_t len);
	/* Optional: absent means read-only. */
	void (*config_write)(struct virtio_dev *dev, size_t offset, const void *data, size_t len);
	/* Optional: the end of a reset, for what config_write keeps; any thread, under the lock. */
	void (*config_reset)(struct virtio_dev *dev);

	/* On the loop. */
	/* Optional: dev->queues[i].vq are live, NULL where not enabled; dev->features final. */
	void (*activate)(struct virtio_dev *dev);
	/* Mandatory: queue `index` was kicked, or just became live. */
	void (*kick)(struct virtio_dev *dev, unsigned int index);
	/* Optional: transport.queue_irq_fd may say something else than before. */
	void (*irqs_moved)(struct virtio_dev *dev);
	/* Optional: stop popping; virtio_quiesced once nothing is in flight, at once is fine. */
	void (*quiesce)(struct virtio_dev *dev);
	/* Optional: virtio_dev_count gave dev->stats; add what the device counts beside. */
	void (*count)(struct virtio_dev *dev);
	/* Mandatory: idle, off the loop; free everything incl. `dev` itself. */
	void (*destroy)(struct virtio_dev *dev);
};

struct virtio_queue {
	struct vq_config config;  /* as the driver wrote it; under the lock */
	bool enabled;             /* likewise */
	int kick_fd;              /* eventfd, the doorbell; for the device's lifetime */
	struct loop_watch *watch; /* the loop's side, as are these: */
	struct loop_look look;
	struct moderation moderation;
	struct virtqueue *vq; /* live, or NULL */
	struct vq_stats *stats; /* in dev->stats, or NULL */
	struct virtio_dev *dev;
};

struct virtio_dev {
	const struct virtio_ops *ops;
	struct loop *loop;
	const struct mem *mem;
	char name[16]; /* "blk0" */
	uint64_t offered;
	unsigned int nqueues;
	struct virtio_queue queues[VIRTIO_QUEUES_MAX];
	struct virtio_transport transport;
	struct log_limit log_limit;
	struct virtio_stats *stats; /* or NULL; fixed before the device starts */

	/* vCPU threads, under the lock */
	pthread_mutex_t lock;
	pthread_cond_t idle; /* virtio_dev_stop waits for `resetting` to end */
	uint8_t status;
	struct moment driver_ok;
	uint64_t driver_features;
	bool resetting;     /* a reset is on its way through the loop */
	bool update_posted; /* update_call is queued in the loop */
	bool irqs_moved;    /* the loop is to be told by it */
	bool used_loop;     /* ever */
	atomic_uint config_generation;

	/* loop */
	uint64_t features; /* negotiated; fixed while live */
	bool live, draining;
	uint32_t exit_ns;  /* what an exit of a vCPU takes here, about */
	atomic_bool broken; /* set on the loop, shown as NEEDS_RESET in the status */
	struct loop_call update_call; /* brings the loop's side in line with status and resetting */
};

/*
 * Fill in what is common, create doorbells. `features` are the device's own: the queues' and
 * VERSION_1 are added. `nqueues` <= VIRTIO_QUEUES_MAX. 0 or -errno.
 */
int virtio_dev_init(struct virtio_dev *dev, const struct virtio_ops *ops, const char *name,
		    struct loop *loop, const struct mem *mem, uint64_t features,
		    unsigned int nqueues);
void virtio_dev_finish(struct virtio_dev *dev);

/* --- for devices, on the loop --- */
static inline bool virtio_has(const struct virtio_dev *dev, unsigned int feature)
{
	return dev->features >> feature & 1;
}

/* The driver broke the rules beyond an error status: DEVICE_NEEDS_RESET (2.1.1), said once. */
void virtio_broken(struct virtio_dev *dev, const char *why);
/* Answers ops->quiesce, inside it or later; the queues are gone when it returns. */
void virtio_quiesced(struct virtio_dev *dev);
/* Config space changed: bump the generation and interrupt. Any thread, not under the lock. */
void virtio_config_changed(struct virtio_dev *dev);

/* --- for the machine --- */

/* Count from now on, which is before the device starts. 0 or -ENOMEM. */
int virtio_dev_count(struct virtio_dev *dev);
/*
 * vCPUs are stopped: reset the device and wait until it is idle. Its loop is running, or is this
 * thread's.
 */
void virtio_dev_stop(struct virtio_dev *dev);
/* Accepts NULL. */
void virtio_dev_destroy(struct virtio_dev *dev);
