/* SPDX-License-Identifier: MIT */
/* virtio-net (virtio 1.2, section 5.1) on a network back end. */
#pragma once

#include <stdint.h>

struct loop;
struct mem;
struct net;
struct run_nic_live;
struct virtio_dev;

/* `net` stays the caller's, and outlives the device. 0 or -errno. */
int virtio_net_create(const char *name, struct loop *loop, const struct mem *mem, struct net *net,
		      const uint8_t mac[6], struct virtio_dev **out);

/*
 * Count in `live` from now on, and say there what changes; before the device starts. What it has
 * counted already, as for the board before a reboot, is added to.
 */
void virtio_net_share(struct virtio_dev *dev, struct run_nic_live *live);
