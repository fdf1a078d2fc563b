/* SPDX-License-Identifier: MIT */
/* virtio-net (virtio 1.2, section 5.1) on a network back end. */
#pragma once

#include <stdint.h>

struct loop;
struct mem;
struct net;
struct virtio_dev;

/* `net` stays the caller's. 0 or -errno. */
int virtio_net_create(const char *name, struct loop *loop, const struct mem *mem, struct net *net,
		      const uint8_t mac[6], struct virtio_dev **out);
