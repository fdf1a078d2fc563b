/* SPDX-License-Identifier: MIT */
/* MSI-X: capability, table and pending bits of one PCI function (PCI 3.0, section 6.8.2). */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "devices/pci.h"
#include "util/log.h"
#include "vmm/irq.h"

struct msix_entry {
	uint32_t addr_lo, addr_hi, data, control; /* as the guest wrote them */
	struct irq_msi msi;
};

struct msix {
	pthread_mutex_t lock; /* guards the entries and `masked` */
	struct pci_dev *dev;
	unsigned int cap; /* offset of the capability */
	unsigned int count;
	atomic_bool enabled; /* message control, copied at each write; read by msix_raise */
	bool masked;         /* likewise, under the lock */
	struct msix_entry *entries;
	struct log_limit log_limit;
};

/* Bytes of BAR space that table and PBA of `count` vectors take; each starts 8-aligned. */
#define MSIX_TABLE_BYTES(count) ((count) * 16u)
#define MSIX_PBA_BYTES(count) ((((count) + 63u) / 64u) * 8u)

/*
 * Add the capability to `dev`: table at `table` and PBA at `pba` within BAR `bar`. At most 2048
 * vectors. 0 or -errno.
 */
int msix_init(struct msix *msix, struct irq *irq, struct pci_dev *dev, unsigned int count,
	      unsigned int bar, uint32_t table, uint32_t pba);
void msix_finish(struct msix *msix);

/*
 * The owner forwards its BAR accesses and config writes; offsets relative to table and PBA.
 * Accesses other than aligned ones of 4 or 8 bytes read zero and write nothing (6.8.2).
 */
void msix_table_read(struct msix *msix, uint64_t offset, void *data, unsigned int len);
void msix_table_write(struct msix *msix, uint64_t offset, const void *data, unsigned int len);
void msix_pba_read(struct msix *msix, uint64_t offset, void *data, unsigned int len);
void msix_config_written(struct msix *msix, unsigned int reg, unsigned int len);

/*
 * Any thread, no lock: one write to an eventfd. While the vector or the function is masked it
 * stays pending; while MSI-X is disabled, or for a vector out of range, nothing happens.
 */
void msix_raise(struct msix *msix, unsigned int vector);
/* The eventfd that this is a write to, or -1 where nothing happens. */
int msix_fd(const struct msix *msix, unsigned int vector);
