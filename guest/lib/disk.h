/* SPDX-License-Identifier: MIT */
/* Requests to a virtio disk. */
#pragma once

#include <linux/virtio_blk.h>

#include "guest/lib/virtio.h"

#define SECTOR 512
#define STATUS_UNSET 0xAA
/* Descriptors per request: header, up to 6 buffers, status. */
#define DISK_DESCS 8

struct disk {
	struct vdev dev;
	struct vqueue queue;
	uint16_t index; /* of the queue: 0 unless set before disk_open */
	uint64_t wanted; /* features beyond the usual: set before disk_open */
	uint64_t sectors;
};

/* What the device and we share about one request. */
struct disk_slot {
	struct virtio_blk_outhdr header;
	uint8_t status;
};

/* The `nth` disk, ready for requests. */
void disk_open(struct disk *disk, unsigned int nth);
/* Once more from the reset on. */
void disk_reopen(struct disk *disk);
/* Put a request into descriptors from `head` on, not offered yet. */
void disk_prepare(struct disk *disk, uint16_t head, struct disk_slot *slot, uint32_t type,
		  uint64_t sector, const struct vbuf *bufs, unsigned int count);
/* One request at descriptor 0, and wait: its status. */
uint8_t disk_do(struct disk *disk, uint32_t type, uint64_t sector, void *data, uint32_t len);
