/* SPDX-License-Identifier: MIT */
/* Disks of several kinds that are opened with snapshot=, to the tests of that. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "block/block.h"
#include "work.h"

struct loop;

#define DISK_BYTES ((24ull << 20) + 512 * 7)
#define SECTORS (DISK_BYTES / 512)

struct kind {
	const char *name, *file, *format;
	void (*make)(struct work *work);
};

/* Raw, qcow2, one that is compressed, and one over a raw file. */
enum { KIND_RAW, KIND_QCOW2, KIND_PACKED, KIND_BACKED };
extern const struct kind kinds[];
extern const unsigned int kind_count;

extern struct loop *loop;
/* What make() made: a disk, a copy of it, and the name of an overlay that is left of it. */
extern const char *disk, *copy, *left;
void make(const struct kind *kind, struct work *work);

int try_open(const char *path, enum blk_snapshot snapshot, struct blk **out);
/* It is, in one line that has `says` in it. */
void refused(const char *path, enum blk_snapshot snapshot, const char *says);
bool exists(const char *path);
/* Half of the disk's sectors have something. */
struct work *filled_work(uint64_t seed);
/* The disk holds what was written, for QEMU, which finds nothing wrong. */
void holds(const struct kind *kind, struct work *work);
