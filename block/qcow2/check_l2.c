/* SPDX-License-Identifier: MIT */
/* The check: L1 and L2 tables, and the COPIED flags in them. */
#include <endian.h>
#include <errno.h>

#include "block/qcow2/check_impl.h"
#include "util/util.h"

#define SUBCLUSTERS_ALLOCATED 0xffffffffull

static unsigned long long ull(uint64_t value)
{
	return value;
}

/* An L2 table that can be walked. */
static bool is_table(const struct check *c, uint64_t offset)
{
	return offset && !(offset & (c->cluster_bytes - 1)) && offset < c->img->file_bytes;
}

/* --- L1: which L2 tables there are --- */

static int count_l1_entry(struct check *c, uint64_t entry)
{
	uint64_t offset = entry & QCOW2_OFFSET, cluster = offset >> c->bits;
	int r;

	if (!entry)
		return 0;
	if (entry & CHECK_L1_RESERVED)
		check_bad(c, 1, "ERROR: L1 entry 0x%llx has reserved bits set", ull(entry));
	if (!offset || (offset & (c->cluster_bytes - 1)))
		check_bad(c, 1, "ERROR: L1 entry 0x%llx leads to no place for a table", ull(entry));
	r = check_count(c, offset, c->cluster_bytes, 1);
	if (!r && is_table(c, offset))
		r = refmap_set(&c->l2, cluster, refmap_get(&c->l2, cluster) + 1);
	return r;
}

static int count_l1_part(struct check *c, uint64_t at, const uint64_t *entries, uint64_t count,
			 void *arg)
{
	int r = 0;

	for (uint64_t i = 0; !r && i < count; i++)
		r = count_l1_entry(c, be64toh(entries[i]));
	return r;
}

int check_l1(struct check *c, uint64_t offset, uint64_t entries)
{
	return check_each_part(c, offset, entries * 8, count_l1_part, NULL);
}

/* --- L2 --- */

struct walk {
	uint64_t weight; /* how many L1 entries lead here */
	bool active;     /* what the guest sees: its shape is counted */
	uint64_t next;   /* where the next cluster would not be a fragment, or 0 */
};

static int walk_compressed(struct check *c, struct walk *w, uint64_t entry, uint64_t bitmap)
{
	unsigned int shift = 62 - (c->bits - 8);
	uint64_t offset = entry & ((1ull << shift) - 1);
	uint64_t sectors = (entry >> shift & ((1ull << (c->bits - 8)) - 1)) + 1;

	if (entry & QCOW2_COPIED)
		check_bad(c, w->weight, "ERROR: compressed cluster at 0x%llx has the COPIED flag",
			  ull(offset));
	if (c->has_data_file || bitmap) {
		check_bad(c, w->weight, "ERROR: compressed cluster at 0x%llx %s", ull(offset),
			  bitmap ? "has subclusters" : "in an image with a data file");
		return 0;
	}
	if (w->active) {
		c->report->allocated++;
		c->report->compressed++;
		c->report->fragmented++; /* reading it takes more than a cluster's own sectors */
	}
	return check_count(c, offset, sectors * 512 - offset % 512, w->weight);
}

static int walk_allocated(struct check *c, struct walk *w, uint64_t entry, uint64_t bitmap)
{
	uint64_t offset = entry & QCOW2_OFFSET;

	if (bitmap >> 32 & bitmap)
		check_bad(c, w->weight, "ERROR: cluster at 0x%llx has subclusters that are both "
			  "allocated and zero", ull(offset));
	if (offset & (c->cluster_bytes - 1))
		check_bad(c, w->weight, "ERROR: cluster at 0x%llx is not aligned", ull(offset));
	if (w->active) {
		c->report->allocated++;
		c->report->fragmented += w->next && w->next != offset;
		w->next = offset + c->cluster_bytes;
	}
	return c->has_data_file ? 0 : check_count(c, offset, c->cluster_bytes, w->weight);
}

static bool is_allocated(const struct check *c, uint64_t entry)
{
	return (entry & QCOW2_OFFSET) || (c->has_data_file && (entry & QCOW2_COPIED));
}

static int walk_entry(struct check *c, struct walk *w, uint64_t entry, uint64_t bitmap)
{
	if (entry & QCOW2_COMPRESSED)
		return walk_compressed(c, w, entry, bitmap);
	if (entry & CHECK_L2_RESERVED)
		check_bad(c, w->weight, "ERROR: L2 entry 0x%llx has reserved bits set", ull(entry));
	if (is_allocated(c, entry))
		return walk_allocated(c, w, entry, bitmap);
	if (bitmap & SUBCLUSTERS_ALLOCATED)
		check_bad(c, w->weight, "ERROR: a cluster without a place has subclusters");
	return 0;
}

static int walk_part(struct check *c, uint64_t at, const uint64_t *entries, uint64_t count,
		     void *arg)
{
	uint64_t step = q2_l2_entry_bytes(c->h) / 8;
	int r = 0;

	for (uint64_t i = 0; !r && i + step <= count; i += step) {
		uint64_t entry = be64toh(entries[i]);
		uint64_t bitmap = step > 1 ? be64toh(entries[i + 1]) : 0;

		if (entry | bitmap)
			r = walk_entry(c, arg, entry, bitmap);
	}
	return r;
}

/* Walk the L2 table in `cluster`, unless that was done. */
static int walk_l2(struct check *c, uint64_t cluster, bool active)
{
	struct walk w = {.weight = refmap_get(&c->l2, cluster), .active = active};
	int r;

	if (!w.weight)
		return 0;
	r = check_each_part(c, cluster << c->bits, c->cluster_bytes, walk_part, &w);
	return r ? r : refmap_set(&c->l2, cluster, 0);
}

static int walk_active_part(struct check *c, uint64_t at, const uint64_t *entries, uint64_t count,
			    void *arg)
{
	int r = 0;

	for (uint64_t i = 0; !r && i < count; i++) {
		uint64_t offset = be64toh(entries[i]) & QCOW2_OFFSET;

		if (is_table(c, offset))
			r = walk_l2(c, offset >> c->bits, true);
	}
	return r;
}

int check_all_l2(struct check *c)
{
	uint64_t end = c->l2.end, l1_bytes = (uint64_t)c->h->l1_entries * 8;
	int r = check_each_part(c, c->h->l1_offset, l1_bytes, walk_active_part, NULL);

	for (uint64_t i = 0; !r && (i = refmap_next(&c->l2, i, end)) < end; i++)
		r = walk_l2(c, i, false);
	return r;
}

/* --- COPIED --- */

/* `entry`, which is at `at` in the file, against the count of what it refers to. */
static int check_flag(struct check *c, uint64_t at, uint64_t entry, bool in_data_file,
		      const char *what, bool fix)
{
	uint64_t count = in_data_file ? 1 : refmap_get(&c->refs, (entry & QCOW2_OFFSET) >> c->bits);
	uint64_t right;

	if ((count == 1) == !!(entry & QCOW2_COPIED))
		return 0;
	if (fix) {
		right = htobe64(entry ^ QCOW2_COPIED);
		c->report->corruptions_fixed++;
		return pwrite_full(c->img->fd, &right, sizeof(right), at);
	}
	check_bad(c, 1, "ERROR: the COPIED flag of an %s entry is wrong: 0x%llx refcount=%llu",
		  what, ull(entry), ull(count));
	return 0;
}

static int check_l2_flags(struct check *c, uint64_t at, const uint64_t *entries, uint64_t count,
			  void *arg)
{
	uint64_t step = q2_l2_entry_bytes(c->h) / 8;
	const bool *fix = arg;
	int r = 0;

	for (uint64_t i = 0; !r && i < count; i += step) {
		uint64_t entry = be64toh(entries[i]);

		if (!(entry & QCOW2_COMPRESSED) && is_allocated(c, entry))
			r = check_flag(c, at + i * 8, entry, c->has_data_file, "L2", *fix);
	}
	return r;
}

static int check_l1_flags(struct check *c, uint64_t at, const uint64_t *entries, uint64_t count,
			  void *arg)
{
	const bool *fix = arg;
	int r = 0;

	for (uint64_t i = 0; !r && i < count; i++) {
		uint64_t entry = be64toh(entries[i]), offset = entry & QCOW2_OFFSET;
		uint64_t cluster = offset >> c->bits;

		if (!offset)
			continue;
		r = check_flag(c, at + i * 8, entry, false, "L1", *fix);
		if (r || !is_table(c, offset) || refmap_get(&c->l2, cluster))
			continue;
		r = refmap_set(&c->l2, cluster, 1); /* once is enough */
		if (!r)
			r = check_each_part(c, offset, c->cluster_bytes, check_l2_flags, arg);
	}
	return r;
}

int check_copied(struct check *c, bool fix)
{
	return check_each_part(c, c->h->l1_offset, (uint64_t)c->h->l1_entries * 8, check_l1_flags,
			       &fix);
}
