/* SPDX-License-Identifier: MIT */
/*
 * Interrupts. This file alone owns KVM's GSI routing table: GSI 0 to 23 are the PIC's and
 * IOAPIC's pins, MSI vectors get the numbers behind them.
 *
 * An MSI vector is an eventfd (irqfd) with a route. Masked means: not assigned to KVM, so
 * that a raise stays in the eventfd as the pending bit; KVM notices it when unmasked.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct irq {
	int vm_fd;
	pthread_mutex_t lock; /* guards the fields below */
	struct kvm_irq_routing *table;
	unsigned int capacity; /* entries `table` has room for */
	uint64_t *gsi_used;    /* bitmap of MSI GSIs */
};

struct irq_msi {
	struct irq *irq;
	int fd; /* eventfd */
	uint32_t gsi;
	bool routed;   /* KVM has the route to addr and data */
	bool attached; /* fd is assigned to the gsi */
	uint64_t addr;
	uint32_t data;
};

/* After KVM_CREATE_IRQCHIP. 0 or -errno. */
int irq_init(struct irq *irq, int vm_fd);
void irq_finish(struct irq *irq);

/* Set the level of ISA line `gsi` (< 24). Any thread. */
void irq_set_line(struct irq *irq, uint32_t gsi, bool level);

/* A vector starts masked and unrouted. 0 or -errno (-ENOSPC: out of GSIs). */
int irq_msi_init(struct irq *irq, struct irq_msi *msi);
void irq_msi_finish(struct irq_msi *msi);
/* Deliver as `addr`/`data` from now on, whatever is pending at once. 0 or -errno. */
int irq_msi_unmask(struct irq_msi *msi, uint64_t addr, uint32_t data);
void irq_msi_mask(struct irq_msi *msi);
/* Raised while masked and not yet delivered. */
bool irq_msi_pending(const struct irq_msi *msi);
/* Any thread: one 8-byte write. */
void irq_msi_raise(struct irq_msi *msi);
