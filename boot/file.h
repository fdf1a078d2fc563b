/* SPDX-License-Identifier: MIT */
/* The files a guest boots from: kept open, and read straight into guest memory. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct mem;

struct boot_file {
	const char *what; /* "kernel" or "initrd", for messages */
	const char *path; /* the caller's */
	int fd;           /* -1: there is none */
	uint64_t size_bytes;
};

/* 0 or -errno; logs. Refuses what is not a regular file, and empty ones. */
int boot_file_open(struct boot_file *file, const char *what, const char *path);
void boot_file_close(struct boot_file *file);

/* Read exactly `len_bytes` at `offset`. 0 or -errno; logs. */
int boot_file_read(const struct boot_file *file, uint64_t offset, void *buf, size_t len_bytes);
/* The same into guest memory, which must be RAM. 0 or -errno; logs. */
int boot_file_load(const struct boot_file *file, uint64_t offset, uint64_t len_bytes,
		   const struct mem *mem, uint64_t gpa);

/*
 * Load the whole of `initrd` as high as possible below `limit` and low RAM's end, above
 * `floor`. 0 with *gpa set, or -errno; logs.
 */
int boot_initrd_load(const struct boot_file *initrd, const struct mem *mem, uint64_t floor,
		     uint64_t limit, uint64_t *gpa);

/* Say that `file` needs RAM up to `end_bytes` and there is less. Returns -ENOMEM. */
int boot_file_no_room(const struct boot_file *file, const struct mem *mem, uint64_t end_bytes);
