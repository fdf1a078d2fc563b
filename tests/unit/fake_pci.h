/* SPDX-License-Identifier: MIT */
/*
 * A VM without KVM, for tests of PCI functions: real buses and memory, and in place of
 * vmm/vm.c and vmm/irq.c what is below, at link time; so it is included once per test. MSI
 * vectors keep pending what is raised while masked, ioeventfds are found before the bus is
 * asked, as KVM does.
 */
#pragma once

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "devices/pci.h"
#include "util/util.h"
#include "vmm/bus.h"
#include "vmm/irq.h"
#include "vmm/layout.h"
#include "vmm/vm.h"

struct fake_doorbell {
	const struct bus *bus;
	uint64_t addr;
	int fd;
};

static struct vm fake_vm;
static enum vm_end fake_end;
static pthread_mutex_t fake_lock = PTHREAD_MUTEX_INITIALIZER;
static struct fake_doorbell fake_doorbells[512];
static unsigned int fake_doorbell_count;
static bool fake_no_doorbells; /* vm_ioeventfd_add fails */
static bool fake_msi_refused;  /* irq_msi_unmask fails */
static atomic_uint fake_delivered[256]; /* by the low byte of the message's data */
static unsigned int fake_vectors;       /* initialised and not finished */

void vm_end(struct vm *vm, enum vm_end how)
{
	fake_end = how;
}

static struct fake_doorbell *find_doorbell_locked(const struct bus *bus, uint64_t addr)
{
	for (unsigned int i = 0; i < fake_doorbell_count; i++)
		if (fake_doorbells[i].bus == bus && fake_doorbells[i].addr == addr)
			return &fake_doorbells[i];
	return NULL;
}

int vm_ioeventfd_add(struct vm *vm, const struct bus *bus, uint64_t addr, int fd)
{
	int r = -EEXIST;

	pthread_mutex_lock(&fake_lock);
	if (fake_no_doorbells) {
		r = -ENOSPC;
	} else if (!find_doorbell_locked(bus, addr)) {
		assert(fake_doorbell_count < ARRAY_LEN(fake_doorbells));
		fake_doorbells[fake_doorbell_count++] = (struct fake_doorbell){bus, addr, fd};
		r = 0;
	}
	pthread_mutex_unlock(&fake_lock);
	return r;
}

void vm_ioeventfd_del(struct vm *vm, const struct bus *bus, uint64_t addr, int fd)
{
	struct fake_doorbell *bell;

	pthread_mutex_lock(&fake_lock);
	bell = find_doorbell_locked(bus, addr);
	assert(bell && bell->fd == fd);
	*bell = fake_doorbells[--fake_doorbell_count];
	pthread_mutex_unlock(&fake_lock);
}

int irq_msi_init(struct irq *irq, struct irq_msi *msi)
{
	memset(msi, 0, sizeof(*msi));
	msi->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	fake_vectors += msi->fd >= 0;
	return msi->fd < 0 ? -errno : 0;
}

void irq_msi_finish(struct irq_msi *msi)
{
	close(msi->fd);
	fake_vectors--;
}

int irq_msi_unmask(struct irq_msi *msi, uint64_t addr, uint32_t data)
{
	eventfd_t count;

	if (fake_msi_refused)
		return -EINVAL;
	pthread_mutex_lock(&fake_lock);
	msi->attached = true;
	msi->addr = addr;
	msi->data = data;
	if (eventfd_read(msi->fd, &count) == 0)
		fake_delivered[data & 0xff]++;
	pthread_mutex_unlock(&fake_lock);
	return 0;
}

void irq_msi_mask(struct irq_msi *msi)
{
	pthread_mutex_lock(&fake_lock);
	msi->attached = false;
	pthread_mutex_unlock(&fake_lock);
}

bool irq_msi_pending(const struct irq_msi *msi)
{
	eventfd_t count;

	if (eventfd_read(msi->fd, &count) < 0)
		return false;
	eventfd_write(msi->fd, count);
	return true;
}

void irq_msi_raise(struct irq_msi *msi)
{
	pthread_mutex_lock(&fake_lock);
	if (msi->attached)
		fake_delivered[msi->data & 0xff]++;
	else
		eventfd_write(msi->fd, 1);
	pthread_mutex_unlock(&fake_lock);
}

static inline void fake_vm_init(void)
{
	memset(&fake_vm, 0, sizeof(fake_vm));
	bus_init(&fake_vm.pio);
	bus_init(&fake_vm.mmio);
	fake_end = VM_RUNNING;
	fake_no_doorbells = false;
	fake_msi_refused = false;
	for (unsigned int i = 0; i < ARRAY_LEN(fake_delivered); i++)
		fake_delivered[i] = 0;
}

/* Everything that was claimed has been given back. */
static inline void fake_vm_finish(void)
{
	assert(fake_vm.pio.count == 0 && fake_vm.mmio.count == 0);
	assert(fake_doorbell_count == 0 && fake_vectors == 0);
	bus_finish(&fake_vm.pio);
	bus_finish(&fake_vm.mmio);
}

/* --- what a vCPU does --- */

static inline uint64_t mmio_in(uint64_t addr, unsigned int len)
{
	uint64_t value = 0;

	bus_read(&fake_vm.mmio, addr, &value, len);
	return value;
}

static inline void fake_out(struct bus *bus, uint64_t addr, unsigned int len, uint64_t value)
{
	struct fake_doorbell *bell;

	pthread_mutex_lock(&fake_lock);
	bell = find_doorbell_locked(bus, addr);
	if (bell)
		eventfd_write(bell->fd, 1);
	pthread_mutex_unlock(&fake_lock);
	if (!bell)
		bus_write(bus, addr, &value, len);
}

static inline void mmio_out(uint64_t addr, unsigned int len, uint64_t value)
{
	fake_out(&fake_vm.mmio, addr, len, value);
}

static inline uint32_t port_in(uint16_t port, unsigned int len)
{
	uint32_t value = 0;

	bus_read(&fake_vm.pio, port, &value, len);
	return value;
}

static inline void port_out(uint16_t port, unsigned int len, uint32_t value)
{
	fake_out(&fake_vm.pio, port, len, value);
}

static inline uint64_t cfg_addr(unsigned int slot, unsigned int reg)
{
	return LAYOUT_ECAM_BASE + (slot << 15 | reg);
}

static inline uint32_t cfg_in(unsigned int slot, unsigned int reg, unsigned int len)
{
	return (uint32_t)mmio_in(cfg_addr(slot, reg), len);
}

static inline void cfg_out(unsigned int slot, unsigned int reg, unsigned int len, uint32_t value)
{
	mmio_out(cfg_addr(slot, reg), len, value);
}
