/* SPDX-License-Identifier: MIT */
/* What a qcow2 image says of its snapshots and bitmaps, for those who show or check it. */
#pragma once

#include <stdint.h>

struct image;

/* Texts are cut, and end with a NUL. */
#define Q2_NAME_MAX 256u

struct q2_snapshot {
	unsigned int index; /* in the table, from 0 */
	uint64_t l1_offset;
	uint32_t l1_entries;
	char id[Q2_NAME_MAX];
	char name[Q2_NAME_MAX];
	uint32_t date_s, date_ns;
	uint64_t vm_clock_ns;
	uint64_t vm_state_bytes;
	uint64_t icount; /* UINT64_MAX: not known */
};

enum q2_bitmap_flags {
	Q2_BITMAP_IN_USE = 1 << 0,
	Q2_BITMAP_AUTO = 1 << 1,
};

struct q2_bitmap {
	unsigned int index;
	uint64_t table_offset;
	uint32_t table_entries;
	uint32_t flags;
	unsigned int granularity_bits;
	char name[Q2_NAME_MAX];
};

/*
 * fn for each snapshot; `*bytes` is the table's length. 0, what fn returned if that was not 0, or
 * -EINVAL where the table makes no sense, -EIO, -ENOMEM.
 */
int q2_each_snapshot(const struct image *img, int (*fn)(void *arg, const struct q2_snapshot *s),
		     void *arg, uint64_t *bytes);
int q2_each_bitmap(const struct image *img, int (*fn)(void *arg, const struct q2_bitmap *b),
		   void *arg);
