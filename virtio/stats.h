/* SPDX-License-Identifier: MIT */
/*
 * What a device counts when it is asked to (virtio_dev_count). One writer, the device's loop; a
 * reader sees each number whole, and no two of them at one instant.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "util/histogram.h"
#include "util/moment.h"
#include "virtio/queue.h"

#define VIRTIO_STATS_OPS 5

/* One kind of request. */
struct virtio_op_stats {
	const char *name; /* NULL: the device has no more kinds */
	_Atomic uint64_t bytes, errors;
	struct histogram latency_ns; /* from when it was taken until it was answered */
	struct moment first;         /* answer */
};

struct virtio_stats {
	struct virtio_op_stats ops[VIRTIO_STATS_OPS];
	const struct run_nic_live *frames; /* of a NIC, since the machine started; or NULL */
	bool by_kernel; /* where vhost-net serves the queues, it counts nothing */
	struct vq_stats queues[];
};
