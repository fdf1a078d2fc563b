/* SPDX-License-Identifier: MIT */
#include "guest/lib/disk.h"

#include "guest/lib/guest.h"
#include "guest/lib/io.h"

void disk_reopen(struct disk *disk)
{
	vdev_begin(&disk->dev, BIT(VIRTIO_BLK_F_FLUSH) | BIT(VIRTIO_BLK_F_MQ) |
				       BIT(VIRTIO_BLK_F_RO) | disk->wanted);
	vqueue_init(&disk->queue, &disk->dev, disk->index, 0);
	vdev_go(&disk->dev);
	disk->sectors = read32(disk->dev.config) |
			(uint64_t)read32(disk->dev.config + 4) << 32;
}

void disk_open(struct disk *disk, unsigned int nth)
{
	vdev_find(&disk->dev, VIRTIO_BLK, nth);
	disk_reopen(disk);
}

void disk_prepare(struct disk *disk, uint16_t head, struct disk_slot *slot, uint32_t type,
		  uint64_t sector, const struct vbuf *bufs, unsigned int count)
{
	struct vbuf all[DISK_DESCS];
	bool write = type == VIRTIO_BLK_T_OUT;

	CHECK(count <= DISK_DESCS - 2);
	slot->header = (struct virtio_blk_outhdr){.type = type, .sector = sector};
	slot->status = STATUS_UNSET;
	all[0] = (struct vbuf){&slot->header, sizeof(slot->header)};
	memcpy(&all[1], bufs, count * sizeof(*bufs));
	all[count + 1] = (struct vbuf){&slot->status, 1};
	vqueue_chain(&disk->queue, head, all, write ? count + 1 : 1, write ? 1 : count + 1);
}

uint8_t disk_do(struct disk *disk, uint32_t type, uint64_t sector, void *data, uint32_t len)
{
	static struct disk_slot slot;
	struct vbuf buf = {data, len};

	disk_prepare(disk, 0, &slot, type, sector, &buf, len ? 1 : 0);
	vqueue_offer(&disk->queue, 0);
	vqueue_kick(&disk->queue);
	CHECK_EQ(vqueue_wait(&disk->queue).id, 0);
	return *(volatile uint8_t *)&slot.status;
}
