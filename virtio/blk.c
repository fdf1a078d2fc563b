/* SPDX-License-Identifier: MIT */
/* virtio-blk (virtio 1.2, section 5.2): the device. Its requests are in blk_request.c. */
#include "virtio/blk.h"

#include <errno.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <string.h>

#include "util/util.h"
#include "virtio/blk_request.h"

/* Config space as far as the features offered define it. */
#define CONFIG_BYTES offsetof(struct virtio_blk_config, max_secure_erase_sectors)

static struct virtio_blk *to_blk(struct virtio_dev *dev)
{
	return CONTAINER_OF(dev, struct virtio_blk, dev);
}

static void blk_kick(struct virtio_dev *dev, unsigned int index)
{
	struct virtio_blk *vblk = to_blk(dev);
	struct virtqueue *vq = dev->queues[index].vq;
	struct vq_chain chain;
	int r;

	if (vblk->draining || atomic_load_explicit(&dev->broken, memory_order_relaxed))
		return; /* set on this thread */
	do {
		vq_disarm(vq);
		while ((r = vq_pop(vq, &chain)) == 1) {
			if (!blk_take(&vblk->queue, &chain)) {
				virtio_broken(dev, "a request without a status byte");
				return;
			}
		}
		if (r < 0) {
			virtio_broken(dev, vq_error(vq));
			return;
		}
	} while (vq_arm(vq));
}

static void blk_quiesce(struct virtio_dev *dev)
{
	struct virtio_blk *vblk = to_blk(dev);

	atomic_store_explicit(&vblk->writeback, true, memory_order_relaxed);
	vblk->draining = true;
	blk_maybe_quiesced(vblk);
}

static bool driver_has(const struct virtio_dev *dev, unsigned int feature)
{
	return dev->driver_features >> feature & 1;
}

static void blk_config_read(struct virtio_dev *dev, size_t offset, void *data, size_t len)
{
	struct virtio_blk *vblk = to_blk(dev);
	struct virtio_blk_config config = vblk->config;

	/* 5.2.5.2: never writeback for a driver that can not flush. */
	config.wce = driver_has(dev, VIRTIO_BLK_F_FLUSH) &&
		     atomic_load_explicit(&vblk->writeback, memory_order_relaxed);
	memcpy(data, (const uint8_t *)&config + offset, len);
}

/* Only `wce` is the driver's to write. */
static void blk_config_write(struct virtio_dev *dev, size_t offset, const void *data, size_t len)
{
	size_t wce = offsetof(struct virtio_blk_config, wce);
	const uint8_t *bytes = data;

	if (!driver_has(dev, VIRTIO_BLK_F_CONFIG_WCE) || offset > wce || wce - offset >= len)
		return;
	atomic_store_explicit(&to_blk(dev)->writeback, bytes[wce - offset] != 0,
			      memory_order_relaxed);
}

static void blk_destroy(struct virtio_dev *dev)
{
	struct virtio_blk *vblk = to_blk(dev);

	virtio_dev_finish(dev);
	free(vblk->queue.long_iovs);
	free(vblk->queue.slots);
	free(vblk);
}

static const struct virtio_ops blk_ops = {
	.name = "blk",
	.id = VIRTIO_ID_BLOCK,
	.pci_class = 0x018000, /* mass storage, other */
	.queue_size_max = BLK_QUEUE_SIZE,
	.config_bytes = CONFIG_BYTES,
	.config_read = blk_config_read,
	.config_write = blk_config_write,
	.kick = blk_kick,
	.quiesce = blk_quiesce,
	.destroy = blk_destroy,
};

static uint64_t offered_features(const struct blk_info *info)
{
	uint64_t features = 1ull << VIRTIO_BLK_F_SEG_MAX |
			    1ull << VIRTIO_BLK_F_BLK_SIZE | 1ull << VIRTIO_BLK_F_TOPOLOGY |
			    1ull << VIRTIO_BLK_F_FLUSH | 1ull << VIRTIO_BLK_F_CONFIG_WCE;

	if (info->readonly)
		return features | 1ull << VIRTIO_BLK_F_RO;
	if (info->can_discard)
		features |= 1ull << VIRTIO_BLK_F_DISCARD;
	if (info->can_write_zeroes)
		features |= 1ull << VIRTIO_BLK_F_WRITE_ZEROES;
	return features;
}

static void fill_config(struct virtio_blk_config *config, const struct blk_info *info)
{
	uint32_t block = MAX(info->block_bytes, BLK_SECTOR);

	config->capacity = info->size_bytes / BLK_SECTOR;
	config->seg_max = BLK_SEG_MAX;
	config->blk_size = BLK_SECTOR;
	config->physical_block_exp = (uint8_t)__builtin_ctz(block / BLK_SECTOR);
	config->min_io_size = (uint16_t)(block / BLK_SECTOR);
	config->opt_io_size = info->cluster_bytes / BLK_SECTOR;
	config->num_queues = 1;
	config->max_discard_sectors = BLK_RANGE_SECTORS_MAX;
	config->max_discard_seg = BLK_RANGES_MAX;
	config->discard_sector_alignment = MAX(info->cluster_bytes, block) / BLK_SECTOR;
	config->max_write_zeroes_sectors = BLK_RANGE_SECTORS_MAX;
	config->max_write_zeroes_seg = BLK_RANGES_MAX;
	config->write_zeroes_may_unmap = 1;
}

/* Allocated untouched: pages get used as heads do. */
static int init_queue(struct virtio_blk *vblk, struct blk_queue *queue)
{
	queue->vblk = vblk;
	queue->publish_op.done = blk_publish;
	queue->slots = malloc(BLK_QUEUE_SIZE * sizeof(*queue->slots));
	queue->long_iovs = malloc(BLK_QUEUE_SIZE * sizeof(*queue->long_iovs));
	if (!queue->slots || !queue->long_iovs)
		return -ENOMEM;
	while (queue->long_count < BLK_QUEUE_SIZE) {
		queue->long_free[queue->long_count] =
			(uint16_t)(BLK_QUEUE_SIZE - 1 - queue->long_count);
		queue->long_count++;
	}
	return 0;
}

int virtio_blk_create(const char *name, struct loop *loop, const struct mem *mem, struct blk *blk,
		      const char *serial, struct virtio_dev **out)
{
	struct virtio_blk *vblk = calloc(1, sizeof(*vblk));
	int r;

	if (!vblk)
		return -ENOMEM;
	vblk->blk = blk;
	vblk->info = blk_info(blk);
	atomic_init(&vblk->writeback, true);
	if (serial)
		memcpy(vblk->serial, serial, strnlen(serial, sizeof(vblk->serial)));
	fill_config(&vblk->config, vblk->info);
	r = init_queue(vblk, &vblk->queue);
	if (r < 0)
		goto err_free;
	r = virtio_dev_init(&vblk->dev, &blk_ops, name, loop, mem, offered_features(vblk->info), 1);
	if (r < 0)
		goto err_free;
	*out = &vblk->dev;
	return 0;
err_free:
	free(vblk->queue.long_iovs);
	free(vblk->queue.slots);
	free(vblk);
	return r;
}
