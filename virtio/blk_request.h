/* SPDX-License-Identifier: MIT */
/* Inside virtio-blk: the device (blk.c) and its requests (blk_request.c). On the loop. */
#pragma once

#include <linux/virtio_blk.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "block/block.h"
#include "util/log.h"
#include "util/loop.h"
#include "virtio/device.h"
#include "virtio/queue.h"

#define BLK_QUEUE_SIZE 256
#define BLK_SEG_MAX (BLK_QUEUE_SIZE - 2)
#define BLK_SHORT_IOV 16
#define BLK_RANGES_MAX 16
#define BLK_SECTOR 512
/* 1 GiB for one range of a discard or write-zeroes: no step holds up others for long. */
#define BLK_RANGE_SECTORS_MAX (1u << 21)

/* The buffers of a long request; the free ones are a stack. */
struct blk_long_iov {
	struct blk_long_iov *next;
	struct iovec iov[BLK_SEG_MAX];
};

struct blk_request {
	struct blk_req blk;
	struct blk_queue *queue;
	uint8_t *status;   /* in guest memory */
	uint32_t in_bytes; /* data buffers for us to write */
	uint32_t filled;   /* how much of them success fills, from their start */
	uint16_t head;
	uint8_t ranges, next_range;
	struct blk_long_iov *long_iov; /* borrowed, or NULL */
	struct blk_request *next;      /* that waits for the disk's limit */
	struct virtio_op_stats *stats; /* of its kind, or NULL: it is not counted */
	uint64_t start_ns, bytes;      /* where it is */
	union {
		struct iovec iov[BLK_SHORT_IOV];
		struct virtio_blk_discard_write_zeroes range[BLK_RANGES_MAX];
	};
};

struct blk_queue {
	struct virtio_blk *vblk;
	unsigned int index;
	bool turn_waits; /* turn_op is deferred */
	bool more;       /* there may be more to take than one turn takes */
	struct loop_op turn_op;
	struct blk_request *slots; /* by head; NULL until the queue is first used */
};

struct virtio_blk {
	struct virtio_dev dev;
	struct blk *blk;
	const struct blk_info *info;
	struct virtio_blk_config config;
	char serial[VIRTIO_BLK_ID_BYTES];
	struct log_limit error_limit;
	atomic_bool writeback; /* set on vCPU threads, read on the loop; orders nothing */
	bool draining;
	unsigned int busy; /* requests in the block layer, and turns deferred */
	struct blk_long_iov *long_free;
	uint64_t now_ns; /* read once per batch, for counting; 0: not yet */
	struct blk_limit *limit; /* or NULL */
	struct blk_request *waiting, **waiting_tail; /* for the limit, of all queues */
	struct blk_queue queues[];
};

/*
 * Parse, check and start the request in `chain`; it is answered with a status sooner or later.
 * False: it can not even be answered.
 */
bool blk_take(struct blk_queue *queue, const struct vq_chain *chain);
/* Have queue->turn_op done at the end of the batch. */
void blk_defer_turn(struct blk_queue *queue);
/* Forget the requests that wait for the disk's limit: the driver does, too. */
void blk_drop_waiting(struct virtio_blk *vblk);
/* If draining and nothing is in flight any more, say so to the device. */
void blk_maybe_quiesced(struct virtio_blk *vblk);
