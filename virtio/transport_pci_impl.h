/* SPDX-License-Identifier: MIT */
/* Inside virtio over PCI: what transport_pci.c and transport_pci_common.c share. */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#include "devices/msix.h"
#include "devices/pci.h"
#include "util/log.h"
#include "virtio/device.h"

#define BAR_MEMORY 0
#define BAR_PORTS 1
#define BARS 2

struct virtio_pci {
	struct pci_dev pci;
	struct msix msix;
	struct vm *vm;
	struct virtio_dev *dev;
	unsigned int cfg_access; /* offset of the configuration access capability */
	uint64_t doorbells[BARS]; /* bitmap: queues with an ioeventfd; under the PCI host's lock */
	atomic_uint device_feature_select, driver_feature_select, queue_select;
	atomic_uint isr;
	atomic_uint queue_vectors[VIRTIO_QUEUES_MAX];
	atomic_uint config_vector;
	struct log_limit log_limit;
};

/* The common configuration (4.1.4.3): `len` bytes, 1, 2, 4 or 8, at `offset`. Reads set `data`
 * only where there is something. */
void virtio_pci_common_read(struct virtio_pci *vp, uint64_t offset, void *data, unsigned int len);
void virtio_pci_common_write(struct virtio_pci *vp, uint64_t offset, const uint8_t *data,
			     unsigned int len);
