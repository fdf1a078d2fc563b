/* SPDX-License-Identifier: MIT */
/* The ACPI tables of the machine (ACPI 6.5), made from vmm/layout.h and what `vm` has. */
#pragma once

#include <stdint.h>

struct vm;

/* Write all tables below 1 MiB; *rsdp_gpa gets the root pointer's address. 0 or -errno; logs. */
int acpi_write(struct vm *vm, uint64_t *rsdp_gpa);
