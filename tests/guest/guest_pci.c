/* SPDX-License-Identifier: MIT */
/*
 * Configuration space is the same by ECAM and by CF8/CFC, in every access size; what is not
 * there reads as ones; identity is read-only.
 */
#include <linux/pci_regs.h>

#include "guest/lib/guest.h"
#include "guest/lib/io.h"
#include "guest/lib/pci.h"

static void compare(unsigned int slot, unsigned int reg)
{
	uint32_t value = read32(pci_at(slot, reg));

	CHECK_EQ(pci_port_read(slot, 0, reg, 4), value);
	for (unsigned int i = 0; i < 4; i++) {
		CHECK_EQ(read8(pci_at(slot, reg + i)), value >> i * 8 & 0xFF);
		CHECK_EQ(pci_port_read(slot, 0, reg + i, 1), value >> i * 8 & 0xFF);
	}
	for (unsigned int i = 0; i < 4; i += 2) {
		CHECK_EQ(read16(pci_at(slot, reg + i)), value >> i * 8 & 0xFFFF);
		CHECK_EQ(pci_port_read(slot, 0, reg + i, 2), value >> i * 8 & 0xFFFF);
	}
}

static void compare_slots(void)
{
	unsigned int functions = 0;

	for (unsigned int slot = 0; slot < PCI_SLOTS; slot++) {
		bool there = read16(pci_at(slot, PCI_VENDOR_ID)) != 0xFFFF;

		functions += there;
		for (unsigned int reg = 0; reg < 256; reg += there ? 4 : 64)
			compare(slot, reg);
		/* single functions only */
		CHECK(!there || !(read8(pci_at(slot, PCI_HEADER_TYPE)) & 0x80));
		for (unsigned int fn = 1; fn < 8; fn++) {
			CHECK_EQ(pci_port_read(slot, fn, 0, 4), 0xFFFFFFFF);
			CHECK_EQ(read32(pci_at(slot, fn << 12)), 0xFFFFFFFF);
		}
	}
	print("%u functions\n", functions);
	CHECK(functions >= 2);
}

static void read_only_registers(unsigned int slot)
{
	static const uint8_t regs[] = {PCI_VENDOR_ID, PCI_CLASS_REVISION, PCI_SUBSYSTEM_VENDOR_ID,
				       PCI_CAPABILITY_LIST, PCI_ROM_ADDRESS};

	for (unsigned int i = 0; i < sizeof(regs); i++) {
		uint32_t before = read32(pci_at(slot, regs[i]));

		write32(pci_at(slot, regs[i]), ~before);
		CHECK_EQ(read32(pci_at(slot, regs[i])), before);
		pci_port_write(slot, regs[i], 4, ~before);
		CHECK_EQ(read32(pci_at(slot, regs[i])), before);
	}
}

/* A write by one way is seen by the other. */
static void write_both_ways(unsigned int slot)
{
	write8(pci_at(slot, PCI_INTERRUPT_LINE), 0x5A);
	CHECK_EQ(pci_port_read(slot, 0, PCI_INTERRUPT_LINE, 1), 0x5A);
	pci_port_write(slot, PCI_INTERRUPT_LINE, 1, 0xA5);
	CHECK_EQ(read8(pci_at(slot, PCI_INTERRUPT_LINE)), 0xA5);
}

static void address_port(void)
{
	uint32_t first = read32(pci_at(0, 0));

	outl(LAYOUT_PORT_PCI_ADDR, 0x80000000);
	CHECK_EQ(inl(LAYOUT_PORT_PCI_ADDR), 0x80000000);
	CHECK_EQ(inl(LAYOUT_PORT_PCI_DATA), first);
	/* not enabled: not ours */
	outl(LAYOUT_PORT_PCI_ADDR, 0);
	CHECK_EQ(inl(LAYOUT_PORT_PCI_DATA), 0xFFFFFFFF);
	/* another bus */
	outl(LAYOUT_PORT_PCI_ADDR, 0x80010000);
	CHECK_EQ(inl(LAYOUT_PORT_PCI_DATA), 0xFFFFFFFF);
	/* byte accesses go to other ports of a PC */
	outl(LAYOUT_PORT_PCI_ADDR, 0x80000000);
	outb(LAYOUT_PORT_PCI_ADDR, 0x40);
	CHECK_EQ(inl(LAYOUT_PORT_PCI_ADDR), 0x80000000);
}

void guest_main(void)
{
	become_user();
	compare_slots();
	address_port();
	for (unsigned int slot = 0; slot < PCI_SLOTS; slot++) {
		if (read16(pci_at(slot, PCI_VENDOR_ID)) == 0xFFFF)
			continue;
		read_only_registers(slot);
		if (slot)
			write_both_ways(slot);
	}
}
