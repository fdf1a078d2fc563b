/* SPDX-License-Identifier: MIT */
/* Loading an ELF kernel that boot/elf.c has checked, and what PVH hands to it. */
#include "boot/pvh.h"

#include <errno.h>
#include <string.h>

#include "boot/e820.h"
#include "boot/lowmem.h"
#include "vmm/layout.h"
#include "vmm/mem.h"
#include "vmm/vcpu.h"

#define START_INFO_MAGIC 0x336EC578

struct start_info {
	uint32_t magic;
	uint32_t version; /* 1: has the memory map */
	uint32_t flags;
	uint32_t nr_modules;
	uint64_t modlist_gpa;
	uint64_t cmdline_gpa;
	uint64_t rsdp_gpa;
	uint64_t memmap_gpa;
	uint32_t memmap_entries;
	uint32_t reserved;
};

struct modlist_entry {
	uint64_t gpa;
	uint64_t len_bytes;
	uint64_t cmdline_gpa;
	uint64_t reserved;
};

struct memmap_entry {
	uint64_t gpa;
	uint64_t len_bytes;
	uint32_t type;
	uint32_t reserved;
};

/* What lies at BOOT_START_INFO. */
struct start_page {
	struct start_info info;
	struct modlist_entry initrd;
	struct memmap_entry memmap[E820_RANGES_MAX];
};

_Static_assert(sizeof(struct start_page) <= 4096, "start info is one page");

static int load_segments(const struct elf *elf, const struct boot_file *kernel,
			 const struct mem *mem)
{
	for (unsigned int i = 0; i < elf->count; i++) {
		const struct elf_segment *seg = &elf->segments[i];
		uint8_t *hva = mem_at(mem, seg->gpa, seg->mem_bytes);
		int ret;

		if (!hva)
			return boot_file_no_room(kernel, mem, elf->end_gpa);
		ret = boot_file_load(kernel, seg->offset, seg->file_bytes, mem, seg->gpa);
		if (ret < 0)
			return ret;
		memset(hva + seg->file_bytes, 0, seg->mem_bytes - seg->file_bytes);
	}
	return 0;
}

static void fill_memmap(struct start_page *page, const struct mem *mem)
{
	struct e820 map;

	e820_build(&map, mem);
	for (unsigned int i = 0; i < map.count; i++)
		page->memmap[i] = (struct memmap_entry){map.ranges[i].gpa,
							map.ranges[i].len_bytes,
							map.ranges[i].type, 0};
	page->info.memmap_gpa = BOOT_START_INFO + offsetof(struct start_page, memmap);
	page->info.memmap_entries = map.count;
}

int elf_load(const struct elf *elf, const struct boot_payload *payload, const struct mem *mem,
	     struct vcpu_entry *entry)
{
	struct start_page page = {
		.info = {
			.magic = START_INFO_MAGIC,
			.version = 1,
			.cmdline_gpa = BOOT_CMDLINE,
			.rsdp_gpa = payload->rsdp_gpa,
		},
	};
	int ret = load_segments(elf, payload->kernel, mem);

	if (ret < 0)
		return ret;
	if (payload->initrd->fd >= 0) {
		ret = boot_initrd_load(payload->initrd, mem, elf->end_gpa, LAYOUT_LOW_RAM_MAX,
				       &page.initrd.gpa);
		if (ret < 0)
			return ret;
		page.initrd.len_bytes = payload->initrd->size_bytes;
		page.info.nr_modules = 1;
		page.info.modlist_gpa = BOOT_START_INFO + offsetof(struct start_page, initrd);
	}
	fill_memmap(&page, mem);
	entry->mode = VCPU_PROTECTED_32;
	entry->rip = elf->entry_gpa;
	entry->rbx = BOOT_START_INFO;
	return mem_write(mem, BOOT_START_INFO, &page, sizeof(page));
}
