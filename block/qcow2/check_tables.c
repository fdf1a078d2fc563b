/* SPDX-License-Identifier: MIT */
/* The check: snapshots and bitmaps. */
#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "block/qcow2/check_impl.h"
#include "block/qcow2/tables.h"
#include "util/util.h"

#define BITMAP_RESERVED 0xff000000000001feull
#define BITMAP_ONES 1ull
#define BITMAP_TABLE_MAX (1ull << 27) /* entries */

/* --- snapshots --- */

static int check_snapshot(void *arg, const struct q2_snapshot *s)
{
	uint64_t bytes = (uint64_t)s->l1_entries * 8;
	struct check *c = arg;
	char what[64];
	int r;

	snprintf(what, sizeof(what), "the L1 table of snapshot %u", s->index + 1);
	if (bytes > QCOW2_L1_BYTES_MAX) {
		check_bad(c, 1, "ERROR: %s is too large", what);
		return 0;
	}
	r = bytes ? check_claim(c, s->l1_offset, bytes, what) : 0;
	if (r)
		return r < 0 ? r : 0;
	return check_l1(c, s->l1_offset, s->l1_entries);
}

int check_snapshots(struct check *c)
{
	uint64_t bytes = 0;
	int r;

	if (!c->h->snapshots)
		return 0;
	if (c->h->snapshots > QCOW2_SNAPSHOTS_MAX ||
	    c->h->snapshots_offset & (c->cluster_bytes - 1)) {
		check_bad(c, 1, "ERROR: the snapshot table is too large or not aligned");
		return 0;
	}
	r = q2_each_snapshot(c->img, check_snapshot, c, &bytes);
	if (r == -EINVAL)
		check_bad(c, 1, "ERROR: the snapshot table ends early");
	else if (r == -EIO)
		check_error(c, r, "the snapshot table", c->h->snapshots_offset);
	else if (r)
		return r;
	return check_count(c, c->h->snapshots_offset, bytes, 1);
}

/* --- bitmaps --- */

static int count_bitmap_part(struct check *c, uint64_t at, const uint64_t *entries,
			     uint64_t count, void *arg)
{
	int r = 0;

	for (uint64_t i = 0; !r && i < count; i++) {
		uint64_t entry = be64toh(entries[i]), offset = entry & QCOW2_OFFSET;

		if ((entry & BITMAP_RESERVED) || (offset & (c->cluster_bytes - 1)) ||
		    (offset && (entry & BITMAP_ONES)))
			check_bad(c, 1, "ERROR: entry 0x%llx in the table of bitmap %u",
				  (unsigned long long)entry, *(unsigned int *)arg + 1);
		else if (offset)
			r = check_count(c, offset, c->cluster_bytes, 1);
	}
	return r;
}

static int check_bitmap(void *arg, const struct q2_bitmap *b)
{
	struct check *c = arg;
	unsigned int index = b->index;
	char what[64];
	int r;

	snprintf(what, sizeof(what), "the table of bitmap %u", index + 1);
	if (b->table_entries > BITMAP_TABLE_MAX) {
		check_bad(c, 1, "ERROR: %s is too large", what);
		return 0;
	}
	if (!b->table_entries)
		return 0;
	r = check_claim(c, b->table_offset, (uint64_t)b->table_entries * 8, what);
	if (r)
		return r < 0 ? r : 0;
	return check_each_part(c, b->table_offset, (uint64_t)b->table_entries * 8,
			       count_bitmap_part, &index);
}

int check_bitmaps(struct check *c)
{
	const struct q2_area *directory = &c->h->bitmap_area;
	int r;

	/* A writer that knew no bitmaps took the bit away: they are void, and so is their space. */
	if (!c->h->bitmaps || !(c->h->autoclear & QCOW2_AUTOCLEAR_BITMAPS))
		return 0;
	r = check_claim(c, directory->offset, directory->len, "the directory of bitmaps");
	if (r)
		return r < 0 ? r : 0;
	r = q2_each_bitmap(c->img, check_bitmap, c);
	if (r == -EINVAL)
		check_bad(c, 1, "ERROR: the directory of bitmaps is damaged");
	else if (r == -EIO)
		check_error(c, r, "the directory of bitmaps", directory->offset);
	else if (r)
		return r;
	return 0;
}
