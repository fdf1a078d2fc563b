/* SPDX-License-Identifier: MIT */
/* The guest's memory map as firmware would report it; bzImage and PVH hand over the same one. */
#pragma once

#include <stdint.h>

struct mem;

/* Types as ACPI numbers them (ACPI 6.5, table 15.4). */
#define E820_RAM 1
#define E820_RESERVED 2

struct e820_range {
	uint64_t gpa;
	uint64_t len_bytes;
	uint32_t type;
};

#define E820_RANGES_MAX 8

struct e820 {
	unsigned int count;
	struct e820_range ranges[E820_RANGES_MAX]; /* sorted, disjoint */
};

/* `mem` has more than 1 MiB. */
void e820_build(struct e820 *map, const struct mem *mem);
