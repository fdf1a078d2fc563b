/* SPDX-License-Identifier: MIT */
/*
 * The common configuration of virtio over PCI (virtio 1.2, 4.1.4.3). It is read from a snapshot,
 * so that every size and alignment gives what is there; writes count only in a field's own size
 * (4.1.3.1), 64-bit fields also by halves.
 */
#include <linux/virtio_pci.h>
#include <string.h>

#include "util/util.h"
#include "virtio/transport_pci_impl.h"

static void read_queue(struct virtio_pci *vp, struct virtio_pci_common_cfg *regs)
{
	unsigned int index = regs->queue_select;
	const struct virtio_queue *queue;

	regs->queue_msix_vector = VIRTIO_MSI_NO_VECTOR;
	if (index >= vp->dev->nqueues)
		return; /* size 0: not available */
	queue = &vp->dev->queues[index];
	pthread_mutex_lock(&vp->dev->lock);
	regs->queue_size = queue->config.size;
	regs->queue_msix_vector = (uint16_t)atomic_load(&vp->queue_vectors[index]);
	regs->queue_enable = queue->enabled;
	regs->queue_notify_off = (uint16_t)index;
	regs->queue_desc_lo = (uint32_t)queue->config.desc_gpa;
	regs->queue_desc_hi = (uint32_t)(queue->config.desc_gpa >> 32);
	regs->queue_avail_lo = (uint32_t)queue->config.avail_gpa;
	regs->queue_avail_hi = (uint32_t)(queue->config.avail_gpa >> 32);
	regs->queue_used_lo = (uint32_t)queue->config.used_gpa;
	regs->queue_used_hi = (uint32_t)(queue->config.used_gpa >> 32);
	pthread_mutex_unlock(&vp->dev->lock);
}

void virtio_pci_common_read(struct virtio_pci *vp, uint64_t offset, void *data, unsigned int len)
{
	struct virtio_pci_common_cfg regs = {
		.device_feature_select = atomic_load(&vp->device_feature_select),
		.guest_feature_select = atomic_load(&vp->driver_feature_select),
		.msix_config = (uint16_t)atomic_load(&vp->config_vector),
		.num_queues = (uint16_t)vp->dev->nqueues,
		.queue_select = (uint16_t)atomic_load(&vp->queue_select),
	};

	if (!range_fits(offset, len, sizeof(regs)))
		return;
	regs.device_feature = virtio_get_features(vp->dev, regs.device_feature_select);
	regs.guest_feature = virtio_get_driver_features(vp->dev, regs.guest_feature_select);
	regs.device_status = virtio_get_status(vp->dev);
	/* pairs with virtio_config_changed */
	regs.config_generation = (uint8_t)atomic_load(&vp->dev->config_generation);
	read_queue(vp, &regs);
	memcpy(data, (const uint8_t *)&regs + offset, len);
}

/* A vector that does not exist reads back as NO_VECTOR (4.1.5.1.2.1). */
static void write_vector(struct virtio_pci *vp, atomic_uint *vector, uint16_t value)
{
	/* pairs with queue_irq and config_irq */
	atomic_store(vector, value < vp->msix.count ? value : VIRTIO_MSI_NO_VECTOR);
}

/* `value` into the low or high half of an address. */
static void set_half(uint64_t *addr, unsigned int half, uint32_t value)
{
	uint64_t mask = 0xffffffffull << 32 * half;

	*addr = (*addr & ~mask) | (uint64_t)value << 32 * half;
}

static void write_queue_locked(struct virtio_pci *vp, unsigned int reg, uint32_t value)
{
	unsigned int index = atomic_load(&vp->queue_select);
	struct virtio_queue *queue = virtio_settable_queue(vp->dev, index);

	if (!queue)
		return;
	switch (reg) {
	case VIRTIO_PCI_COMMON_Q_SIZE:
		queue->config.size = (uint16_t)value;
		break;
	case VIRTIO_PCI_COMMON_Q_ENABLE:
		queue->enabled = value == 1; /* 0 is not the driver's to write */
		break;
	case VIRTIO_PCI_COMMON_Q_DESCLO:
	case VIRTIO_PCI_COMMON_Q_DESCHI:
		set_half(&queue->config.desc_gpa, reg == VIRTIO_PCI_COMMON_Q_DESCHI, value);
		break;
	case VIRTIO_PCI_COMMON_Q_AVAILLO:
	case VIRTIO_PCI_COMMON_Q_AVAILHI:
		set_half(&queue->config.avail_gpa, reg == VIRTIO_PCI_COMMON_Q_AVAILHI, value);
		break;
	case VIRTIO_PCI_COMMON_Q_USEDLO:
	case VIRTIO_PCI_COMMON_Q_USEDHI:
		set_half(&queue->config.used_gpa, reg == VIRTIO_PCI_COMMON_Q_USEDHI, value);
		break;
	}
}

static void write_queue_vector(struct virtio_pci *vp, uint16_t value)
{
	unsigned int index = atomic_load(&vp->queue_select);

	if (index >= vp->dev->nqueues)
		return;
	write_vector(vp, &vp->queue_vectors[index], value);
	virtio_irqs_moved(vp->dev);
}

/* The size in which the field at `reg` is written; 0: no writable field starts there. */
static unsigned int field_bytes(uint64_t reg)
{
	switch (reg) {
	case VIRTIO_PCI_COMMON_STATUS:
		return 1;
	case VIRTIO_PCI_COMMON_MSIX:
	case VIRTIO_PCI_COMMON_Q_SELECT:
	case VIRTIO_PCI_COMMON_Q_SIZE:
	case VIRTIO_PCI_COMMON_Q_MSIX:
	case VIRTIO_PCI_COMMON_Q_ENABLE:
		return 2;
	case VIRTIO_PCI_COMMON_DFSELECT:
	case VIRTIO_PCI_COMMON_GFSELECT:
	case VIRTIO_PCI_COMMON_GF:
		return 4;
	default:
		return reg >= VIRTIO_PCI_COMMON_Q_DESCLO && reg <= VIRTIO_PCI_COMMON_Q_USEDHI &&
			       reg % 4 == 0 ? 4 : 0;
	}
}

static void write_field(struct virtio_pci *vp, unsigned int reg, uint32_t value)
{
	switch (reg) {
	case VIRTIO_PCI_COMMON_DFSELECT:
		atomic_store(&vp->device_feature_select, value);
		break;
	case VIRTIO_PCI_COMMON_GFSELECT:
		atomic_store(&vp->driver_feature_select, value);
		break;
	case VIRTIO_PCI_COMMON_GF:
		virtio_set_driver_features(vp->dev, atomic_load(&vp->driver_feature_select), value);
		break;
	case VIRTIO_PCI_COMMON_MSIX:
		write_vector(vp, &vp->config_vector, (uint16_t)value);
		break;
	case VIRTIO_PCI_COMMON_STATUS:
		virtio_set_status(vp->dev, (uint8_t)value);
		break;
	case VIRTIO_PCI_COMMON_Q_SELECT:
		atomic_store(&vp->queue_select, value);
		break;
	case VIRTIO_PCI_COMMON_Q_MSIX:
		write_queue_vector(vp, (uint16_t)value);
		break;
	default:
		pthread_mutex_lock(&vp->dev->lock);
		write_queue_locked(vp, reg, value);
		pthread_mutex_unlock(&vp->dev->lock);
	}
}

void virtio_pci_common_write(struct virtio_pci *vp, uint64_t offset, const uint8_t *data,
			     unsigned int len)
{
	uint32_t value = 0;

	if (len == 8 && offset >= VIRTIO_PCI_COMMON_Q_DESCLO && offset % 8 == 0) {
		virtio_pci_common_write(vp, offset, data, 4);
		virtio_pci_common_write(vp, offset + 4, data + 4, 4);
		return;
	}
	if (len != field_bytes(offset))
		return;
	memcpy(&value, data, len);
	write_field(vp, (unsigned int)offset, value);
}
