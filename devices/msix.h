/* SPDX-License-Identifier: MIT */
/* MSI-X: capability, table and pending bits of one PCI function (PCI 3.0, section 6.8.2). */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "devices/pci.h"
#include "vmm/irq.h"

struct msix_entry {
	uint32_t addr_lo, addr_hi, data, control; /* as the guest wrote them */
	struct irq_msi msi;
};

struct msix {
	pthread_mutex_t lock; /* guards the entries */
	struct pci_dev *dev;
	unsigned int cap; /* offset of the capability */
	unsigned int count;
	bool enabled, masked; /* message control, copied at each write */
	struct msix_entry *entries;
};

/* Bytes of BAR space that table and PBA of `count` vectors take; each starts 8-aligned. */
#define MSIX_TABLE_BYTES(count) ((count) * 16u)
#define MSIX_PBA_BYTES(count) ((((count) + 63u) / 64u) * 8u)

/* Add the capability to `dev`: table at `table` and PBA at `pba` within BAR `bar`. */
int msix_init(struct msix *msix, struct irq *irq, struct pci_dev *dev, unsigned int count,
	      unsigned int bar, uint32_t table, uint32_t pba);
void msix_finish(struct msix *msix);

/* The owner forwards its BAR accesses and config writes; offsets relative to table and PBA. */
void msix_table_read(struct msix *msix, uint64_t offset, void *data, unsigned int len);
void msix_table_write(struct msix *msix, uint64_t offset, const void *data, unsigned int len);
void msix_pba_read(struct msix *msix, uint64_t offset, void *data, unsigned int len);
void msix_config_written(struct msix *msix, unsigned int reg, unsigned int len);

/* Any thread, no lock: one write to an eventfd. A vector out of range raises nothing. */
void msix_raise(struct msix *msix, unsigned int vector);
