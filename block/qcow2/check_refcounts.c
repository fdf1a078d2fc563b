/* SPDX-License-Identifier: MIT */
/* The check: the refcounts, and the references that they should be. */
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/qcow2/check_impl.h"
#include "util/util.h"

static unsigned long long ull(uint64_t value)
{
	return value;
}

/* --- one count in a block: big-endian, or in the lowest bits of a byte first --- */

static uint64_t get_count(const struct check *c, uint64_t i)
{
	unsigned int order = c->h->refcount_order, in_byte = 3 - MIN(order, 3);
	const unsigned char *at = c->block + (order < 3 ? i >> in_byte : i << (order - 3));
	uint64_t value = 0;

	if (order < 3)
		return *at >> ((i & ((1u << in_byte) - 1)) << order) & c->refcount_max;
	for (unsigned int n = 0; n < 1u << (order - 3); n++)
		value = value << 8 | at[n];
	return value;
}

static void set_count(struct check *c, uint64_t i, uint64_t value)
{
	unsigned int order = c->h->refcount_order, in_byte = 3 - MIN(order, 3), shift;
	unsigned char *at = c->block + (order < 3 ? i >> in_byte : i << (order - 3));

	if (order < 3) {
		shift = (unsigned int)(i & ((1u << in_byte) - 1)) << order;
		*at = (unsigned char)((*at & ~(c->refcount_max << shift)) | value << shift);
		return;
	}
	for (unsigned int n = 1u << (order - 3); n-- > 0; value >>= 8)
		at[n] = (unsigned char)value;
}

/* --- the table of blocks --- */

int check_load_reftable(struct check *c)
{
	uint64_t bytes = (uint64_t)c->h->reftable_clusters << c->bits;
	int r;

	c->reftable_entries = bytes / 8;
	c->reftable = malloc(bytes);
	if (!c->reftable)
		return -ENOMEM;
	r = image_read(c->img, c->reftable, bytes, c->h->reftable_offset);
	if (r < 0) {
		memset(c->reftable, 0, bytes);
		check_error(c, r, "the refcount table", c->h->reftable_offset);
	}
	return 0;
}

static int count_refblock(struct check *c, uint64_t i, uint64_t offset)
{
	uint64_t refs;
	int r;

	if (offset & (c->cluster_bytes - 1)) {
		check_bad(c, 1, "ERROR: refcount block %llu at 0x%llx is not aligned", ull(i),
			  ull(offset));
		return 0;
	}
	if (offset >= c->img->file_bytes) {
		check_bad(c, 1, "ERROR: refcount block %llu at 0x%llx is outside of the file",
			  ull(i), ull(offset));
		return 0;
	}
	r = check_count(c, offset, c->cluster_bytes, 1);
	refs = refmap_get(&c->refs, offset >> c->bits);
	if (refs != 1)
		check_bad(c, 1, "ERROR: refcount block %llu at 0x%llx has %llu references", ull(i),
			  ull(offset), ull(refs));
	return r;
}

int check_refblocks(struct check *c)
{
	int r = 0;

	for (uint64_t i = 0; !r && i < c->reftable_entries; i++) {
		if (c->reftable[i])
			r = count_refblock(c, i, be64toh(c->reftable[i]));
	}
	return r;
}

/* --- going through all counts --- */

/* What is told of a cluster that is counted or referred to. */
struct pair {
	uint64_t cluster;
	uint64_t in_block; /* its index there */
	uint64_t count;
	uint64_t refs;
	bool has_block;
	bool dirty; /* set by who changes the block */
};

typedef int pair_fn(struct check *c, struct pair *pair);

/* The clusters from `first` on, fewer than `end`, have no counts. */
static int each_uncounted(struct check *c, uint64_t first, uint64_t end, pair_fn *fn)
{
	int r = 0;

	for (uint64_t i = first; !r && (i = refmap_next(&c->refs, i, end)) < end; i++) {
		struct pair pair = {.cluster = i, .refs = refmap_get(&c->refs, i)};

		if (pair.refs)
			r = fn(c, &pair);
	}
	return r;
}

/* Their counts are in `block`, which is at `offset`; it may be known to be all zeroes. */
static int each_counted(struct check *c, uint64_t first, uint64_t end, uint64_t offset, bool zero,
			pair_fn *fn)
{
	bool dirty = false;
	int r = 0;

	for (uint64_t i = first; !r && i < end; i++) {
		struct pair pair = {.has_block = true};

		if (zero)
			i = refmap_next(&c->refs, i, end);
		if (i == end)
			break;
		pair.cluster = i;
		pair.in_block = i - first;
		pair.count = get_count(c, i - first);
		pair.refs = refmap_get(&c->refs, i);
		if (pair.count | pair.refs)
			r = fn(c, &pair);
		dirty |= pair.dirty;
	}
	if (dirty && !r)
		r = pwrite_full(c->img->fd, c->block, c->cluster_bytes, offset);
	return r;
}

/* The clusters whose counts are in block `index`; the first one not to look at is `end`. */
static int each_in_block(struct check *c, uint64_t index, uint64_t end, pair_fn *fn)
{
	uint64_t first = index * c->per_block, offset = be64toh(c->reftable[index]);
	uint64_t block_end = offset + c->cluster_bytes;
	bool zero;
	int r = 0;

	end = MIN(end, first + c->per_block);
	if (offset & (c->cluster_bytes - 1)) {
		check_error(c, -EIO, "a refcount block", offset);
		return 0;
	}
	if (!offset || offset >= c->img->file_bytes)
		return each_uncounted(c, first, end, fn);
	zero = image_next_data(c->img, offset, block_end) == block_end;
	if (zero)
		memset(c->block, 0, c->cluster_bytes);
	else
		r = image_read(c->img, c->block, c->cluster_bytes, offset);
	if (r < 0) {
		check_error(c, r, "a refcount block", offset);
		return 0;
	}
	return each_counted(c, first, end, offset, zero, fn);
}

static int each_pair(struct check *c, pair_fn *fn)
{
	uint64_t in_file = (c->img->file_bytes + c->cluster_bytes - 1) >> c->bits;
	uint64_t end = MAX(in_file, c->refs.end), i;
	int r = 0;

	for (i = 0; !r && i < c->reftable_entries && i * c->per_block < end; i++)
		r = each_in_block(c, i, end, fn);
	return r ? r : each_uncounted(c, i * c->per_block, end, fn);
}

static int compare(struct check *c, struct pair *pair)
{
	c->report->end_bytes = (pair->cluster + 1) << c->bits;
	if (pair->count == pair->refs)
		return 0;
	check_say(c, "%s cluster %llu refcount=%llu reference=%llu",
		  pair->count < pair->refs ? "ERROR" : "Leaked", ull(pair->cluster),
		  ull(pair->count), ull(pair->refs));
	if (pair->count < pair->refs)
		c->report->corruptions++;
	else
		c->report->leaks++;
	return 0;
}

int check_compare(struct check *c)
{
	return each_pair(c, compare);
}

static int adopt(struct check *c, struct pair *pair)
{
	if (!pair->refs || pair->count == pair->refs)
		return 0;
	return refmap_set(&c->refs, pair->cluster, pair->count);
}

int check_adopt(struct check *c)
{
	return each_pair(c, adopt);
}

/* --- repairing --- */

static int raise_count(struct check *c, struct pair *pair)
{
	if (pair->count >= pair->refs || !pair->has_block)
		return 0;
	set_count(c, pair->in_block, pair->refs);
	pair->dirty = true;
	c->report->corruptions--;
	c->report->corruptions_fixed++;
	return 0;
}

static int lower_count(struct check *c, struct pair *pair)
{
	if (pair->count <= pair->refs)
		return 0;
	set_count(c, pair->in_block, pair->refs);
	pair->dirty = true;
	c->report->leaks--;
	c->report->leaks_fixed++;
	return 0;
}

int check_settle(struct check *c, bool raise)
{
	return each_pair(c, raise ? raise_count : lower_count);
}
