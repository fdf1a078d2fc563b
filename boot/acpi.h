/* SPDX-License-Identifier: MIT */
/*
 * The ACPI tables of the machine (ACPI 6.5): RSDP, XSDT, FACS, DSDT, FADT, MADT, MCFG, made
 * from vmm/layout.h and the processors' topology.
 */
#pragma once

#include <stdint.h>

struct mem;
struct topology;

/*
 * Write all tables into [LAYOUT_BIOS_BASE, LAYOUT_BIOS_END); *rsdp_gpa gets the root
 * pointer's address. 0 or -errno; logs.
 */
int acpi_write(const struct mem *mem, const struct topology *topology, uint64_t *rsdp_gpa);
