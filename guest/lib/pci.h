/* SPDX-License-Identifier: MIT */
/* Configuration space of the functions on bus 0, by both ways in. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "vmm/layout.h"

#define PCI_SLOTS 32

/* The address of a register in the memory-mapped configuration space: minivmm's or QEMU's. */
uint64_t pci_at(unsigned int slot, unsigned int reg);

/* Through ports CF8 and CFC; `len` is 1, 2 or 4. */
uint32_t pci_port_read(unsigned int slot, unsigned int fn, unsigned int reg, unsigned int len);
void pci_port_write(unsigned int slot, unsigned int reg, unsigned int len, uint32_t value);

/* The slot of the `nth` function with this id, from 0; fails where there is none. */
unsigned int pci_find(uint16_t vendor, uint16_t device, unsigned int nth);
/* The first capability with `id` behind offset `after` (0: from the start), or 0. */
unsigned int pci_capability(unsigned int slot, uint8_t id, unsigned int after);
/* Its address, or port. */
uint64_t pci_bar(unsigned int slot, unsigned int bar);
bool pci_bar_is_ports(unsigned int slot, unsigned int bar);
/* Decode memory and ports, and be a bus master, or not. */
void pci_enable(unsigned int slot, bool on);
