/* SPDX-License-Identifier: MIT */
/*
 * The guest's address maps: the one table that e820, ACPI, the PCI host and the machine read.
 *
 *   0x0000_0000  low RAM, at most 3 GiB
 *   0xC000_0000  32-bit PCI window (512 MiB)
 *   0xE000_0000  ECAM, one bus per MiB
 *   0xFEC0_0000  IOAPIC
 *   0xFEE0_0000  local APICs
 *   0xFEFF_C000  KVM's identity map page, then its three TSS pages
 *   0x1_0000_0000 high RAM, then the 64-bit PCI window
 */
#pragma once

#include <stdint.h>

#define LAYOUT_LOW_RAM_MAX 0xC0000000ull
#define LAYOUT_PCI32_BASE 0xC0000000ull
#define LAYOUT_PCI32_SIZE 0x20000000ull
#define LAYOUT_ECAM_BASE 0xE0000000ull
#define LAYOUT_ECAM_BUSES 1
#define LAYOUT_ECAM_SIZE (LAYOUT_ECAM_BUSES * 0x100000ull)
#define LAYOUT_IOAPIC_BASE 0xFEC00000ull
#define LAYOUT_LAPIC_BASE 0xFEE00000ull
#define LAYOUT_KVM_IDENTITY 0xFEFFC000ull
#define LAYOUT_KVM_TSS 0xFEFFD000ull
#define LAYOUT_HIGH_RAM_BASE 0x100000000ull
/* The 64-bit PCI window starts at the end of RAM, rounded up to this. */
#define LAYOUT_PCI64_ALIGN 0x40000000ull
#define LAYOUT_PCI64_SIZE 0x1000000000ull

/* Low memory. 0xE0000 to 1 MiB is reserved in e820, and ACPI lives there. */
#define LAYOUT_EBDA_BASE 0x9FC00ull
#define LAYOUT_BIOS_BASE 0xE0000ull
#define LAYOUT_BIOS_END 0x100000ull

/* I/O ports */
#define LAYOUT_PORT_RTC 0x70        /* 2: CMOS index and data */
#define LAYOUT_PORT_I8042_DATA 0x60 /* the i8042's two ports */
#define LAYOUT_PORT_I8042_CMD 0x64
#define LAYOUT_PORT_COM1 0x3F8 /* 8 */
#define LAYOUT_PORT_PM1_EVT 0x600 /* 4: PM1a status and enable */
#define LAYOUT_PORT_PM1_CNT 0x604 /* 2: PM1a control */
#define LAYOUT_PORT_PCI_ADDR 0xCF8 /* 4 */
#define LAYOUT_PORT_RESET 0xCF9    /* 1: reset control, also ACPI's reset register */
#define LAYOUT_PORT_PCI_DATA 0xCFC /* 4 */
#define LAYOUT_PORT_MARK 0xD4D     /* with --timeline: what the guest marks */
#define LAYOUT_PCI_PORTS_BASE 0xC000ull /* I/O window of the PCI bus */
#define LAYOUT_PCI_PORTS_SIZE 0x4000ull

/* Global system interrupts: ISA lines as on a PC; MSI routes come after the IOAPIC's pins. */
#define LAYOUT_IRQ_COM1 4
#define LAYOUT_IRQ_RTC 8
#define LAYOUT_IRQ_SCI 9
#define LAYOUT_IOAPIC_PINS 24

/* ACPI: SLP_TYP of S5, and the value and register that reset the machine. */
#define LAYOUT_S5_SLP_TYP 5
#define LAYOUT_RESET_VALUE 0x06
