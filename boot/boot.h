/* SPDX-License-Identifier: MIT */
/*
 * Loading a kernel: Linux bzImage by its 64-bit or 32-bit entry, ELF by PVH. Opened and
 * checked once, loaded into guest memory at every (re)boot.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "vmm/vcpu.h"

struct blk;
struct boot;
struct vm;

struct boot_options {
	const char *kernel;
	const char *initrd;  /* or NULL */
	const char *cmdline; /* or NULL: console, and root= worked out from `root_disk` */
	struct blk *root_disk; /* /dev/vda, or NULL */
	bool root_readonly;
	bool kernel_cache; /* unpacked kernels are kept for the next machine */
	bool no_kaslr;     /* where it was linked, in physical and virtual memory */
};

enum boot_kind {
	BOOT_BZIMAGE,
	BOOT_ELF_PVH,
};

struct boot_info {
	enum boot_kind kind;
	bool is_linux; /* as far as the file tells */
	const char *cmdline;
};

/* Open and check the files, make the command line. 0 or -errno; logs. */
int boot_open(const struct boot_options *opts, struct boot **out);
void boot_close(struct boot *boot);
const struct boot_info *boot_info(const struct boot *boot);

/* Write kernel, initrd, tables and ACPI into `vm`'s memory. 0 or -errno; logs. */
int boot_load(struct boot *boot, struct vm *vm, struct vcpu_entry *entry);
