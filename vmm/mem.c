/* SPDX-License-Identifier: MIT */
#include "vmm/mem.h"

#include <errno.h>
#include <string.h>

#include "util/util.h"
#include "vmm/layout.h"
#include "vmm/mem_map.h"
#include "vmm/mem_room.h"

static int add_region(struct mem *mem, const struct mem_options *options, uint64_t gpa,
		      uint64_t len_bytes)
{
	struct mem_region *region = &mem->regions[mem->count];
	int r;

	region->gpa = gpa;
	region->len_bytes = len_bytes;
	r = mem_map(options, region);
	mem->count += r == 0;
	return r;
}

bool mem_fits(uint64_t len_bytes, unsigned int phys_bits)
{
	/* What lies below 4 GiB a PC has in any case. */
	unsigned int bits = MAX(MIN(phys_bits, 52u), 32u);

	return len_bytes <= LAYOUT_LOW_RAM_MAX ||
	       len_bytes - LAYOUT_LOW_RAM_MAX <= (1ull << bits) - LAYOUT_HIGH_RAM_BASE;
}

int mem_init(struct mem *mem, const struct mem_options *options)
{
	uint64_t low = MIN(options->len_bytes, LAYOUT_LOW_RAM_MAX);
	int r;

	mem->pages = options->pages;
	mem->count = 0;
	r = mem_room_check(options, "");
	if (r == 0)
		r = add_region(mem, options, 0, low);
	if (r == 0 && options->len_bytes > low)
		r = add_region(mem, options, LAYOUT_HIGH_RAM_BASE, options->len_bytes - low);
	if (r < 0)
		mem_finish(mem);
	return r;
}

void mem_finish(struct mem *mem)
{
	for (unsigned int i = 0; i < mem->count; i++)
		mem_unmap(&mem->regions[i]);
	mem->count = 0;
}

void *mem_at(const struct mem *mem, uint64_t gpa, uint64_t len_bytes)
{
	for (unsigned int i = 0; i < mem->count; i++) {
		const struct mem_region *region = &mem->regions[i];
		uint64_t offset = gpa - region->gpa;

		if (gpa < region->gpa || offset >= region->len_bytes)
			continue;
		return len_bytes <= region->len_bytes - offset ? region->hva + offset : NULL;
	}
	return NULL;
}

int mem_read(const struct mem *mem, uint64_t gpa, void *buf, size_t len_bytes)
{
	const void *hva = mem_at(mem, gpa, len_bytes);

	if (!hva)
		return -EFAULT;
	memcpy(buf, hva, len_bytes);
	return 0;
}

int mem_write(const struct mem *mem, uint64_t gpa, const void *buf, size_t len_bytes)
{
	void *hva = mem_at(mem, gpa, len_bytes);

	if (!hva)
		return -EFAULT;
	memcpy(hva, buf, len_bytes);
	return 0;
}

uint64_t mem_low_end(const struct mem *mem)
{
	return mem->regions[0].len_bytes;
}

uint64_t mem_end(const struct mem *mem)
{
	if (mem->count < 2)
		return LAYOUT_HIGH_RAM_BASE;
	return LAYOUT_HIGH_RAM_BASE + mem->regions[1].len_bytes;
}

uint64_t mem_total(const struct mem *mem)
{
	uint64_t total = 0;

	for (unsigned int i = 0; i < mem->count; i++)
		total += mem->regions[i].len_bytes;
	return total;
}
