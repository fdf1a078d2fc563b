/* SPDX-License-Identifier: MIT */
/*
 * ELF kernels by the PVH boot ABI (Xen: docs/misc/pvh.pandoc, hvm/start_info.h): entered in
 * 32-bit protected mode, paging off, with EBX pointing to hvm_start_info.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "boot/payload.h"

struct mem;
struct vcpu_entry;

#define ELF_SEGMENTS_MAX 32

struct elf_segment {
	uint64_t offset;
	uint64_t file_bytes;
	uint64_t gpa;
	uint64_t mem_bytes; /* at least file_bytes; the rest is zero */
};

struct elf {
	unsigned int count;
	struct elf_segment segments[ELF_SEGMENTS_MAX];
	uint64_t entry_gpa; /* XEN_ELFNOTE_PHYS32_ENTRY */
	uint64_t end_gpa;   /* of the highest segment */
	bool is_linux;
};

/* 0, -ENOEXEC: not ELF at all (silent), or -errno; logs. */
int elf_open(struct elf *elf, const struct boot_file *kernel);

/* Load all but ACPI and the tables of boot/boot.c into `mem`. 0 or -errno; logs. */
int elf_load(const struct elf *elf, const struct boot_payload *payload, const struct mem *mem,
	     struct vcpu_entry *entry);
