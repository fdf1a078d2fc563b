/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * Every way into configuration space ends in config_read and config_write, one dword or less at
 * a time, under the host's lock. A write changes the bits its function allows, and where it
 * touched the command register or a BAR, remap brings the VM's buses in line with all BARs of
 * all functions.
 *
 * A BAR is decoded while the function's decode bit for its space is set (PCI 3.0, 6.2.2) and it
 * lies in that space's window, which is all that the host bridge forwards: so the addresses a
 * guest writes while it sizes BARs never claim anything. Where two BARs overlap the first one
 * stays, and the other is tried again whenever anything moves.
 *
 * A bus callback may still run after its range was removed: devices outlive all vCPUs.
 */
#include "devices/pci.h"

#include <errno.h>
#include <linux/pci_regs.h>
#include <stdlib.h>
#include <string.h>

#include "util/log.h"
#include "util/util.h"
#include "vmm/layout.h"
#include "vmm/vm.h"

#define SLOTS 32
#define BRIDGE_VENDOR 0x1b36 /* a generic host bridge, which needs no quirks */
#define BRIDGE_DEVICE 0x0008

#define ADDR_ENABLE 0x80000000u   /* CF8: the data ports reach configuration space */
#define ADDR_WRITABLE 0x80fffffcu /* PCI 3.0, 3.2.2.3.2 */

#define RESET_OFFSET 1 /* of port CF9 */
#define RESET_NOW 0x04

struct pci_host {
	struct vm *vm;
	struct pci_dev bridge;
	pthread_mutex_t lock; /* guards the fields below, and all configuration space */
	struct pci_dev *devs[SLOTS];
	uint32_t config_addr;   /* CF8 */
	uint8_t reset_control;  /* CF9 */
	uint64_t next_bar_addr[PCI_SPACES];
	struct log_limit map_limit;
};

static const struct {
	uint32_t addr_mask; /* of a BAR; its other bits are `type` (PCI 3.0, 6.2.5.1) */
	uint32_t type;
	uint8_t decode; /* its bit in the command register */
	uint64_t window, window_bytes;
} spaces[PCI_SPACES] = {
	[PCI_MEMORY] = {(uint32_t)PCI_BASE_ADDRESS_MEM_MASK, PCI_BASE_ADDRESS_SPACE_MEMORY,
			PCI_COMMAND_MEMORY, LAYOUT_PCI32_BASE, LAYOUT_PCI32_SIZE},
	[PCI_PORTS] = {(uint32_t)PCI_BASE_ADDRESS_IO_MASK, PCI_BASE_ADDRESS_SPACE_IO,
		       PCI_COMMAND_IO, LAYOUT_PCI_PORTS_BASE, LAYOUT_PCI_PORTS_SIZE},
};

static uint32_t get32(const uint8_t *p)
{
	uint32_t value;

	memcpy(&value, p, sizeof(value));
	return value;
}

static void put16(uint8_t *p, uint16_t value)
{
	memcpy(p, &value, sizeof(value));
}

static void put32(uint8_t *p, uint32_t value)
{
	memcpy(p, &value, sizeof(value));
}

/* --- BARs --- */

static unsigned int bar_reg(unsigned int bar)
{
	return PCI_BASE_ADDRESS_0 + 4 * bar;
}

static struct bus *bus_of(struct pci_host *host, const struct pci_bar *bar)
{
	return bar->space == PCI_PORTS ? &host->vm->pio : &host->vm->mmio;
}

static bool in_window(enum pci_space space, uint64_t addr, uint32_t size)
{
	return addr >= spaces[space].window &&
	       range_fits(addr - spaces[space].window, size, spaces[space].window_bytes);
}

/* Where `bar` is to be decoded, 0 for nowhere. */
static uint64_t bar_wanted_locked(const struct pci_dev *dev, unsigned int bar)
{
	enum pci_space space = dev->bars[bar].space;
	uint64_t addr = get32(&dev->cfg[bar_reg(bar)]) & spaces[space].addr_mask;
	uint32_t size = dev->bars[bar].size;

	if (!size || !(dev->cfg[PCI_COMMAND] & spaces[space].decode))
		return 0;
	return in_window(space, addr, size) ? addr : 0;
}

static void bar_unmap_locked(struct pci_dev *dev, unsigned int bar)
{
	struct pci_bar *b = &dev->bars[bar];

	if (dev->ops->bar_mapped)
		dev->ops->bar_mapped(dev, bar, b->mapped_at, false);
	bus_del(bus_of(dev->host, b), b->mapped_at);
	b->mapped_at = 0;
}

static void bar_map_locked(struct pci_dev *dev, unsigned int bar, uint64_t addr)
{
	struct pci_bar *b = &dev->bars[bar];

	if (bus_add(bus_of(dev->host, b), addr, b->size, b->ops, b->owner) < 0) {
		log_guest(&dev->host->map_limit,
			  "pci 00:%02x.0: BAR %u cannot be at %#llx: something else is there",
			  dev->slot, bar, (unsigned long long)addr);
		return;
	}
	b->mapped_at = addr;
	if (dev->ops->bar_mapped)
		dev->ops->bar_mapped(dev, bar, addr, true);
}

/* What has to go goes first, so that BARs may trade places. */
static void remap_locked(struct pci_host *host)
{
	for (int pass = 0; pass < 2; pass++) {
		for (unsigned int i = 0; i < SLOTS * PCI_BARS; i++) {
			struct pci_dev *dev = host->devs[i / PCI_BARS];
			unsigned int bar = i % PCI_BARS;
			uint64_t wanted = dev ? bar_wanted_locked(dev, bar) : 0;

			if (!dev || dev->bars[bar].mapped_at == wanted)
				continue;
			if (pass == 0 && dev->bars[bar].mapped_at)
				bar_unmap_locked(dev, bar);
			else if (pass == 1)
				bar_map_locked(dev, bar, wanted);
		}
	}
}

/* --- configuration space --- */

/* bus, device, function as in ECAM's address bits 27 to 12. One bus, single functions. */
static struct pci_dev *find_locked(struct pci_host *host, uint32_t bdf)
{
	return bdf < SLOTS << 3 && (bdf & 7) == 0 ? host->devs[bdf >> 3] : NULL;
}

/* [reg, reg + len) is within one dword. */
static void config_read_locked(struct pci_host *host, uint32_t bdf, unsigned int reg, void *data,
			       unsigned int len)
{
	struct pci_dev *dev = find_locked(host, bdf);

	/* These are no PCI Express functions: 256 bytes are all they have. */
	if (!dev || reg >= PCI_CONFIG_BYTES) {
		memset(data, 0xff, len);
		return;
	}
	if (dev->ops->config_reading)
		dev->ops->config_reading(dev, reg, len);
	memcpy(data, &dev->cfg[reg], len);
}

static bool moves_bars(unsigned int reg, unsigned int len)
{
	return (reg < PCI_COMMAND + 2 && reg + len > PCI_COMMAND) ||
	       (reg < bar_reg(PCI_BARS) && reg + len > PCI_BASE_ADDRESS_0);
}

static void config_write_locked(struct pci_host *host, uint32_t bdf, unsigned int reg,
				const uint8_t *data, unsigned int len)
{
	struct pci_dev *dev = find_locked(host, bdf);

	if (!dev || reg >= PCI_CONFIG_BYTES)
		return;
	for (unsigned int i = 0; i < len; i++) {
		uint8_t writable = dev->writable[reg + i];

		dev->cfg[reg + i] = (dev->cfg[reg + i] & ~writable) | (data[i] & writable);
	}
	if (moves_bars(reg, len))
		remap_locked(host);
	if (dev->ops->config_written)
		dev->ops->config_written(dev, reg, len);
}

/* Any size and alignment: what crosses a dword is done dword by dword. */
static void config_read(struct pci_host *host, uint64_t addr, uint8_t *data, unsigned int len)
{
	pthread_mutex_lock(&host->lock);
	while (len) {
		unsigned int n = MIN(len, 4 - (unsigned int)(addr & 3));

		config_read_locked(host, (uint32_t)(addr >> 12), addr & 0xfff, data, n);
		addr += n;
		data += n;
		len -= n;
	}
	pthread_mutex_unlock(&host->lock);
}

static void config_write(struct pci_host *host, uint64_t addr, const uint8_t *data,
			 unsigned int len)
{
	pthread_mutex_lock(&host->lock);
	while (len) {
		unsigned int n = MIN(len, 4 - (unsigned int)(addr & 3));

		config_write_locked(host, (uint32_t)(addr >> 12), addr & 0xfff, data, n);
		addr += n;
		data += n;
		len -= n;
	}
	pthread_mutex_unlock(&host->lock);
}

/* --- ECAM (PCIe 4.0, 7.2.2): the offset in the range is bus, device, function, register --- */

static void ecam_read(void *owner, uint64_t offset, void *data, unsigned int len)
{
	config_read(owner, offset, data, len);
}

static void ecam_write(void *owner, uint64_t offset, const void *data, unsigned int len)
{
	config_write(owner, offset, data, len);
}

static const struct bus_ops ecam_ops = {
	.read = ecam_read,
	.write = ecam_write,
};

/* --- ports CF8 (PCI 3.0, 3.2.2.3.2): a dword of address; other sizes are not for it --- */

static void addr_read(void *owner, uint64_t offset, void *data, unsigned int len)
{
	struct pci_host *host = owner;

	memset(data, 0xff, len);
	pthread_mutex_lock(&host->lock);
	if (offset == 0 && len == 4)
		put32(data, host->config_addr);
	else if (offset == RESET_OFFSET && len == 1)
		*(uint8_t *)data = host->reset_control;
	pthread_mutex_unlock(&host->lock);
}

static void addr_write(void *owner, uint64_t offset, const void *data, unsigned int len)
{
	struct pci_host *host = owner;
	bool reset = false;

	pthread_mutex_lock(&host->lock);
	if (offset == 0 && len == 4) {
		host->config_addr = get32(data) & ADDR_WRITABLE;
	} else if (offset == RESET_OFFSET && len == 1) {
		host->reset_control = *(const uint8_t *)data;
		reset = host->reset_control & RESET_NOW;
	}
	pthread_mutex_unlock(&host->lock);
	if (reset)
		vm_end(host->vm, VM_RESET);
}

static const struct bus_ops addr_ops = {
	.read = addr_read,
	.write = addr_write,
};

/* --- ports CFC: the dword that CF8 names --- */

/* The address as ECAM would have it; false: CF8 is not enabled. */
static bool data_addr(struct pci_host *host, uint64_t offset, uint64_t *addr)
{
	uint32_t config_addr;

	pthread_mutex_lock(&host->lock);
	config_addr = host->config_addr;
	pthread_mutex_unlock(&host->lock);
	*addr = (uint64_t)(config_addr >> 8 & 0xffff) << 12 | (config_addr & 0xfc) | offset;
	return config_addr & ADDR_ENABLE;
}

static void data_read(void *owner, uint64_t offset, void *data, unsigned int len)
{
	uint64_t addr;

	if (data_addr(owner, offset, &addr))
		config_read(owner, addr, data, len);
	else
		memset(data, 0xff, len);
}

static void data_write(void *owner, uint64_t offset, const void *data, unsigned int len)
{
	uint64_t addr;

	if (data_addr(owner, offset, &addr))
		config_write(owner, addr, data, len);
}

static const struct bus_ops data_ops = {
	.read = data_read,
	.write = data_write,
};

/* --- functions --- */

void pci_dev_init(struct pci_dev *dev, const struct pci_id *id, const struct pci_dev_ops *ops)
{
	memset(dev, 0, sizeof(*dev));
	dev->ops = ops;
	put16(&dev->cfg[PCI_VENDOR_ID], id->vendor);
	put16(&dev->cfg[PCI_DEVICE_ID], id->device);
	put32(&dev->cfg[PCI_CLASS_REVISION], id->class_code << 8 | id->revision);
	put16(&dev->cfg[PCI_SUBSYSTEM_VENDOR_ID], id->subsys_vendor);
	put16(&dev->cfg[PCI_SUBSYSTEM_ID], id->subsys_device);

	put16(&dev->writable[PCI_COMMAND], PCI_COMMAND_MASTER | PCI_COMMAND_PARITY |
						   PCI_COMMAND_SERR | PCI_COMMAND_INTX_DISABLE);
	dev->writable[PCI_CACHE_LINE_SIZE] = 0xff;
	dev->writable[PCI_LATENCY_TIMER] = 0xff;
	dev->writable[PCI_INTERRUPT_LINE] = 0xff;
	dev->cap_end = PCI_STD_HEADER_SIZEOF;
	dev->cap_last = PCI_CAPABILITY_LIST;
}

unsigned int pci_add_capability(struct pci_dev *dev, uint8_t cap_id, unsigned int len)
{
	unsigned int at = dev->cap_end;
	/* The head's pointer is at 34h itself, the others in their capability's second byte. */
	unsigned int link = dev->cap_last;

	dev->cfg[link] = (uint8_t)at;
	dev->cfg[at] = cap_id;
	dev->cfg[PCI_STATUS] |= PCI_STATUS_CAP_LIST;
	dev->cap_last = at + PCI_CAP_LIST_NEXT;
	dev->cap_end = (unsigned int)align_up(at + len, 4);
	return at;
}

void pci_set_bar(struct pci_dev *dev, unsigned int bar, enum pci_space space, uint32_t size,
		 const struct bus_ops *ops, void *owner)
{
	dev->bars[bar] = (struct pci_bar){.space = space, .size = size, .ops = ops, .owner = owner};
	put32(&dev->cfg[bar_reg(bar)], spaces[space].type);
	put32(&dev->writable[bar_reg(bar)], ~(size - 1) & spaces[space].addr_mask);
	dev->writable[PCI_COMMAND] |= spaces[space].decode;
}

/* Addresses for all BARs, from `next` on, which goes to where they end. False: no room. */
static bool place_bars(struct pci_dev *dev, uint64_t next[PCI_SPACES])
{
	for (unsigned int bar = 0; bar < PCI_BARS; bar++) {
		enum pci_space space = dev->bars[bar].space;
		uint32_t size = dev->bars[bar].size;
		uint64_t addr;

		if (!size)
			continue;
		addr = align_up(next[space], size);
		if (!in_window(space, addr, size))
			return false;
		put32(&dev->cfg[bar_reg(bar)], (uint32_t)addr | spaces[space].type);
		next[space] = addr + size;
	}
	return true;
}

static int add_locked(struct pci_host *host, struct pci_dev *dev)
{
	uint64_t next[PCI_SPACES];
	unsigned int slot = 0;

	memcpy(next, host->next_bar_addr, sizeof(next));
	while (slot < SLOTS && host->devs[slot])
		slot++;
	if (slot == SLOTS || !place_bars(dev, next))
		return -ENOSPC;
	memcpy(host->next_bar_addr, next, sizeof(next));
	host->devs[slot] = dev;
	dev->host = host;
	dev->slot = slot;
	return 0;
}

int pci_add(struct pci_host *host, struct pci_dev *dev)
{
	int r;

	pthread_mutex_lock(&host->lock);
	r = add_locked(host, dev);
	pthread_mutex_unlock(&host->lock);
	return r;
}

void pci_remove(struct pci_dev *dev)
{
	struct pci_host *host = dev->host;

	pthread_mutex_lock(&host->lock);
	for (unsigned int bar = 0; bar < PCI_BARS; bar++)
		if (dev->bars[bar].mapped_at)
			bar_unmap_locked(dev, bar);
	host->devs[dev->slot] = NULL;
	dev->host = NULL;
	pthread_mutex_unlock(&host->lock);
}

/* --- the host --- */

static const struct pci_dev_ops bridge_ops = {0};

static void add_bridge(struct pci_host *host)
{
	static const struct pci_id id = {
		.vendor = BRIDGE_VENDOR,
		.device = BRIDGE_DEVICE,
		.subsys_vendor = BRIDGE_VENDOR,
		.subsys_device = BRIDGE_DEVICE,
		.class_code = 0x060000, /* host bridge */
	};

	pci_dev_init(&host->bridge, &id, &bridge_ops);
	pci_add(host, &host->bridge);
}

int pci_host_create(struct vm *vm, struct pci_host **out)
{
	struct pci_host *host = calloc(1, sizeof(*host));
	int r;

	if (!host)
		return -ENOMEM;
	host->vm = vm;
	for (int space = 0; space < PCI_SPACES; space++)
		host->next_bar_addr[space] = spaces[space].window;
	r = -pthread_mutex_init(&host->lock, NULL);
	if (r < 0)
		goto err_free;
	r = bus_add(&vm->mmio, LAYOUT_ECAM_BASE, LAYOUT_ECAM_SIZE, &ecam_ops, host);
	if (r < 0)
		goto err_destroy_lock;
	r = bus_add(&vm->pio, LAYOUT_PORT_PCI_ADDR, 4, &addr_ops, host);
	if (r < 0)
		goto err_del_ecam;
	r = bus_add(&vm->pio, LAYOUT_PORT_PCI_DATA, 4, &data_ops, host);
	if (r < 0)
		goto err_del_addr;
	add_bridge(host);
	*out = host;
	return 0;

err_del_addr:
	bus_del(&vm->pio, LAYOUT_PORT_PCI_ADDR);
err_del_ecam:
	bus_del(&vm->mmio, LAYOUT_ECAM_BASE);
err_destroy_lock:
	pthread_mutex_destroy(&host->lock);
err_free:
	free(host);
	return r;
}

void pci_host_destroy(struct pci_host *host)
{
	if (!host)
		return;
	bus_del(&host->vm->pio, LAYOUT_PORT_PCI_DATA);
	bus_del(&host->vm->pio, LAYOUT_PORT_PCI_ADDR);
	bus_del(&host->vm->mmio, LAYOUT_ECAM_BASE);
	pthread_mutex_destroy(&host->lock);
	free(host);
}
