/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * A BAR of memory holds everything, each structure in a page of its own (virtio 1.2, 4.1.4):
 *
 *	0x0000 common configuration    0x3000 doorbells, 4 bytes per queue
 *	0x1000 ISR status              0x4000 MSI-X table
 *	0x2000 device configuration    0x5000 MSI-X pending bits
 *
 * A second BAR has the doorbells again, as I/O ports, which the driver is to prefer: for a write
 * to memory KVM has to decode the driver's instruction, on AMD always, while a port's exit says
 * what was written. Doorbells are ioeventfds, registered when their BAR is mapped and moved with
 * it: a kick does not come here. Vectors are read by the device's loop when it raises an
 * interrupt, hence atomic; the selectors are atomic for guests whose vCPUs write them at the same
 * time.
 *
 * The common configuration is in transport_pci_common.c.
 */
#include "virtio/transport_pci.h"

#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/virtio_pci.h>
#include <stdlib.h>
#include <string.h>

#include "util/util.h"
#include "virtio/transport_pci_impl.h"
#include "vmm/vm.h"

#define BAR_BYTES 0x8000u
#define PAGE_BYTES 0x1000u
#define NOTIFY_MULTIPLIER 4u
#define PORTS (VIRTIO_QUEUES_MAX * NOTIFY_MULTIPLIER)

#define CAP_PLAIN ((unsigned int)sizeof(struct virtio_pci_cap))
#define CAP_LONG (CAP_PLAIN + 4) /* the multiplier, or the access capability's data */

enum page {
	PAGE_COMMON,
	PAGE_ISR,
	PAGE_DEVICE,
	PAGE_NOTIFY,
	PAGE_MSIX_TABLE,
	PAGE_MSIX_PBA,
};

_Static_assert(VIRTIO_QUEUES_MAX <= 64, "doorbells");
_Static_assert(PORTS <= 256, "PCI 3.0, 6.2.5.1");
_Static_assert(VIRTIO_QUEUES_MAX * NOTIFY_MULTIPLIER <= PAGE_BYTES, "PAGE_NOTIFY");
_Static_assert(MSIX_TABLE_BYTES(VIRTIO_QUEUES_MAX + 1) <= PAGE_BYTES, "PAGE_MSIX_TABLE");

#define PCI_VENDOR_VIRTIO 0x1af4
#define PCI_DEVICE_VIRTIO 0x1040 /* plus the virtio id (4.1.2) */

#define ISR_QUEUE 0x1u

/* --- what the device calls --- */

static void queue_irq(void *owner, unsigned int queue)
{
	struct virtio_pci *vp = owner;

	/* 4.1.4.5: the ISR tells of queues only where MSI-X does not */
	if (!atomic_load_explicit(&vp->msix.enabled, memory_order_relaxed))
		atomic_fetch_or(&vp->isr, ISR_QUEUE); /* pairs with isr_read */
	/* pairs with write_vector; NO_VECTOR is out of MSI-X's range */
	msix_raise(&vp->msix, atomic_load(&vp->queue_vectors[queue]));
}

/* Masked or not: what is raised meanwhile waits in the eventfd. */
static int queue_irq_fd(void *owner, unsigned int queue)
{
	struct virtio_pci *vp = owner;

	/* pairs with write_vector */
	return msix_fd(&vp->msix, atomic_load(&vp->queue_vectors[queue]));
}

static uint32_t exit_ns(void *owner)
{
	const struct virtio_pci *vp = owner;

	return vm_exit_ns(vp->vm);
}

static void config_irq(void *owner)
{
	struct virtio_pci *vp = owner;

	atomic_fetch_or(&vp->isr, VIRTIO_PCI_ISR_CONFIG); /* pairs with isr_read */
	msix_raise(&vp->msix, atomic_load(&vp->config_vector)); /* pairs with write_vector */
}

static void reset(void *owner)
{
	struct virtio_pci *vp = owner;

	atomic_store(&vp->device_feature_select, 0);
	atomic_store(&vp->driver_feature_select, 0);
	atomic_store(&vp->queue_select, 0);
	atomic_store(&vp->isr, 0);
	atomic_store(&vp->config_vector, VIRTIO_MSI_NO_VECTOR);
	for (unsigned int i = 0; i < ARRAY_LEN(vp->queue_vectors); i++)
		atomic_store(&vp->queue_vectors[i], VIRTIO_MSI_NO_VECTOR);
}

/* --- the BAR --- */

/* 4.1.4.5: reading clears. */
static void isr_read(struct virtio_pci *vp, uint64_t offset, void *data)
{
	if (offset == 0)
		*(uint8_t *)data = (uint8_t)atomic_exchange(&vp->isr, 0); /* pairs with *_irq */
}

static void bar_read(void *owner, uint64_t offset, void *data, unsigned int len)
{
	struct virtio_pci *vp = owner;
	uint64_t at = offset % PAGE_BYTES;

	memset(data, 0, len);
	switch (offset / PAGE_BYTES) {
	case PAGE_COMMON:
		virtio_pci_common_read(vp, at, data, len);
		break;
	case PAGE_ISR:
		isr_read(vp, at, data);
		break;
	case PAGE_DEVICE:
		virtio_config_read(vp->dev, at, data, len);
		break;
	case PAGE_MSIX_TABLE:
		msix_table_read(&vp->msix, at, data, len);
		break;
	case PAGE_MSIX_PBA:
		msix_pba_read(&vp->msix, at, data, len);
		break;
	}
}

static void bar_write(void *owner, uint64_t offset, const void *data, unsigned int len)
{
	struct virtio_pci *vp = owner;
	uint64_t at = offset % PAGE_BYTES;

	switch (offset / PAGE_BYTES) {
	case PAGE_COMMON:
		virtio_pci_common_write(vp, at, data, len);
		break;
	case PAGE_DEVICE:
		virtio_config_write(vp->dev, at, data, len);
		break;
	case PAGE_NOTIFY:
		/* Only where there is no ioeventfd, or through the access capability. */
		virtio_kick(vp->dev, (unsigned int)(at / NOTIFY_MULTIPLIER));
		break;
	case PAGE_MSIX_TABLE:
		msix_table_write(&vp->msix, at, data, len);
		break;
	}
}

static const struct bus_ops bar_ops = {
	.read = bar_read,
	.write = bar_write,
};

static void ports_read(void *owner, uint64_t offset, void *data, unsigned int len)
{
	memset(data, 0, len);
}

static void ports_write(void *owner, uint64_t offset, const void *data, unsigned int len)
{
	bar_write(owner, PAGE_NOTIFY * PAGE_BYTES + offset, data, len);
}

static const struct bus_ops ports_ops = {
	.read = ports_read,
	.write = ports_write,
};

/* --- configuration space --- */

/* The access capability (4.1.4.9) is a window: a part of a BAR that its data field shows. */
struct window {
	uint8_t *data; /* in `cfg` */
	const struct bus_ops *ops;
	uint32_t offset, bytes;
};

/* True: the window's data is at [reg, reg + len), and what it names is valid. */
static bool find_window(struct virtio_pci *vp, unsigned int reg, unsigned int len,
			struct window *w)
{
	unsigned int data = vp->cfg_access + (unsigned int)sizeof(struct virtio_pci_cap);
	const uint8_t *cap = &vp->pci.cfg[vp->cfg_access];
	const struct pci_bar *bar = &vp->pci.bars[cap[VIRTIO_PCI_CAP_BAR] % BARS];

	if (reg >= data + 4 || reg + len <= data)
		return false;
	w->ops = bar->ops;
	w->data = &vp->pci.cfg[data];
	memcpy(&w->offset, cap + VIRTIO_PCI_CAP_OFFSET, sizeof(w->offset));
	memcpy(&w->bytes, cap + VIRTIO_PCI_CAP_LENGTH, sizeof(w->bytes));
	return cap[VIRTIO_PCI_CAP_BAR] < BARS &&
	       (w->bytes == 1 || w->bytes == 2 || w->bytes == 4) &&
	       w->offset % w->bytes == 0 && range_fits(w->offset, w->bytes, bar->size);
}

static void config_reading(struct pci_dev *pci, unsigned int reg, unsigned int len)
{
	struct virtio_pci *vp = CONTAINER_OF(pci, struct virtio_pci, pci);
	struct window w;

	if (find_window(vp, reg, len, &w))
		w.ops->read(vp, w.offset, w.data, w.bytes);
}

static void config_written(struct pci_dev *pci, unsigned int reg, unsigned int len)
{
	struct virtio_pci *vp = CONTAINER_OF(pci, struct virtio_pci, pci);
	bool enabled = atomic_load(&vp->msix.enabled);
	struct window w;

	msix_config_written(&vp->msix, reg, len);
	if (enabled != atomic_load(&vp->msix.enabled))
		virtio_irqs_moved(vp->dev);
	if (find_window(vp, reg, len, &w))
		w.ops->write(vp, w.offset, w.data, w.bytes);
}

static void bar_mapped(struct pci_dev *pci, unsigned int bar, uint64_t addr, bool mapped)
{
	struct virtio_pci *vp = CONTAINER_OF(pci, struct virtio_pci, pci);
	const struct bus *bus = bar == BAR_PORTS ? &vp->vm->pio : &vp->vm->mmio;
	uint64_t doorbell = bar == BAR_PORTS ? addr : addr + PAGE_NOTIFY * PAGE_BYTES;
	uint64_t *doorbells = &vp->doorbells[bar];

	for (unsigned int i = 0; i < vp->dev->nqueues; i++, doorbell += NOTIFY_MULTIPLIER) {
		int fd = vp->dev->queues[i].kick_fd, r;

		if (!mapped) {
			if (*doorbells & 1ull << i)
				vm_ioeventfd_del(vp->vm, bus, doorbell, fd);
			*doorbells &= ~(1ull << i);
			continue;
		}
		r = vm_ioeventfd_add(vp->vm, bus, doorbell, fd);
		if (r == 0)
			*doorbells |= 1ull << i;
		else /* kicks come by bar_write: slower, not wrong */
			log_guest(&vp->log_limit, "%s: no ioeventfd for queue %u: %s",
				  vp->dev->name, i, strerror(-r));
	}
}

static const struct pci_dev_ops pci_ops = {
	.config_written = config_written,
	.config_reading = config_reading,
	.bar_mapped = bar_mapped,
};

/* --- creation and end --- */

/* Where its bytes are, in BAR_MEMORY until the caller says otherwise. */
static unsigned int add_capability(struct virtio_pci *vp, uint8_t type, uint32_t offset,
				   uint32_t bytes, unsigned int cap_len)
{
	unsigned int at = pci_add_capability(&vp->pci, PCI_CAP_ID_VNDR, cap_len);
	uint8_t *cap = &vp->pci.cfg[at];

	cap[VIRTIO_PCI_CAP_LEN] = (uint8_t)cap_len;
	cap[VIRTIO_PCI_CAP_CFG_TYPE] = type;
	cap[VIRTIO_PCI_CAP_BAR] = BAR_MEMORY;
	memcpy(cap + VIRTIO_PCI_CAP_OFFSET, &offset, sizeof(offset));
	memcpy(cap + VIRTIO_PCI_CAP_LENGTH, &bytes, sizeof(bytes));
	return at;
}

static void add_doorbells(struct virtio_pci *vp, uint8_t bar, uint32_t offset)
{
	uint32_t bytes = MAX(vp->dev->nqueues, 1) * NOTIFY_MULTIPLIER;
	unsigned int at = add_capability(vp, VIRTIO_PCI_CAP_NOTIFY_CFG, offset, bytes, CAP_LONG);
	uint32_t multiplier = NOTIFY_MULTIPLIER;

	vp->pci.cfg[at + VIRTIO_PCI_CAP_BAR] = bar;
	memcpy(&vp->pci.cfg[at + VIRTIO_PCI_NOTIFY_CAP_MULT], &multiplier, sizeof(multiplier));
}

/* 4.1.4: of several of a type, the one to prefer comes first. */
static void add_capabilities(struct virtio_pci *vp)
{
	unsigned int at;

	add_capability(vp, VIRTIO_PCI_CAP_COMMON_CFG, PAGE_COMMON * PAGE_BYTES,
		       sizeof(struct virtio_pci_common_cfg), CAP_PLAIN);
	add_doorbells(vp, BAR_PORTS, 0);
	add_doorbells(vp, BAR_MEMORY, PAGE_NOTIFY * PAGE_BYTES);
	add_capability(vp, VIRTIO_PCI_CAP_ISR_CFG, PAGE_ISR * PAGE_BYTES, 1, CAP_PLAIN);
	if (vp->dev->ops->config_bytes)
		add_capability(vp, VIRTIO_PCI_CAP_DEVICE_CFG, PAGE_DEVICE * PAGE_BYTES,
			       (uint32_t)vp->dev->ops->config_bytes, CAP_PLAIN);

	at = add_capability(vp, VIRTIO_PCI_CAP_PCI_CFG, 0, 0, CAP_LONG);
	vp->cfg_access = at;
	vp->pci.writable[at + VIRTIO_PCI_CAP_BAR] = 0xff;
	memset(&vp->pci.writable[at + VIRTIO_PCI_CAP_OFFSET], 0xff,
	       CAP_LONG - VIRTIO_PCI_CAP_OFFSET);
}

static void init_identity(struct virtio_pci *vp)
{
	const struct virtio_ops *ops = vp->dev->ops;
	const struct pci_id id = {
		.vendor = PCI_VENDOR_VIRTIO,
		.device = PCI_DEVICE_VIRTIO + ops->id,
		.subsys_vendor = PCI_VENDOR_VIRTIO,
		.subsys_device = PCI_DEVICE_VIRTIO + ops->id,
		.class_code = ops->pci_class,
		.revision = 1,
	};

	pci_dev_init(&vp->pci, &id, &pci_ops);
	pci_set_bar(&vp->pci, BAR_MEMORY, PCI_MEMORY, BAR_BYTES, &bar_ops, vp);
	pci_set_bar(&vp->pci, BAR_PORTS, PCI_PORTS, PORTS, &ports_ops, vp);
}

int virtio_pci_create(struct vm *vm, struct pci_host *host, struct virtio_dev *dev,
		      struct virtio_pci **out)
{
	struct virtio_pci *vp = calloc(1, sizeof(*vp));
	int r;

	if (!vp)
		return -ENOMEM;
	vp->vm = vm;
	vp->dev = dev;
	reset(vp);
	init_identity(vp);
	r = msix_init(&vp->msix, &vm->irq, &vp->pci, dev->nqueues + 1, BAR_MEMORY,
		      PAGE_MSIX_TABLE * PAGE_BYTES, PAGE_MSIX_PBA * PAGE_BYTES);
	if (r < 0)
		goto err_free;
	add_capabilities(vp);
	r = pci_add(host, &vp->pci);
	if (r < 0)
		goto err_finish_msix;
	dev->transport = (struct virtio_transport){
		queue_irq, queue_irq_fd, config_irq, exit_ns, reset, vp};
	*out = vp;
	return 0;

err_finish_msix:
	msix_finish(&vp->msix);
err_free:
	free(vp);
	return r;
}

void virtio_pci_destroy(struct virtio_pci *vp)
{
	if (!vp)
		return;
	vp->dev->transport = (struct virtio_transport){0};
	pci_remove(&vp->pci);
	msix_finish(&vp->msix);
	free(vp);
}
