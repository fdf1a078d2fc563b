/* SPDX-License-Identifier: MIT */
/* What every kernel is handed, however it is loaded. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "boot/file.h"

struct kernel_cache;

struct boot_payload {
	const struct boot_file *kernel;
	const struct boot_file *initrd; /* fd < 0: none */
	const char *cmdline;
	struct kernel_cache *cache; /* or NULL */
	bool no_kaslr;
	uint64_t rsdp_gpa;
};
