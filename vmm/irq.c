/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * KVM takes the routing table as a whole (KVM_SET_GSI_ROUTING). Its first entries are the ISA
 * lines and IOAPIC pins, its tail the MSI routes in no order; an MSI vector that gets its
 * address changed is found by its GSI. Updates are rare (a driver setting up its vectors), so
 * linear searches do.
 *
 * The IOAPIC has GSI 0, the timer, on pin 2, as PCs have (MADT says so too).
 */
#include "vmm/irq.h"

#include <errno.h>
#include <linux/kvm.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "util/log.h"
#include "util/util.h"
#include "vmm/layout.h"

#define MSI_GSI_BASE LAYOUT_IOAPIC_PINS
#define MSI_GSI_COUNT 2048 /* of 4096 routes that KVM takes */

/* MSI address bits 11:5 are bits 14:8 of the APIC id where KVM_FEATURE_MSI_EXT_DEST_ID is. */
#define MSI_EXT_DEST_MASK 0xfe0u

static struct kvm_irq_routing_entry *append_locked(struct irq *irq)
{
	struct kvm_irq_routing_entry *entry;

	if (irq->table->nr == irq->capacity) {
		unsigned int capacity = irq->capacity ? 2 * irq->capacity : 64;
		struct kvm_irq_routing *table =
			realloc(irq->table, sizeof(*table) + capacity * sizeof(table->entries[0]));

		if (!table)
			return NULL;
		irq->table = table;
		irq->capacity = capacity;
	}
	entry = &irq->table->entries[irq->table->nr++];
	memset(entry, 0, sizeof(*entry));
	return entry;
}

static int append_pin_locked(struct irq *irq, uint32_t gsi, uint32_t chip, uint32_t pin)
{
	struct kvm_irq_routing_entry *entry = append_locked(irq);

	if (!entry)
		return -ENOMEM;
	entry->gsi = gsi;
	entry->type = KVM_IRQ_ROUTING_IRQCHIP;
	entry->u.irqchip.irqchip = chip;
	entry->u.irqchip.pin = pin;
	return 0;
}

static int route_pins_locked(struct irq *irq)
{
	int r = 0;

	for (uint32_t gsi = 0; r == 0 && gsi < LAYOUT_IOAPIC_PINS; gsi++) {
		if (gsi < 8 && gsi != 2)
			r = append_pin_locked(irq, gsi, KVM_IRQCHIP_PIC_MASTER, gsi);
		else if (gsi >= 8 && gsi < 16)
			r = append_pin_locked(irq, gsi, KVM_IRQCHIP_PIC_SLAVE, gsi - 8);
		if (r == 0 && gsi != 2)
			r = append_pin_locked(irq, gsi, KVM_IRQCHIP_IOAPIC, gsi == 0 ? 2 : gsi);
	}
	return r;
}

static int set_table_locked(struct irq *irq)
{
	int r = ioctl(irq->vm_fd, KVM_SET_GSI_ROUTING, irq->table) < 0 ? -errno : 0;

	if (r < 0)
		log_error("KVM refuses the interrupt routes: %s", strerror(-r));
	return r;
}

int irq_init(struct irq *irq, int vm_fd)
{
	int r;

	memset(irq, 0, sizeof(*irq));
	irq->vm_fd = vm_fd;
	pthread_mutex_init(&irq->lock, NULL);
	irq->table = calloc(1, sizeof(*irq->table));
	irq->gsi_used = calloc(MSI_GSI_COUNT / 64, sizeof(uint64_t));
	if (!irq->table || !irq->gsi_used) {
		irq_finish(irq);
		return -ENOMEM;
	}
	r = route_pins_locked(irq);
	if (r == 0)
		r = set_table_locked(irq);
	if (r < 0)
		irq_finish(irq);
	return r;
}

void irq_finish(struct irq *irq)
{
	free(irq->table);
	free(irq->gsi_used);
	pthread_mutex_destroy(&irq->lock);
}

void irq_set_line(struct irq *irq, uint32_t gsi, bool level)
{
	struct kvm_irq_level line = {.irq = gsi, .level = level};

	ioctl(irq->vm_fd, KVM_IRQ_LINE, &line);
}

static int take_gsi_locked(struct irq *irq, uint32_t *gsi)
{
	for (unsigned int i = 0; i < MSI_GSI_COUNT / 64; i++) {
		unsigned int bit;

		if (irq->gsi_used[i] == UINT64_MAX)
			continue;
		bit = (unsigned int)__builtin_ctzll(~irq->gsi_used[i]);
		irq->gsi_used[i] |= 1ull << bit;
		*gsi = MSI_GSI_BASE + i * 64 + bit;
		return 0;
	}
	return -ENOSPC;
}

int irq_msi_init(struct irq *irq, struct irq_msi *msi)
{
	int r;

	memset(msi, 0, sizeof(*msi));
	msi->irq = irq;
	msi->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (msi->fd < 0)
		return -errno;
	pthread_mutex_lock(&irq->lock);
	r = take_gsi_locked(irq, &msi->gsi);
	pthread_mutex_unlock(&irq->lock);
	if (r < 0)
		close(msi->fd);
	return r;
}

static void drop_route_locked(struct irq *irq, const struct irq_msi *msi)
{
	struct kvm_irq_routing *table = irq->table;

	for (unsigned int i = 0; i < table->nr; i++) {
		if (table->entries[i].gsi != msi->gsi)
			continue;
		table->entries[i] = table->entries[--table->nr];
		return;
	}
}

void irq_msi_finish(struct irq_msi *msi)
{
	struct irq *irq = msi->irq;
	uint32_t index = msi->gsi - MSI_GSI_BASE;

	irq_msi_mask(msi);
	pthread_mutex_lock(&irq->lock);
	drop_route_locked(irq, msi);
	irq->gsi_used[index / 64] &= ~(1ull << index % 64);
	pthread_mutex_unlock(&irq->lock);
	close(msi->fd);
}

static int attach(struct irq_msi *msi, uint32_t flags)
{
	struct kvm_irqfd irqfd = {.fd = (uint32_t)msi->fd, .gsi = msi->gsi, .flags = flags};

	return ioctl(msi->irq->vm_fd, KVM_IRQFD, &irqfd) < 0 ? -errno : 0;
}

static struct kvm_irq_routing_entry *find_route_locked(struct irq *irq, const struct irq_msi *msi)
{
	for (unsigned int i = 0; i < irq->table->nr; i++)
		if (irq->table->entries[i].gsi == msi->gsi)
			return &irq->table->entries[i];
	return append_locked(irq);
}

static int route_locked(struct irq_msi *msi, uint64_t addr, uint32_t data)
{
	struct kvm_irq_routing_entry *entry = find_route_locked(msi->irq, msi);
	uint32_t ext_dest = ((uint32_t)addr & MSI_EXT_DEST_MASK) >> 5;
	int r;

	if (!entry)
		return -ENOMEM;
	entry->gsi = msi->gsi;
	entry->type = KVM_IRQ_ROUTING_MSI;
	entry->u.msi.address_lo = (uint32_t)addr & ~MSI_EXT_DEST_MASK;
	/* KVM_CAP_X2APIC_API: bits 31:8 of the destination (0 on a PC). */
	entry->u.msi.address_hi = ext_dest << 8;
	entry->u.msi.data = data;
	r = set_table_locked(msi->irq);
	msi->routed = r == 0; /* else the next unmask tries again */
	msi->addr = addr;
	msi->data = data;
	return r;
}

int irq_msi_unmask(struct irq_msi *msi, uint64_t addr, uint32_t data)
{
	int r = 0;

	if (!msi->routed || msi->addr != addr || msi->data != data) {
		pthread_mutex_lock(&msi->irq->lock);
		r = route_locked(msi, addr, data);
		pthread_mutex_unlock(&msi->irq->lock);
	}
	if (r < 0 || msi->attached)
		return r;
	r = attach(msi, 0);
	msi->attached = r == 0;
	return r;
}

void irq_msi_mask(struct irq_msi *msi)
{
	if (!msi->attached)
		return;
	attach(msi, KVM_IRQFD_FLAG_DEASSIGN);
	msi->attached = false;
}

bool irq_msi_pending(const struct irq_msi *msi)
{
	struct pollfd pfd = {.fd = msi->fd, .events = POLLIN};

	return !msi->attached && poll(&pfd, 1, 0) == 1;
}

void irq_msi_raise(struct irq_msi *msi)
{
	eventfd_write(msi->fd, 1);
}
