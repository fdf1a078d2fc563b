/* SPDX-License-Identifier: MIT */
#include "guest/lib/pci.h"

#include <linux/pci_regs.h>

#include "guest/lib/guest.h"
#include "guest/lib/io.h"

/* The host bridge of QEMU's q35, and the register in which it says where its ECAM is. */
#define Q35_ID 0x29C08086
#define Q35_PCIEXBAR 0x60
#define Q35_PCIEXBAR_BASE 0xF0000000

static void select(unsigned int slot, unsigned int fn, unsigned int reg)
{
	outl(LAYOUT_PORT_PCI_ADDR, 0x80000000u | slot << 11 | fn << 8 | (reg & 0xFC));
}

uint32_t pci_port_read(unsigned int slot, unsigned int fn, unsigned int reg, unsigned int len)
{
	uint16_t port = LAYOUT_PORT_PCI_DATA + (reg & 3);

	select(slot, fn, reg);
	return len == 1 ? inb(port) : len == 2 ? inw(port) : inl(port);
}

void pci_port_write(unsigned int slot, unsigned int reg, unsigned int len, uint32_t value)
{
	uint16_t port = LAYOUT_PORT_PCI_DATA + (reg & 3);

	select(slot, 0, reg);
	if (len == 1)
		outb(port, (uint8_t)value);
	else if (len == 2)
		outw(port, (uint16_t)value);
	else
		outl(port, value);
}

static uint64_t find_ecam(void)
{
	if (pci_port_read(0, 0, PCI_VENDOR_ID, 4) != Q35_ID)
		return LAYOUT_ECAM_BASE;
	return pci_port_read(0, 0, Q35_PCIEXBAR, 4) & Q35_PCIEXBAR_BASE;
}

uint64_t pci_at(unsigned int slot, unsigned int reg)
{
	static uint64_t ecam;

	if (!ecam)
		ecam = find_ecam();
	return ecam + (slot << 15) + reg;
}

unsigned int pci_find(uint16_t vendor, uint16_t device, unsigned int nth)
{
	for (unsigned int slot = 0; slot < PCI_SLOTS; slot++) {
		if (read32(pci_at(slot, PCI_VENDOR_ID)) != ((uint32_t)device << 16 | vendor))
			continue;
		if (nth-- == 0)
			return slot;
	}
	fail("no function %04x:%04x", vendor, device);
}

unsigned int pci_capability(unsigned int slot, uint8_t id, unsigned int after)
{
	unsigned int at = after ? after + PCI_CAP_LIST_NEXT : PCI_CAPABILITY_LIST;

	if (!(read16(pci_at(slot, PCI_STATUS)) & PCI_STATUS_CAP_LIST))
		return 0;
	for (unsigned int i = 0; i < 48; i++) {
		unsigned int cap = read8(pci_at(slot, at));

		if (!cap || read8(pci_at(slot, cap)) == id)
			return cap;
		at = cap + PCI_CAP_LIST_NEXT;
	}
	fail("slot %u: the list of capabilities has no end", slot);
}

uint64_t pci_bar(unsigned int slot, unsigned int bar)
{
	uint32_t low = read32(pci_at(slot, PCI_BASE_ADDRESS_0 + bar * 4));
	uint64_t addr = low & ~0xFull;

	if (low & PCI_BASE_ADDRESS_SPACE_IO)
		return low & ~3u;
	if ((low & PCI_BASE_ADDRESS_MEM_TYPE_MASK) == PCI_BASE_ADDRESS_MEM_TYPE_64)
		addr |= (uint64_t)read32(pci_at(slot, PCI_BASE_ADDRESS_0 + bar * 4 + 4)) << 32;
	return addr;
}

bool pci_bar_is_ports(unsigned int slot, unsigned int bar)
{
	return read32(pci_at(slot, PCI_BASE_ADDRESS_0 + bar * 4)) & PCI_BASE_ADDRESS_SPACE_IO;
}

void pci_enable(unsigned int slot, bool on)
{
	uint16_t command = read16(pci_at(slot, PCI_COMMAND));
	uint16_t bits = PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;

	write16(pci_at(slot, PCI_COMMAND), on ? command | bits : command & ~bits);
}
