/* SPDX-License-Identifier: MIT */
/* virtio-blk (virtio 1.2, section 5.2): the device. Its requests are in blk_request.c. */
#include "virtio/blk.h"

#include <errno.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <string.h>

#include "util/util.h"
#include "virtio/blk_request.h"
#include "virtio/stats.h"

/* Requests of one queue before other work gets its turn; and bytes, so that the driver has the
 * first of some long ones back while the others are still being copied. */
#define TURN_MAX 128
#define TURN_BYTES KIB(256)

/* Config space as far as the features offered define it. */
#define CONFIG_BYTES offsetof(struct virtio_blk_config, max_secure_erase_sectors)

static struct virtio_blk *to_blk(struct virtio_dev *dev)
{
	return CONTAINER_OF(dev, struct virtio_blk, dev);
}

/* Take what is there, but no more than one turn's: then others get theirs, and we the next. */
static void take_some(struct blk_queue *queue)
{
	struct virtio_dev *dev = &queue->vblk->dev;
	struct virtqueue *vq = dev->queues[queue->index].vq;
	unsigned int left = TURN_MAX;
	uint64_t bytes = 0;
	struct vq_chain chain;
	int r;

	vq_disarm(vq);
	while ((r = vq_pop(vq, &chain)) == 1) {
		if (!blk_take(queue, &chain)) {
			virtio_broken(dev, "a request without a status byte");
			return;
		}
		bytes += chain.out_bytes + chain.in_bytes;
		if (--left == 0 || bytes >= TURN_BYTES) {
			queue->more = true;
			blk_defer_turn(queue);
			return;
		}
	}
	if (r < 0)
		virtio_broken(dev, vq_error(vq));
	else
		virtio_await(dev, queue->index);
}

static bool may_take(const struct virtio_blk *vblk)
{
	return !vblk->draining && /* `broken` is set on this thread */
	       !atomic_load_explicit(&vblk->dev.broken, memory_order_relaxed);
}

static void blk_kick(struct virtio_dev *dev, unsigned int index)
{
	struct virtio_blk *vblk = to_blk(dev);
	struct blk_queue *queue = &vblk->queues[index];

	if (may_take(vblk) && !queue->more)
		take_some(queue);
	vblk->now_ns = 0;
}

/* Show the driver the answers given since the last turn, and go on where that one stopped. */
static void blk_turn(struct loop_op *op, int res)
{
	struct blk_queue *queue = CONTAINER_OF(op, struct blk_queue, turn_op);
	struct virtio_blk *vblk = queue->vblk;
	bool more = queue->more;

	queue->turn_waits = queue->more = false;
	vblk->busy--;
	virtio_publish_lazily(&vblk->dev, queue->index);
	if (more && may_take(vblk))
		take_some(queue);
	vblk->now_ns = 0;
	blk_maybe_quiesced(vblk);
}

/* Untouched memory: pages get used as heads do. Kept over resets. */
static void blk_activate(struct virtio_dev *dev)
{
	struct virtio_blk *vblk = to_blk(dev);

	for (unsigned int i = 0; i < dev->nqueues; i++) {
		struct blk_queue *queue = &vblk->queues[i];

		if (dev->queues[i].vq && !queue->slots)
			queue->slots = malloc(BLK_QUEUE_SIZE * sizeof(*queue->slots));
		if (dev->queues[i].vq && !queue->slots)
			virtio_broken(dev, "out of memory");
	}
}

static void blk_quiesce(struct virtio_dev *dev)
{
	struct virtio_blk *vblk = to_blk(dev);

	vblk->draining = true;
	blk_drop_waiting(vblk);
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

/* 5.2.5: any mode will do after a reset, so all drivers get the same. */
static void blk_config_reset(struct virtio_dev *dev)
{
	atomic_store_explicit(&to_blk(dev)->writeback, true, memory_order_relaxed);
}

static void blk_count(struct virtio_dev *dev)
{
	struct virtio_op_stats *ops = dev->stats->ops;

	ops[BLK_READ].name = "read";
	ops[BLK_WRITE].name = "write";
	ops[BLK_FLUSH].name = "flush";
	ops[BLK_DISCARD].name = "discard";
	ops[BLK_WRITE_ZEROES].name = "write-zeroes";
}

static void blk_destroy(struct virtio_dev *dev)
{
	struct virtio_blk *vblk = to_blk(dev);
	struct blk_long_iov *iov;

	for (unsigned int i = 0; i < dev->nqueues; i++)
		free(vblk->queues[i].slots);
	while ((iov = vblk->long_free)) {
		vblk->long_free = iov->next;
		free(iov);
	}
	virtio_dev_finish(dev);
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
	.config_reset = blk_config_reset,
	.activate = blk_activate,
	.kick = blk_kick,
	.quiesce = blk_quiesce,
	.count = blk_count,
	.destroy = blk_destroy,
};

static uint64_t offered_features(const struct blk_info *info, unsigned int queues)
{
	uint64_t features = 1ull << VIRTIO_BLK_F_SEG_MAX |
			    1ull << VIRTIO_BLK_F_BLK_SIZE | 1ull << VIRTIO_BLK_F_TOPOLOGY |
			    1ull << VIRTIO_BLK_F_FLUSH | 1ull << VIRTIO_BLK_F_CONFIG_WCE;

	if (queues > 1)
		features |= 1ull << VIRTIO_BLK_F_MQ;
	if (info->readonly)
		return features | 1ull << VIRTIO_BLK_F_RO;
	if (info->can_discard)
		features |= 1ull << VIRTIO_BLK_F_DISCARD;
	if (info->can_write_zeroes)
		features |= 1ull << VIRTIO_BLK_F_WRITE_ZEROES;
	return features;
}

static void fill_config(struct virtio_blk_config *config, const struct blk_info *info,
			unsigned int queues)
{
	uint32_t block = MAX(info->block_bytes, BLK_SECTOR);

	config->capacity = info->size_bytes / BLK_SECTOR;
	config->seg_max = BLK_SEG_MAX;
	config->blk_size = BLK_SECTOR;
	config->physical_block_exp = (uint8_t)__builtin_ctz(block / BLK_SECTOR);
	config->min_io_size = (uint16_t)(block / BLK_SECTOR);
	config->opt_io_size = info->cluster_bytes / BLK_SECTOR;
	config->num_queues = (uint16_t)queues;
	config->max_discard_sectors = BLK_RANGE_SECTORS_MAX;
	config->max_discard_seg = BLK_RANGES_MAX;
	config->discard_sector_alignment = MAX(info->cluster_bytes, block) / BLK_SECTOR;
	config->max_write_zeroes_sectors = BLK_RANGE_SECTORS_MAX;
	config->max_write_zeroes_seg = BLK_RANGES_MAX;
	config->write_zeroes_may_unmap = 1;
}

int virtio_blk_create(const char *name, struct loop *loop, const struct mem *mem, struct blk *blk,
		      const struct virtio_blk_options *options, struct virtio_dev **out)
{
	unsigned int queues = options->queues;
	struct virtio_blk *vblk = calloc(1, sizeof(*vblk) + queues * sizeof(vblk->queues[0]));
	int r;

	if (!vblk)
		return -ENOMEM;
	vblk->blk = blk;
	vblk->info = blk_info(blk);
	vblk->limit = options->limit;
	if (options->serial)
		memcpy(vblk->serial, options->serial,
		       strnlen(options->serial, sizeof(vblk->serial)));
	fill_config(&vblk->config, vblk->info, queues);
	for (unsigned int i = 0; i < queues; i++)
		vblk->queues[i] = (struct blk_queue){
			.vblk = vblk, .index = i, .turn_op.done = blk_turn};
	r = virtio_dev_init(&vblk->dev, &blk_ops, name, loop, mem,
			    offered_features(vblk->info, queues), queues);
	if (r < 0) {
		free(vblk);
		return r;
	}
	*out = &vblk->dev;
	return 0;
}
