/* SPDX-License-Identifier: MIT */
/* virtio-rng (virtio 1.2, section 5.4): the host's random numbers. */
#pragma once

struct loop;
struct mem;
struct virtio_dev;

int virtio_rng_create(const char *name, struct loop *loop, const struct mem *mem,
		      struct virtio_dev **out);
