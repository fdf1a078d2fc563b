/* SPDX-License-Identifier: MIT */
#include "boot/e820.h"

#include "vmm/layout.h"
#include "vmm/mem.h"

static void add(struct e820 *map, uint64_t start, uint64_t end, uint32_t type)
{
	map->ranges[map->count++] = (struct e820_range){start, end - start, type};
}

void e820_build(struct e820 *map, const struct mem *mem)
{
	map->count = 0;
	add(map, 0, LAYOUT_EBDA_BASE, E820_RAM);
	add(map, LAYOUT_EBDA_BASE, 0xA0000, E820_RESERVED);
	add(map, LAYOUT_BIOS_BASE, LAYOUT_BIOS_END, E820_RESERVED);
	add(map, LAYOUT_BIOS_END, mem_low_end(mem), E820_RAM);
	/* Linux uses ECAM only where the map or ACPI reserves it. */
	add(map, LAYOUT_ECAM_BASE, LAYOUT_ECAM_BASE + LAYOUT_ECAM_SIZE, E820_RESERVED);
	add(map, LAYOUT_KVM_IDENTITY, LAYOUT_KVM_TSS + 3 * 4096, E820_RESERVED);
	if (mem_end(mem) > LAYOUT_HIGH_RAM_BASE)
		add(map, LAYOUT_HIGH_RAM_BASE, mem_end(mem), E820_RAM);
}
