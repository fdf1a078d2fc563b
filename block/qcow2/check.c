/* SPDX-License-Identifier: MIT */
/*
 * Checking a qcow2 image.
 *
 * Theory of operation
 *
 * Everything in the file that refers to clusters is walked, and references are counted: the
 * header, the tables it leads to (L1, refcounts, snapshots, bitmaps, encryption), those of the
 * snapshots, and by L1 and L2 tables the data. Then counts are compared with what the refcounts
 * say, and the COPIED flags, which mean "one reference only", with the counts.
 *
 * The image may be hostile. Nothing is read twice for as many references as there may be: an L2
 * table that several L1 tables share is walked once, its references weighted; any other table
 * that lies over something else is not walked at all. Holes of the file are zeroes and are passed
 * over, so that a sparse file costs what is in it; and memory for the counts (refmap.c) is limited
 * by what the file has on disk, because in an honest image a reference takes more room than that.
 *
 * Repairing changes nothing but counts and flags, and only where all references are beyond doubt:
 * first counts go up, then down, then flags are set right, with a barrier after each. So whatever
 * is lost on the way, no cluster is free that is in use.
 */
#include "block/qcow2/check.h"

#include <endian.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "block/qcow2/check_impl.h"
#include "util/log.h"
#include "util/util.h"

#define FILE_BYTES_MAX (1ull << 49)
#define BUDGET_MIN MIB(64)
#define PART_BYTES KIB(64)

/* --- what is found --- */

static void say(struct check *c, const char *fmt, va_list args)
{
	char line[256];

	if (c->lines++ >= CHECK_LINES_MAX || !c->opts->found)
		return;
	vsnprintf(line, sizeof(line), fmt, args);
	c->opts->found(c->opts->arg, line);
}

void check_say(struct check *c, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	say(c, fmt, args);
	va_end(args);
}

void check_bad(struct check *c, uint64_t weight, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	say(c, fmt, args);
	va_end(args);
	c->report->corruptions += weight;
	c->doubts++;
}

void check_error(struct check *c, int err, const char *what, uint64_t where)
{
	check_say(c, "ERROR: %s at 0x%llx cannot be read: %s", what, (unsigned long long)where,
		  strerror(-err));
	c->report->errors++;
}

/* --- counting --- */

static int count_cluster(struct check *c, uint64_t cluster, uint64_t weight)
{
	uint64_t before = refmap_get(&c->refs, cluster), room = c->refcount_max - before;
	int r = refmap_set(&c->refs, cluster, before + MIN(weight, room));

	if (weight > room)
		check_bad(c, weight - room, "ERROR: cluster %llu has more references than a "
			  "refcount of %u bits can say", (unsigned long long)cluster,
			  1u << c->h->refcount_order);
	return r;
}

/* The file may end within the last cluster of a range: what is missing is zeroes. */
static bool is_in_file(const struct check *c, uint64_t offset, uint64_t len)
{
	return range_fits(offset, len, c->img->file_bytes + c->cluster_bytes - 1);
}

int check_count(struct check *c, uint64_t offset, uint64_t len, uint64_t weight)
{
	uint64_t first = offset >> c->bits, last;
	int r = 0;

	if (!len)
		return 0;
	if (!is_in_file(c, offset, len)) {
		check_bad(c, weight, "ERROR: a reference to 0x%llx (0x%llx bytes), outside of the "
			  "file", (unsigned long long)offset, (unsigned long long)len);
		return 0;
	}
	last = (offset + len - 1) >> c->bits;
	for (uint64_t i = first; !r && i <= last; i++)
		r = count_cluster(c, i, weight);
	return r;
}

/* `len` is not 0. */
static bool lies_over_something(const struct check *c, uint64_t offset, uint64_t len)
{
	uint64_t end = ((offset + len - 1) >> c->bits) + 1;

	for (uint64_t i = offset >> c->bits; i < end; i++) {
		i = refmap_next(&c->refs, i, end);
		if (i < end && refmap_get(&c->refs, i))
			return true;
	}
	return false;
}

int check_claim(struct check *c, uint64_t offset, uint64_t len, const char *what)
{
	if (offset & (c->cluster_bytes - 1)) {
		check_bad(c, 1, "ERROR: %s at 0x%llx is not at the start of a cluster", what,
			  (unsigned long long)offset);
		return 1;
	}
	if (!len)
		return 1;
	if (!is_in_file(c, offset, len)) {
		check_bad(c, 1, "ERROR: %s at 0x%llx is outside of the file", what,
			  (unsigned long long)offset);
		return 1;
	}
	if (!lies_over_something(c, offset, len))
		return check_count(c, offset, len, 1);
	check_bad(c, 1, "ERROR: %s at 0x%llx lies over something else", what,
		  (unsigned long long)offset);
	return 1;
}

int check_each_part(struct check *c, uint64_t offset, uint64_t len, check_part_fn *fn, void *arg)
{
	uint64_t end = offset + len, at = offset, size = MIN(len, PART_BYTES);
	uint64_t *part = malloc(size);
	int r = part ? 0 : -ENOMEM;

	while (!r) {
		uint64_t skip = image_next_data(c->img, at, end) - offset, n;

		at = offset + align_down(skip, 16); /* of entries, the longest kind */
		if (at >= end || skip >= len)
			break;
		n = MIN(size, end - at);
		r = image_read(c->img, part, n, at);
		if (r < 0) {
			check_error(c, r, "a table", at);
			r = 0;
			break;
		}
		r = fn(c, at, part, n / sizeof(*part), arg);
		at += n;
	}
	free(part);
	return r;
}

/* --- the whole --- */

/* Everything that is referred to, but for the refcounts themselves and data. */
static int count_tables(struct check *c)
{
	const struct q2_header *h = c->h;
	int r = check_count(c, 0, c->cluster_bytes, 1);

	if (!r)
		r = check_count(c, h->l1_offset, (uint64_t)h->l1_entries * 8, 1);
	if (!r)
		r = check_l1(c, h->l1_offset, h->l1_entries);
	if (!r)
		r = check_snapshots(c);
	if (!r && h->crypt == QCOW2_CRYPT_LUKS)
		r = check_count(c, h->crypt_area.offset, h->crypt_area.len, 1);
	if (!r)
		r = check_bitmaps(c);
	if (!r)
		r = check_count(c, h->reftable_offset, c->reftable_entries * 8, 1);
	return r;
}

static int sync_file(const struct check *c)
{
	return fdatasync(c->img->fd) < 0 ? -errno : 0;
}

/* Nothing is wrong but what can be repaired, and what shall be. */
static bool can_repair(const struct check *c)
{
	const struct check_report *report = c->report;

	if (c->doubts || report->errors)
		return false;
	if (c->opts->repair == CHECK_REPAIR_LEAKS)
		return report->leaks && !report->corruptions;
	return c->opts->repair == CHECK_REPAIR_ALL;
}

/* What only features know of that we do not looked like leaks: with it go the features' bits. */
static int drop_features(struct check *c)
{
	uint64_t known = c->h->autoclear & (QCOW2_AUTOCLEAR_BITMAPS | QCOW2_AUTOCLEAR_DATA_RAW);
	uint64_t wire = htobe64(known);
	int r;

	if (c->h->version < 3 || known == c->h->autoclear)
		return 0;
	r = pwrite_full(c->img->fd, &wire, sizeof(wire), QCOW2_AT_AUTOCLEAR);
	return r ? r : sync_file(c);
}

static int repair_counts(struct check *c)
{
	int r = drop_features(c);

	if (!r)
		r = check_settle(c, true);
	if (!r)
		r = sync_file(c);
	if (!r)
		r = check_settle(c, false);
	return r ? r : sync_file(c);
}

/* It is whole, whatever it says of itself. */
static int mark_clean(struct check *c)
{
	uint64_t bits = c->h->incompatible & (QCOW2_INCOMPAT_DIRTY | QCOW2_INCOMPAT_CORRUPT);
	uint64_t wire = htobe64(c->h->incompatible & ~bits);
	int r;

	if (c->opts->repair == CHECK_REPAIR_NONE || c->report->errors || c->report->corruptions ||
	    c->h->version < 3 || !bits)
		return 0;
	r = sync_file(c);
	if (!r)
		r = pwrite_full(c->img->fd, &wire, sizeof(wire), QCOW2_AT_INCOMPAT);
	return r;
}

/* Compare with the counts and, where that is wanted and can be, set them right. */
static int judge(struct check *c)
{
	bool fixed;
	int r = check_compare(c);

	if (r)
		return r;
	fixed = can_repair(c);
	if (fixed && (c->report->leaks || c->report->corruptions))
		r = repair_counts(c);
	if (!r && (c->report->leaks || c->report->corruptions))
		r = check_adopt(c);
	if (!r)
		r = check_copied(c, fixed && !c->report->corruptions);
	if (!r)
		r = mark_clean(c);
	return r || c->opts->repair == CHECK_REPAIR_NONE ? r : sync_file(c);
}

static int run(struct check *c)
{
	int r = check_load_reftable(c);

	if (!r)
		r = count_tables(c);
	if (!r)
		r = check_all_l2(c);
	if (!r)
		r = check_refblocks(c);
	return r ? r : judge(c);
}

static int init(struct check *c)
{
	const struct q2_header *h = c->h;
	unsigned int count_bits = 1u << h->refcount_order;
	uint64_t clusters;
	int r;

	c->bits = h->cluster_bits;
	c->cluster_bytes = 1ull << h->cluster_bits;
	c->refcount_max = count_bits == 64 ? UINT64_MAX : (1ull << count_bits) - 1;
	c->has_data_file = h->incompatible & QCOW2_INCOMPAT_DATA_FILE;
	c->per_block = c->cluster_bytes * 8 / count_bits;
	c->report->clusters = (h->size_bytes + c->cluster_bytes - 1) >> c->bits;
	c->budget = BUDGET_MIN + c->img->disk_bytes;
	clusters = (c->img->file_bytes >> c->bits) + 2;
	r = refmap_init(&c->refs, clusters, &c->budget);
	if (!r)
		r = refmap_init(&c->l2, clusters, &c->budget);
	c->block = malloc(c->cluster_bytes);
	return c->block ? r : -ENOMEM;
}

static void finish(struct check *c)
{
	refmap_finish(&c->refs);
	refmap_finish(&c->l2);
	free(c->reftable);
	free(c->block);
}

int check_image(const struct image *img, const struct check_options *opts,
		struct check_report *out)
{
	struct check c = {.img = img, .h = &img->header, .opts = opts, .report = out};
	int r;

	*out = (struct check_report){0};
	if (img->file_bytes > FILE_BYTES_MAX) {
		log_error("disk %s: the file is too large to be checked", img->name);
		return -EFBIG;
	}
	r = init(&c);
	if (!r)
		r = run(&c);
	finish(&c);
	if (r == -ENOMEM)
		log_error("disk %s: cannot be checked: out of memory (its tables refer to clusters "
			  "all over the file)", img->name);
	else if (r < 0)
		log_error("disk %s: cannot be checked: %s", img->name, strerror(-r));
	return r;
}
