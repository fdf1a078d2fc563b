/* SPDX-License-Identifier: MIT */
/* A kernel file out of the fuzzer's bytes, and guest memory to load it into. */
#pragma once

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "boot/payload.h"
#include "util/util.h"
#include "vmm/mem.h"
#include "vmm/vcpu.h"

/* Enough for a kernel at its usual 16 MiB. */
#define FUZZ_RAM MIB(32)

struct fuzz_kernel {
	int fd;
	char path[64];
	struct boot_file file;
	struct boot_file no_initrd;
};

static inline int fuzz_kernel_open(struct fuzz_kernel *kernel, const uint8_t *data, size_t len)
{
	kernel->fd = memfd_create("kernel", MFD_CLOEXEC);
	kernel->no_initrd = (struct boot_file){.fd = -1};
	if (kernel->fd < 0 || pwrite_full(kernel->fd, data, len, 0) < 0)
		abort();
	snprintf(kernel->path, sizeof(kernel->path), "/proc/self/fd/%d", kernel->fd);
	if (boot_file_open(&kernel->file, "kernel", kernel->path) == 0)
		return 0;
	close(kernel->fd);
	return -1;
}

static inline void fuzz_kernel_close(struct fuzz_kernel *kernel)
{
	boot_file_close(&kernel->file);
	close(kernel->fd);
}

static inline const struct mem *fuzz_mem(void)
{
	static struct mem mem;

	if (!mem.count && mem_init(&mem, &(struct mem_options){.len_bytes = FUZZ_RAM}) < 0)
		abort();
	return &mem;
}

/* What was loaded must start where there is RAM. */
static inline void fuzz_check_entry(const struct vcpu_entry *entry)
{
	if (!mem_at(fuzz_mem(), entry->rip, 1))
		abort();
}
