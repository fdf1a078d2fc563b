/* SPDX-License-Identifier: MIT */
/*
 * Power and reset: the ACPI fixed registers (PM1a event and control blocks, ACPI 6.4 section
 * 4.8.3), and the i8042's reset command. The reset register at 0xCF9 lies within the PCI
 * host's CF8 dword, and is answered there (pci.c).
 */
#pragma once

struct power;
struct vm;

/* Claims its ports; ends `vm` with VM_POWEROFF or VM_RESET. 0 or -errno. */
int power_create(struct vm *vm, struct power **out);
/* Accepts NULL. */
void power_destroy(struct power *power);

/* Press the power button: an ACPI event the guest answers with a shutdown. Any thread. */
void power_press_button(struct power *power);
