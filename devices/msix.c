/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * A vector is an eventfd that KVM listens to only while nothing masks it: not its own mask bit,
 * not the function's, and MSI-X is enabled. What is raised meanwhile stays in the eventfd, which
 * so is the pending bit, and KVM finds it there when it listens again.
 *
 * Config space writes come under the PCI host's lock, table accesses come without: the lock here
 * is the inner one.
 */
#include "devices/msix.h"

#include <errno.h>
#include <linux/pci_regs.h>
#include <stdlib.h>
#include <string.h>

#define VECTORS_MAX 2048u

/* Bring the eventfd's state in line with what the guest wrote. */
static void update_entry_locked(struct msix *msix, unsigned int vector)
{
	struct msix_entry *entry = &msix->entries[vector];
	uint64_t addr = (uint64_t)entry->addr_hi << 32 | entry->addr_lo;

	if (!msix->enabled || msix->masked || entry->control & PCI_MSIX_ENTRY_CTRL_MASKBIT)
		irq_msi_mask(&entry->msi);
	else if (irq_msi_unmask(&entry->msi, addr, entry->data) < 0)
		log_guest(&msix->log_limit, "pci 00:%02x.0: MSI-X vector %u (%#llx, %#x) refused",
			  msix->dev->slot, vector, (unsigned long long)addr, entry->data);
}

static void init_entries(struct msix *msix)
{
	for (unsigned int i = 0; i < msix->count; i++)
		msix->entries[i].control = PCI_MSIX_ENTRY_CTRL_MASKBIT;
}

static void add_capability(struct msix *msix, unsigned int bar, uint32_t table, uint32_t pba)
{
	unsigned int cap = pci_add_capability(msix->dev, PCI_CAP_ID_MSIX, PCI_CAP_MSIX_SIZEOF);
	uint8_t *cfg = &msix->dev->cfg[cap];
	uint16_t flags = (uint16_t)(msix->count - 1);

	table |= bar;
	pba |= bar;
	memcpy(cfg + PCI_MSIX_FLAGS, &flags, sizeof(flags));
	memcpy(cfg + PCI_MSIX_TABLE, &table, sizeof(table));
	memcpy(cfg + PCI_MSIX_PBA, &pba, sizeof(pba));
	msix->dev->writable[cap + PCI_MSIX_FLAGS + 1] =
		(PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL) >> 8;
	msix->cap = cap;
}

int msix_init(struct msix *msix, struct irq *irq, struct pci_dev *dev, unsigned int count,
	      unsigned int bar, uint32_t table, uint32_t pba)
{
	int r = 0;

	memset(msix, 0, sizeof(*msix));
	if (!count || count > VECTORS_MAX)
		return -EINVAL;
	msix->dev = dev;
	msix->entries = calloc(count, sizeof(*msix->entries));
	if (!msix->entries)
		return -ENOMEM;
	pthread_mutex_init(&msix->lock, NULL);
	for (; msix->count < count; msix->count++) {
		r = irq_msi_init(irq, &msix->entries[msix->count].msi);
		if (r < 0) {
			msix_finish(msix);
			return r;
		}
	}
	init_entries(msix);
	add_capability(msix, bar, table, pba);
	return 0;
}

void msix_finish(struct msix *msix)
{
	for (unsigned int i = 0; i < msix->count; i++)
		irq_msi_finish(&msix->entries[i].msi);
	free(msix->entries);
	pthread_mutex_destroy(&msix->lock);
}

static bool access_defined(uint64_t offset, unsigned int len)
{
	return (len == 4 || len == 8) && offset % len == 0;
}

/* One dword of the table; NULL behind its end. */
static uint32_t *table_field_locked(struct msix *msix, uint64_t offset)
{
	struct msix_entry *entry;

	if (offset >= MSIX_TABLE_BYTES(msix->count))
		return NULL;
	entry = &msix->entries[offset / PCI_MSIX_ENTRY_SIZE];
	switch (offset % PCI_MSIX_ENTRY_SIZE) {
	case PCI_MSIX_ENTRY_LOWER_ADDR:
		return &entry->addr_lo;
	case PCI_MSIX_ENTRY_UPPER_ADDR:
		return &entry->addr_hi;
	case PCI_MSIX_ENTRY_DATA:
		return &entry->data;
	default:
		return &entry->control;
	}
}

void msix_table_read(struct msix *msix, uint64_t offset, void *data, unsigned int len)
{
	memset(data, 0, len);
	if (!access_defined(offset, len))
		return;
	pthread_mutex_lock(&msix->lock);
	for (unsigned int at = 0; at < len; at += 4) {
		const uint32_t *field = table_field_locked(msix, offset + at);

		if (field)
			memcpy((uint8_t *)data + at, field, 4);
	}
	pthread_mutex_unlock(&msix->lock);
}

void msix_table_write(struct msix *msix, uint64_t offset, const void *data, unsigned int len)
{
	bool changed = false;

	if (!access_defined(offset, len))
		return;
	pthread_mutex_lock(&msix->lock);
	for (unsigned int at = 0; at < len; at += 4) {
		uint32_t *field = table_field_locked(msix, offset + at);

		if (!field)
			continue;
		memcpy(field, (const uint8_t *)data + at, 4);
		if ((offset + at) % PCI_MSIX_ENTRY_SIZE == PCI_MSIX_ENTRY_VECTOR_CTRL)
			*field &= PCI_MSIX_ENTRY_CTRL_MASKBIT; /* the rest is reserved */
		changed = true;
	}
	/* An aligned access stays within one entry. */
	if (changed)
		update_entry_locked(msix, (unsigned int)(offset / PCI_MSIX_ENTRY_SIZE));
	pthread_mutex_unlock(&msix->lock);
}

void msix_pba_read(struct msix *msix, uint64_t offset, void *data, unsigned int len)
{
	uint64_t bits = 0;

	memset(data, 0, len);
	if (!access_defined(offset, len) || offset >= MSIX_PBA_BYTES(msix->count))
		return;
	pthread_mutex_lock(&msix->lock);
	for (unsigned int i = 0; i < len * 8; i++) {
		uint64_t vector = offset * 8 + i;

		if (vector < msix->count && irq_msi_pending(&msix->entries[vector].msi))
			bits |= 1ull << i;
	}
	pthread_mutex_unlock(&msix->lock);
	memcpy(data, &bits, len);
}

void msix_config_written(struct msix *msix, unsigned int reg, unsigned int len)
{
	unsigned int at = msix->cap + PCI_MSIX_FLAGS + 1; /* the control word's high byte */
	unsigned int flags;

	if (reg > at || reg + len <= at)
		return;
	flags = (unsigned int)msix->dev->cfg[at] << 8;
	pthread_mutex_lock(&msix->lock);
	msix->enabled = flags & PCI_MSIX_FLAGS_ENABLE; /* pairs with msix_raise */
	msix->masked = flags & PCI_MSIX_FLAGS_MASKALL;
	for (unsigned int i = 0; i < msix->count; i++)
		update_entry_locked(msix, i);
	pthread_mutex_unlock(&msix->lock);
}

int msix_fd(const struct msix *msix, unsigned int vector)
{
	/* pairs with msix_config_written */
	if (vector >= msix->count || !atomic_load_explicit(&msix->enabled, memory_order_relaxed))
		return -1;
	return msix->entries[vector].msi.fd;
}

void msix_raise(struct msix *msix, unsigned int vector)
{
	if (msix_fd(msix, vector) >= 0)
		irq_msi_raise(&msix->entries[vector].msi);
}
