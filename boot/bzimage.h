/* SPDX-License-Identifier: MIT */
/* Linux bzImage (kernel: Documentation/arch/x86/boot.rst). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <asm/bootparam.h>

#include "boot/payload.h"

struct mem;
struct vcpu_entry;

struct bzimage {
	struct setup_header hdr; /* as in the file, checked */
	uint64_t code_offset;    /* the protected-mode code in the file */
	uint64_t code_bytes;
	uint64_t payload_offset; /* the packed kernel in the file */
	uint64_t payload_bytes;  /* 0: not known */
	uint64_t load_gpa;       /* where the code goes */
	uint64_t end_gpa;        /* end of all memory the kernel uses before it reads e820 */
	uint64_t initrd_limit;   /* the initrd ends at or below this */
	bool entry64;            /* has the 64-bit entry */
};

/* 0, -ENOEXEC: not a bzImage at all (silent), or -errno; logs. */
int bzimage_open(struct bzimage *image, const struct boot_file *kernel);

/* Longest command line without the terminating 0. */
uint32_t bzimage_cmdline_max(const struct bzimage *image);

/* Load all but ACPI and the tables of boot/boot.c into `mem`. 0 or -errno; logs. */
int bzimage_load(const struct bzimage *image, const struct boot_payload *payload,
		 const struct mem *mem, struct vcpu_entry *entry);
