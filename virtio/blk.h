/* SPDX-License-Identifier: MIT */
/* virtio-blk (virtio 1.2, section 5.2) on a block device. */
#pragma once

#include "virtio/device.h"

struct blk;
struct blk_limit;
struct loop;
struct mem;

#define VIRTIO_BLK_QUEUES_MAX VIRTIO_QUEUES_MAX

struct virtio_blk_options {
	const char *serial;  /* at most 20 bytes, or NULL */
	unsigned int queues; /* 1 to VIRTIO_BLK_QUEUES_MAX; one loop serves them all */
	struct blk_limit *limit; /* or NULL; stays the caller's */
};

/* `blk` was opened on `loop` and stays the caller's. 0 or -errno. */
int virtio_blk_create(const char *name, struct loop *loop, const struct mem *mem, struct blk *blk,
		      const struct virtio_blk_options *options, struct virtio_dev **out);
