/* SPDX-License-Identifier: MIT */
#include "virtio/stats.h"

#include <errno.h>
#include <stdlib.h>

#include "virtio/device.h"

int virtio_dev_count(struct virtio_dev *dev)
{
	dev->stats = calloc(1, sizeof(*dev->stats) + dev->nqueues * sizeof(dev->stats->queues[0]));
	if (!dev->stats)
		return -ENOMEM;
	for (unsigned int i = 0; i < dev->nqueues; i++)
		dev->queues[i].stats = &dev->stats->queues[i];
	if (dev->ops->count)
		dev->ops->count(dev);
	return 0;
}
