/* SPDX-License-Identifier: MIT */
/* virtio-blk (virtio 1.2, section 5.2) on a block device. */
#pragma once

struct blk;
struct loop;
struct mem;
struct virtio_dev;

/*
 * `blk` was opened on `loop` and stays the caller's. `serial` is at most 20 bytes, or NULL.
 * 0 or -errno.
 */
int virtio_blk_create(const char *name, struct loop *loop, const struct mem *mem, struct blk *blk,
		      const char *serial, struct virtio_dev **out);
