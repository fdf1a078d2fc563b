/* SPDX-License-Identifier: MIT */
/*
 * The PCI host: one bus, 32 slots, single functions, reached by ECAM and by ports CF8/CFC.
 * BARs are 32-bit memory or I/O ports, given addresses in the bus's window for them at pci_add;
 * the guest enables decoding and may move them within that window. The reset register at 0xCF9
 * lies within the CF8 dword and is answered here: it ends the VM with VM_RESET.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/bus.h"

struct vm;
struct pci_host;

#define PCI_CONFIG_BYTES 256
#define PCI_BARS 6

struct pci_dev;

struct pci_dev_ops {
	/* Optional. A config write below 256 landed in `cfg` (masks applied) at [reg, reg + len). */
	void (*config_written)(struct pci_dev *dev, unsigned int reg, unsigned int len);
	/* Optional. Prepare `cfg` at [reg, reg + len) before the guest reads it. */
	void (*config_reading)(struct pci_dev *dev, unsigned int reg, unsigned int len);
	/* Optional. BAR `bar` is now decoded at `addr`, or (mapped false) no more at `addr`. */
	void (*bar_mapped)(struct pci_dev *dev, unsigned int bar, uint64_t addr, bool mapped);
};

enum pci_space {
	PCI_MEMORY,
	PCI_PORTS,
	PCI_SPACES,
};

struct pci_bar {
	enum pci_space space;
	uint32_t size; /* power of two, 0: none */
	const struct bus_ops *ops;
	void *owner;
	uint64_t mapped_at; /* private: 0 where not decoded */
};

/* Embedded in a device. The host serialises config accesses with its lock. */
struct pci_dev {
	const struct pci_dev_ops *ops;
	struct pci_host *host;
	unsigned int slot;
	uint8_t cfg[PCI_CONFIG_BYTES];
	uint8_t writable[PCI_CONFIG_BYTES]; /* bits the guest may change */
	struct pci_bar bars[PCI_BARS];
	unsigned int cap_end; /* private: where the next capability goes */
	unsigned int cap_last;
};

struct pci_id {
	uint16_t vendor, device;
	uint16_t subsys_vendor, subsys_device;
	uint32_t class_code; /* 24 bits: class, subclass, interface */
	uint8_t revision;
};

/* Claims ECAM and ports CF8-CFF on `vm`'s buses; slot 0 is the host bridge. 0 or -errno. */
int pci_host_create(struct vm *vm, struct pci_host **out);
void pci_host_destroy(struct pci_host *host);

/* Fill in identity; then capabilities and BARs are added; then pci_add. */
void pci_dev_init(struct pci_dev *dev, const struct pci_id *id, const struct pci_dev_ops *ops);
/* `len` includes the two header bytes. The capability's offset in `cfg`. */
unsigned int pci_add_capability(struct pci_dev *dev, uint8_t cap_id, unsigned int len);
/* Memory: 16 bytes or more. Ports: 4 to 256 (PCI 3.0, 6.2.5.1). */
void pci_set_bar(struct pci_dev *dev, unsigned int bar, enum pci_space space, uint32_t size,
		 const struct bus_ops *ops, void *owner);
/* Take the next free slot and addresses for the BARs. 0 or -ENOSPC. */
int pci_add(struct pci_host *host, struct pci_dev *dev);
/* Unmap its BARs and forget it. vCPUs are stopped. */
void pci_remove(struct pci_dev *dev);
