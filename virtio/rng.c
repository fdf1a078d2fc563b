/* SPDX-License-Identifier: MIT */
/*
 * virtio-rng (virtio 1.2, section 5.4). A request gets random bytes straight from getrandom(2),
 * at most CHUNK of them (the device may write less than the buffer holds, 5.4.6.1), and a turn
 * answers at most what the ring holds: a driver that asks without end shares the loop.
 */
#include "virtio/rng.h"

#include <errno.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "util/util.h"
#include "virtio/device.h"
#include "virtio/queue.h"

#define QUEUE_SIZE 8
#define CHUNK 4096

/* The bytes written, from the chain's start. */
static uint32_t fill(const struct vq_chain *chain)
{
	uint32_t total = 0;

	for (unsigned int i = 0; i < chain->in_count && total < CHUNK; i++) {
		const struct iovec *iov = &chain->iov[chain->out_count + i];
		size_t len = MIN(iov->iov_len, CHUNK - total);
		/* Up to 256 bytes come whole; more may come short, which is as good. */
		ssize_t got = getrandom(iov->iov_base, len, GRND_NONBLOCK);

		if (got <= 0)
			break;
		total += (uint32_t)got;
		if ((size_t)got < len)
			break;
	}
	return total;
}

/* One turn: what is available now, and no more than the ring holds. */
static void rng_kick(struct virtio_dev *dev, unsigned int index)
{
	struct virtqueue *vq = dev->queues[index].vq;
	struct vq_chain chain;
	int r;

	vq_disarm(vq);
	while ((r = vq_pop(vq, &chain)) == 1) {
		if (chain.in_bytes == 0) {
			virtio_broken(dev, "a request for no random bytes");
			return;
		}
		vq_push(vq, chain.head, fill(&chain));
	}
	virtio_publish(dev, index);
	if (r < 0)
		virtio_broken(dev, vq_error(vq));
	else
		virtio_await(dev, index);
}

static void rng_config_read(struct virtio_dev *dev, size_t offset, void *data, size_t len)
{
	memset(data, 0, len); /* there is none (5.4.4) */
}

static void rng_destroy(struct virtio_dev *dev)
{
	virtio_dev_finish(dev);
	free(dev);
}

static const struct virtio_ops rng_ops = {
	.name = "rng",
	.id = VIRTIO_ID_RNG,
	.pci_class = 0x00ff00, /* no class; others */
	.queue_size_max = QUEUE_SIZE,
	.config_bytes = 0,
	.config_read = rng_config_read,
	.kick = rng_kick,
	.destroy = rng_destroy,
};

int virtio_rng_create(const char *name, struct loop *loop, const struct mem *mem,
		      struct virtio_dev **out)
{
	struct virtio_dev *dev = calloc(1, sizeof(*dev));
	int r;

	if (!dev)
		return -ENOMEM;
	r = virtio_dev_init(dev, &rng_ops, name, loop, mem, 0, 1);
	if (r < 0) {
		free(dev);
		return r;
	}
	*out = dev;
	return 0;
}
