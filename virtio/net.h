/* SPDX-License-Identifier: MIT */
/* virtio-net (virtio 1.2, section 5.1) on a network back end. */
#pragma once

#include <stdint.h>

struct loop;
struct mem;
struct net;
struct virtio_dev;

struct virtio_net_stats {
	uint64_t rx_frames, rx_bytes, rx_dropped; /* to the guest */
	uint64_t rx_filtered;                     /* of VLANs it does not want */
	uint64_t tx_frames, tx_bytes, tx_dropped; /* from it; dropped: malformed, or refused */
	uint64_t ctrl_commands, ctrl_refused;
};

/* `net` stays the caller's, and outlives the device. 0 or -errno. */
int virtio_net_create(const char *name, struct loop *loop, const struct mem *mem, struct net *net,
		      const uint8_t mac[6], struct virtio_dev **out);

/* Since creation. On the device's loop, or while it does not run. */
void virtio_net_get_stats(const struct virtio_dev *dev, struct virtio_net_stats *out);
