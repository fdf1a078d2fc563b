/* SPDX-License-Identifier: MIT */
/*
 * The kernel inside a bzImage, unpacked: an ELF file, and behind it, where the kernel can be moved,
 * its relocations (kernel: arch/x86/tools/relocs.c).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "boot/pvh.h"

struct mem;

enum vmlinux_reloc_kind {
	VMLINUX_ADD64,
	VMLINUX_SUB32, /* what is relative to something that does not move; not in every kernel */
	VMLINUX_ADD32,
	VMLINUX_RELOC_KINDS,
};

struct vmlinux {
	const uint8_t *bytes; /* the caller's */
	unsigned int count;
	struct elf_segment segments[ELF_SEGMENTS_MAX]; /* as linked */
	uint64_t link_gpa;  /* of the lowest segment */
	uint64_t span;      /* to the end of the highest one */
	uint64_t entry;     /* from link_gpa */
	bool can_move;      /* has relocations */
	struct {
		size_t first, count; /* bytes from `bytes`, and how many */
	} relocs[VMLINUX_RELOC_KINDS];
};

/* `link_gpa`: where the bzImage's header says it is linked. 0 or -EINVAL. Silent. */
int vmlinux_open(struct vmlinux *kernel, const uint8_t *bytes, size_t len, uint64_t link_gpa);

/*
 * Load into [gpa, gpa + span), to run `shift` bytes above the virtual address it is linked at; 0
 * unless it can move. 0, or -EFAULT: not all RAM, and nothing is written. Silent.
 */
int vmlinux_load(const struct vmlinux *kernel, const struct mem *mem, uint64_t gpa,
		 uint32_t shift);
