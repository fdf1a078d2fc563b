/* SPDX-License-Identifier: MIT */
/* The control queue of a virtio network card. */
#pragma once

#include <linux/virtio_net.h>

#include "guest/lib/virtio.h"

#define NET_PAIRS_MAX 8

/* What to ask vdev_begin for; with "merge" what vhost wants to have. */
uint64_t net_features(unsigned int pairs);
/* Its queue, of a device that must offer just `pairs`. */
void net_ctrl_init(struct vqueue *ctrl, struct vdev *dev, unsigned int pairs);
/* A command of up to 16 bytes, class and number first, and wait: what was acknowledged. */
uint8_t net_command(struct vqueue *ctrl, const void *bytes, uint32_t len);
uint8_t net_set_pairs(struct vqueue *ctrl, unsigned int pairs);
