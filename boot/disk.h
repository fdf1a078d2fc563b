/* SPDX-License-Identifier: MIT */
/* Looking into a disk before the guest does: partitions, file systems, the root among them. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define DISK_SECTOR 512

struct disk_ops {
	/* Mandatory. Read `len_bytes` at `offset_bytes`, both multiples of 512. 0 or -errno. */
	int (*read)(void *owner, void *buf, uint64_t len_bytes, uint64_t offset_bytes);
};

struct disk {
	const struct disk_ops *ops;
	void *owner;
	uint64_t size_bytes;
};

enum partition_use {
	PARTITION_OTHER,
	PARTITION_LINUX,      /* a Linux file system of any use */
	PARTITION_LINUX_ROOT, /* typed as the root of an x86 system */
};

struct partition {
	unsigned int number; /* as Linux counts: /dev/vdaN */
	enum partition_use use;
	uint64_t start_bytes;
	uint64_t len_bytes;
	char partuuid[40]; /* as root=PARTUUID= takes it; empty where there is none */
};

#define PARTITIONS_MAX 128

/* A name for root=, and for rootfstype=. */
struct disk_root {
	char device[64];
	const char *fstype; /* or NULL: not known */
};

/* Read no further than the disk. 0, -ERANGE past its end, or -errno. */
int disk_read(const struct disk *disk, void *buf, uint64_t len_bytes, uint64_t offset_bytes);

/*
 * List the partitions of a GPT or MBR disk that lie inside it. The number found (0: no valid
 * table) or -errno. `out` has room for PARTITIONS_MAX.
 */
int disk_partitions(const struct disk *disk, struct partition *out);

/* The file system that starts at `offset_bytes`, as Linux calls it, or NULL. */
const char *disk_fstype(const struct disk *disk, uint64_t offset_bytes);

/* The guest's root on its first disk. 0, -ENOENT where there is none to see, or -errno. */
int disk_find_root(const struct disk *disk, struct disk_root *out);
