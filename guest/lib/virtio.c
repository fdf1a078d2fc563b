/* SPDX-License-Identifier: MIT */
#include "guest/lib/virtio.h"

#include <linux/pci_regs.h>

#include "guest/lib/cpu.h"
#include "guest/lib/guest.h"
#include "guest/lib/io.h"
#include "guest/lib/pci.h"

#define PATIENCE_CYCLES 30000000000ull
/* How many buffers are used before used_event is moved: it has to stay behind used->idx. */
#define USED_EVENT_STEP 0x4000

bool still_patient(uint64_t start)
{
	pause();
	return rdtsc() - start < PATIENCE_CYCLES;
}

/* One vendor capability (virtio 1.2, 4.1.4). */
static void take_capability(struct vdev *dev, unsigned int cap)
{
	uint64_t at = pci_at(dev->slot, cap);
	unsigned int bar = read8(at + VIRTIO_PCI_CAP_BAR);
	uint64_t addr = pci_bar(dev->slot, bar) + read32(at + VIRTIO_PCI_CAP_OFFSET);

	switch (read8(at + VIRTIO_PCI_CAP_CFG_TYPE)) {
	case VIRTIO_PCI_CAP_COMMON_CFG:
		dev->common = addr;
		break;
	case VIRTIO_PCI_CAP_NOTIFY_CFG:
		if (pci_bar_is_ports(dev->slot, bar))
			dev->notify_port = (uint16_t)addr;
		else
			dev->notify = addr;
		dev->notify_multiplier = read32(at + VIRTIO_PCI_NOTIFY_CAP_MULT);
		break;
	case VIRTIO_PCI_CAP_ISR_CFG:
		dev->isr = addr;
		break;
	case VIRTIO_PCI_CAP_DEVICE_CFG:
		dev->config = addr;
		break;
	}
}

void vdev_locate(struct vdev *dev)
{
	unsigned int cap = 0;

	while ((cap = pci_capability(dev->slot, PCI_CAP_ID_VNDR, cap)))
		take_capability(dev, cap);
	CHECK(dev->common && dev->notify && dev->isr);
}

void vdev_find(struct vdev *dev, unsigned int virtio_id, unsigned int nth)
{
	memset(dev, 0, sizeof(*dev));
	dev->slot = pci_find(0x1AF4, (uint16_t)(0x1040 + virtio_id), nth);
	vdev_locate(dev);
	pci_enable(dev->slot, true);
}

uint8_t vdev_status(struct vdev *dev)
{
	return read8(COMMON(dev, device_status));
}

void vdev_reset(struct vdev *dev)
{
	uint64_t start = rdtsc();

	write8(COMMON(dev, device_status), 0);
	while (vdev_status(dev))
		CHECK(still_patient(start));
}

static uint64_t offered_features(struct vdev *dev)
{
	uint64_t low;

	write32(COMMON(dev, device_feature_select), 0);
	low = read32(COMMON(dev, device_feature));
	write32(COMMON(dev, device_feature_select), 1);
	return (uint64_t)read32(COMMON(dev, device_feature)) << 32 | low;
}

void vdev_begin(struct vdev *dev, uint64_t wanted)
{
	uint8_t status = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER;

	vdev_reset(dev);
	write8(COMMON(dev, device_status), VIRTIO_CONFIG_S_ACKNOWLEDGE);
	write8(COMMON(dev, device_status), status);
	dev->features = offered_features(dev);
	CHECK(dev->features & BIT(VIRTIO_F_VERSION_1));
	dev->features &= wanted | BIT(VIRTIO_F_VERSION_1);
	write32(COMMON(dev, guest_feature_select), 0);
	write32(COMMON(dev, guest_feature), (uint32_t)dev->features);
	write32(COMMON(dev, guest_feature_select), 1);
	write32(COMMON(dev, guest_feature), (uint32_t)(dev->features >> 32));
	write8(COMMON(dev, device_status), status | VIRTIO_CONFIG_S_FEATURES_OK);
	CHECK(vdev_status(dev) & VIRTIO_CONFIG_S_FEATURES_OK);
}

static void write_addr(uint64_t at, const void *addr)
{
	write32(at, (uint32_t)(uint64_t)addr);
	write32(at + 4, (uint32_t)((uint64_t)addr >> 32));
}

static bool has_event_idx(const struct vqueue *queue)
{
	return queue->dev->features & BIT(VIRTIO_RING_F_EVENT_IDX);
}

/* With EVENT_IDX, what NO_INTERRUPT is without. */
static void move_used_event(struct vqueue *queue)
{
	*(volatile uint16_t *)&queue->avail->ring[queue->size] = queue->used_next - 1;
}

void vqueue_init(struct vqueue *queue, struct vdev *dev, uint16_t index, uint16_t size)
{
	uint16_t most;
	uint32_t offset;

	write16(COMMON(dev, queue_select), index);
	most = read16(COMMON(dev, queue_size));
	CHECK(most);
	offset = read16(COMMON(dev, queue_notify_off)) * dev->notify_multiplier;
	size = size ? size : most;
	CHECK(size <= most);
	*queue = (struct vqueue){
		.dev = dev,
		.index = index,
		.size = size,
		.desc = alloc(size * sizeof(struct vring_desc), 16),
		.avail = alloc(sizeof(struct vring_avail) + size * 2u + 2, 2),
		.used = alloc(sizeof(struct vring_used) + size * 8u + 2, 4),
		.doorbell = dev->notify + offset,
		.doorbell_port = (uint16_t)(dev->notify_port + offset),
	};
	queue->avail->flags = VRING_AVAIL_F_NO_INTERRUPT;
	move_used_event(queue);
	write16(COMMON(dev, queue_size), size);
	write_addr(COMMON(dev, queue_desc_lo), queue->desc);
	write_addr(COMMON(dev, queue_avail_lo), queue->avail);
	write_addr(COMMON(dev, queue_used_lo), queue->used);
	write16(COMMON(dev, queue_enable), 1);
	CHECK_EQ(read16(COMMON(dev, queue_enable)), 1);
}

void vdev_go(struct vdev *dev)
{
	write8(COMMON(dev, device_status), vdev_status(dev) | VIRTIO_CONFIG_S_DRIVER_OK);
}

/* A chain from `head` on in a table of `size`, around whose end it goes. */
static void write_chain(struct vring_desc *table, unsigned int size, unsigned int head,
			const struct vbuf *bufs, unsigned int out, unsigned int in)
{
	for (unsigned int i = 0; i < out + in; i++) {
		struct vring_desc *desc = &table[(head + i) % size];

		desc->addr = (uint64_t)bufs[i].data;
		desc->len = bufs[i].len;
		desc->flags = i < out ? 0 : VRING_DESC_F_WRITE;
		if (i + 1 < out + in)
			desc->flags |= VRING_DESC_F_NEXT;
		desc->next = (uint16_t)((head + i + 1) % size);
	}
}

void vqueue_chain(struct vqueue *queue, uint16_t head, const struct vbuf *bufs, unsigned int out,
		  unsigned int in)
{
	write_chain(queue->desc, queue->size, head, bufs, out, in);
}

void vqueue_indirect(struct vqueue *queue, uint16_t head, struct vring_desc *table,
		     const struct vbuf *bufs, unsigned int out, unsigned int in)
{
	unsigned int count = out + in;

	write_chain(table, count, 0, bufs, out, in);
	queue->desc[head] = (struct vring_desc){
		.addr = (uint64_t)table,
		.len = count * (uint32_t)sizeof(*table),
		.flags = VRING_DESC_F_INDIRECT,
	};
}

void vqueue_offer(struct vqueue *queue, uint16_t head)
{
	queue->avail->ring[queue->avail->idx % queue->size] = head;
	__atomic_store_n(&queue->avail->idx, queue->avail->idx + 1, __ATOMIC_RELEASE);
}

void vqueue_kick(struct vqueue *queue)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (queue->kicks++ % 2 && queue->dev->notify_port)
		outw(queue->doorbell_port, queue->index);
	else
		write16(queue->doorbell, queue->index);
}

/* 2.7.7.1, 2.7.10.1: what the device asks for, once it can see what was offered. */
static bool kick_wanted(struct vqueue *queue)
{
	const volatile uint16_t *event = (const void *)&queue->used->ring[queue->size];
	uint16_t told = queue->avail_told;

	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	queue->avail_told = queue->avail->idx;
	if (has_event_idx(queue))
		return vring_need_event(*event, queue->avail_told, told);
	return !(*(volatile uint16_t *)&queue->used->flags & VRING_USED_F_NO_NOTIFY);
}

void vqueue_tell(struct vqueue *queue)
{
	if (!kick_wanted(queue))
		return;
	queue->kicks++;
	if (queue->dev->notify_port)
		outw(queue->doorbell_port, queue->index);
	else
		write16(queue->doorbell, queue->index);
}

bool vqueue_poll(struct vqueue *queue, struct vring_used_elem *elem)
{
	if (__atomic_load_n(&queue->used->idx, __ATOMIC_ACQUIRE) == queue->used_next)
		return false;
	*elem = queue->used->ring[queue->used_next++ % queue->size];
	if (queue->used_next % USED_EVENT_STEP == 0)
		move_used_event(queue);
	return true;
}

struct vring_used_elem vqueue_wait(struct vqueue *queue)
{
	uint64_t start = rdtsc();
	struct vring_used_elem elem;

	while (!vqueue_poll(queue, &elem))
		CHECK(still_patient(start));
	return elem;
}
