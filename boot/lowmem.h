/* SPDX-License-Identifier: MIT */
/*
 * Where the boot code puts its own tables: below 0x30000, out of the way of any kernel image.
 * ACPI lives at LAYOUT_BIOS_BASE. Everything here may be overwritten once the kernel runs.
 */
#pragma once

#define BOOT_GDT 0x500ull
#define BOOT_START_INFO 0x6000ull /* PVH: start info, module list and memory map; one page */
#define BOOT_PARAMS 0x7000ull     /* Linux: the zero page */
#define BOOT_SETUP_DATA 0x8000ull /* Linux: random seed */
#define BOOT_PAGE_TABLES 0x9000ull /* PML4, PDPT, 4 page directories */
#define BOOT_STACK_TOP 0x20000ull
#define BOOT_CMDLINE 0x20000ull
#define BOOT_CMDLINE_MAX 0x10000ull /* with the terminating 0 */
#define BOOT_LOWMEM_END 0x30000ull

/* No kernel image is loaded below this. */
#define BOOT_KERNEL_MIN 0x100000ull
