/* SPDX-License-Identifier: MIT */
/*
 * A virtio device that gives every chain back at once, its PCI function in slot 1, and a driver
 * for it. Its loop is real and runs on a thread of its own, or is the caller's. Included once
 * per test.
 */
#pragma once

#include "tests/unit/fake_pci.h"

#include <linux/pci_regs.h>
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include <linux/virtio_ring.h>
#include <sched.h>
#include <stdio.h>

#include "util/loop.h"
#include "virtio/device.h"
#include "virtio/transport_pci.h"

#define TOY_QUEUES 3u
#define TOY_QUEUE_SIZE 8u
#define TOY_CONFIG_BYTES 6
#define TOY_FEATURE 5
#define TOY_ID 42

#define SLOT 1u
/* The BAR's pages, as transport_pci.c lays them out; the test of capabilities checks them. */
#define BAR_ADDR LAYOUT_PCI32_BASE
#define COMMON BAR_ADDR
#define ISR (BAR_ADDR + 0x1000)
#define DEVICE_CONFIG (BAR_ADDR + 0x2000)
#define NOTIFY (BAR_ADDR + 0x3000)
#define NOTIFY_PORT 0xC000
#define MSIX_TABLE (BAR_ADDR + 0x4000)
#define MSIX_PBA (BAR_ADDR + 0x5000)

#define ACK VIRTIO_CONFIG_S_ACKNOWLEDGE
#define DRIVER (ACK | VIRTIO_CONFIG_S_DRIVER)
#define FEATURES_OK (DRIVER | VIRTIO_CONFIG_S_FEATURES_OK)
#define DRIVER_OK (FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK)
#define NEEDS_RESET VIRTIO_CONFIG_S_NEEDS_RESET

#define RING(queue) (0x10000ull + (queue) * 0x3000ull) /* descriptors; avail and used behind */
#define AVAIL(queue) (RING(queue) + 0x1000)
#define USED(queue) (RING(queue) + 0x2000)
#define TOY_BUFFER 0x40000ull

/* On its loop, but for the atomics. */
struct toy {
	struct virtio_dev dev;
	uint8_t config[TOY_CONFIG_BYTES];
	atomic_uint activations, quiesces, chains, irq_moves;
	atomic_uint kicks[TOY_QUEUES];
	atomic_bool live;
	uint64_t live_features;
	bool hold_quiesce;       /* until toy_release */
	unsigned int drain_turns; /* of the loop, that draining takes */
	unsigned int turns_left;
	struct loop_call drain_call;
	bool slow_tail; /* the callback goes on after virtio_quiesced */
	atomic_bool tail_done;
	struct virtio_pci *pci;
};

static struct loop *toy_loop;
static struct pci_host *toy_host;

static struct toy *to_toy(struct virtio_dev *dev)
{
	return CONTAINER_OF(dev, struct toy, dev);
}

static void toy_config_read(struct virtio_dev *dev, size_t offset, void *data, size_t len)
{
	assert(offset + len <= TOY_CONFIG_BYTES && len);
	memcpy(data, to_toy(dev)->config + offset, len);
}

static void toy_config_write(struct virtio_dev *dev, size_t offset, const void *data, size_t len)
{
	assert(offset + len <= TOY_CONFIG_BYTES && len);
	memcpy(to_toy(dev)->config + offset, data, len);
}

static void toy_activate(struct virtio_dev *dev)
{
	struct toy *toy = to_toy(dev);

	assert(!toy->live);
	toy->live = true;
	toy->live_features = dev->features;
	toy->activations++;
}

static void toy_kick(struct virtio_dev *dev, unsigned int index)
{
	struct toy *toy = to_toy(dev);
	struct virtqueue *vq = dev->queues[index].vq;
	struct vq_chain chain;
	int r;

	assert(toy->live && !dev->draining);
	toy->kicks[index]++;
	while ((r = vq_pop(vq, &chain)) == 1) {
		toy->chains++;
		vq_push(vq, chain.head, 0);
	}
	virtio_publish(dev, index);
	if (r < 0)
		virtio_broken(dev, "a test's ring");
}

static void toy_irqs_moved(struct virtio_dev *dev)
{
	assert(to_toy(dev)->live && !dev->draining);
	to_toy(dev)->irq_moves++;
}

static void toy_drain_turn(struct loop_call *call)
{
	struct toy *toy = CONTAINER_OF(call, struct toy, drain_call);

	if (toy->turns_left) {
		toy->turns_left--;
		loop_post(toy->dev.loop, call);
		return;
	}
	toy->live = false;
	virtio_quiesced(&toy->dev);
	if (toy->slow_tail) {
		usleep(20000);
		toy->tail_done = true;
	}
}

static void toy_quiesce(struct virtio_dev *dev)
{
	struct toy *toy = to_toy(dev);

	assert(toy->live);
	toy->quiesces++;
	toy->turns_left = toy->drain_turns;
	if (!toy->hold_quiesce)
		toy_drain_turn(&toy->drain_call);
}

static inline void toy_release(void *arg)
{
	struct toy *toy = arg;

	toy->hold_quiesce = false;
	toy_drain_turn(&toy->drain_call);
}

static void toy_destroy(struct virtio_dev *dev)
{
	assert(!to_toy(dev)->live);
	virtio_dev_finish(dev);
	free(to_toy(dev));
}

static const struct virtio_ops toy_ops = {
	.name = "toy",
	.id = TOY_ID,
	.pci_class = 0xff0000,
	.queue_size_max = TOY_QUEUE_SIZE,
	.config_bytes = TOY_CONFIG_BYTES,
	.config_read = toy_config_read,
	.config_write = toy_config_write,
	.activate = toy_activate,
	.kick = toy_kick,
	.irqs_moved = toy_irqs_moved,
	.quiesce = toy_quiesce,
	.destroy = toy_destroy,
};

/* Memory, host, and the device in slot 1, on a loop of the caller's. NULL where memory is short. */
static inline struct toy *toy_create_on(struct loop *loop)
{
	struct toy *toy = calloc(1, sizeof(*toy));

	fake_vm_init();
	if (!toy || mem_init(&fake_vm.mem, &(struct mem_options){.len_bytes = 0x100000}) < 0) {
		free(toy);
		return NULL;
	}
	toy->drain_call.fn = toy_drain_turn;
	memcpy(toy->config, "\x11\x22\x33\x44\x55\x66", TOY_CONFIG_BYTES);
	if (pci_host_create(&fake_vm, &toy_host) < 0 ||
	    virtio_dev_init(&toy->dev, &toy_ops, "toy0", loop, &fake_vm.mem, 1ull << TOY_FEATURE,
			    TOY_QUEUES) < 0 ||
	    virtio_pci_create(&fake_vm, toy_host, &toy->dev, &toy->pci) < 0)
		abort();
	return toy;
}

/* The device is idle. */
static inline void toy_finish_on(struct toy *toy)
{
	virtio_pci_destroy(toy->pci);
	virtio_dev_destroy(&toy->dev);
	pci_host_destroy(toy_host);
	mem_finish(&fake_vm.mem);
	fake_vm_finish();
}

/* On a loop that runs. */
static inline struct toy *toy_create(void)
{
	if (loop_create("toy", &toy_loop) < 0 || loop_start(toy_loop) < 0)
		return NULL;
	return toy_create_on(toy_loop);
}

static inline void toy_finish(struct toy *toy)
{
	virtio_dev_stop(&toy->dev);
	toy_finish_on(toy);
	loop_stop(toy_loop);
	loop_destroy(toy_loop);
}

/* --- the driver --- */

static inline uint32_t common_in(unsigned int reg, unsigned int len)
{
	return (uint32_t)mmio_in(COMMON + reg, len);
}

static inline void common_out(unsigned int reg, unsigned int len, uint64_t value)
{
	mmio_out(COMMON + reg, len, value);
}

static inline uint8_t status_in(void)
{
	return (uint8_t)common_in(VIRTIO_PCI_COMMON_STATUS, 1);
}

static inline void status_out(uint8_t status)
{
	common_out(VIRTIO_PCI_COMMON_STATUS, 1, status);
}

static inline void features_out(uint64_t features)
{
	for (unsigned int i = 0; i < 2; i++) {
		common_out(VIRTIO_PCI_COMMON_GFSELECT, 4, i);
		common_out(VIRTIO_PCI_COMMON_GF, 4, (uint32_t)(features >> 32 * i));
	}
}

static inline void queue_out(unsigned int queue)
{
	common_out(VIRTIO_PCI_COMMON_Q_SELECT, 2, queue);
	common_out(VIRTIO_PCI_COMMON_Q_DESCLO, 8, RING(queue));
	common_out(VIRTIO_PCI_COMMON_Q_AVAILLO, 8, AVAIL(queue));
	common_out(VIRTIO_PCI_COMMON_Q_USEDLO, 8, USED(queue));
	common_out(VIRTIO_PCI_COMMON_Q_MSIX, 2, queue + 1);
	common_out(VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
	/* An empty ring: only the loop reads it, and not before DRIVER_OK. */
	memset(mem_at(&fake_vm.mem, RING(queue), 0x3000), 0, 0x3000);
}

/* Memory decode on, MSI-X on with message data 0xC0 (config) and 0xC1.. (queues). */
static inline void driver_enable(void)
{
	unsigned int cap = cfg_in(SLOT, PCI_CAPABILITY_LIST, 1);

	cfg_out(SLOT, PCI_COMMAND, 2, PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	while (cap && cfg_in(SLOT, cap, 1) != PCI_CAP_ID_MSIX)
		cap = cfg_in(SLOT, cap + 1, 1);
	assert(cap);
	for (unsigned int i = 0; i <= TOY_QUEUES; i++) {
		mmio_out(MSIX_TABLE + 16 * i, 4, 0xfee00000);
		mmio_out(MSIX_TABLE + 16 * i + 8, 4, 0xC0 + i);
		mmio_out(MSIX_TABLE + 16 * i + 12, 4, 0);
	}
	cfg_out(SLOT, cap + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
}

/* 3.1.1, up to but without DRIVER_OK. */
static inline void driver_setup(uint64_t features)
{
	status_out(DRIVER);
	features_out(features | 1ull << VIRTIO_F_VERSION_1);
	status_out(FEATURES_OK);
	common_out(VIRTIO_PCI_COMMON_MSIX, 2, 0);
	for (unsigned int i = 0; i < TOY_QUEUES; i++)
		queue_out(i);
}

/* Put a chain of the one descriptor `desc` on queue `queue`; the idx is the caller's to count. */
static inline void driver_add_desc(unsigned int queue, uint16_t idx, uint16_t head,
				   struct vring_desc desc)
{
	struct vring_desc *table = mem_at(&fake_vm.mem, RING(queue), 0x1000);
	struct vring_avail *avail = mem_at(&fake_vm.mem, AVAIL(queue), 0x1000);

	table[head % TOY_QUEUE_SIZE] = desc;
	avail->ring[idx % TOY_QUEUE_SIZE] = head;
	__atomic_store_n(&avail->idx, (uint16_t)(idx + 1), __ATOMIC_RELEASE);
}

static inline void driver_add(unsigned int queue, uint16_t idx, uint16_t head)
{
	driver_add_desc(queue, idx, head, (struct vring_desc){
		.addr = TOY_BUFFER, .len = 16, .flags = VRING_DESC_F_WRITE,
	});
}

static inline void driver_kick(unsigned int queue)
{
	port_out((uint16_t)(NOTIFY_PORT + 4 * queue), 2, queue);
}

/* As Linux does: wait until the status reads 0. */
static inline void driver_wait_reset(void)
{
	while (status_in() != 0)
		sched_yield();
}

static inline void driver_reset(void)
{
	status_out(0);
	driver_wait_reset();
}

static void toy_nothing(void *arg)
{
}

/* Whatever was posted to the loop before has been done, and the kicks at hand handled. */
static inline void loop_settle(void)
{
	for (unsigned int i = 0; i < 3; i++)
		loop_call_wait(toy_loop, toy_nothing, NULL);
}
