/* SPDX-License-Identifier: MIT */
/* The check, to its own files; how it goes is told in check.c. */
#pragma once

#include "block/image.h"
#include "block/qcow2/check.h"
#include "block/qcow2/refmap.h"

/* What must be zero in L1 and L2 entries. */
#define CHECK_L1_RESERVED 0x7f000000000001ffull
#define CHECK_L2_RESERVED 0x3f000000000001feull

struct check {
	const struct image *img;
	const struct q2_header *h;
	const struct check_options *opts;
	struct check_report *report;
	unsigned int lines;
	uint64_t doubts; /* what is wrong with the references themselves: not to be repaired */

	unsigned int bits; /* of a cluster */
	uint64_t cluster_bytes;
	uint64_t refcount_max;
	bool has_data_file;
	uint64_t per_block;    /* counts in a refcount block */
	uint64_t *reftable;    /* big-endian */
	uint64_t reftable_entries;
	unsigned char *block;  /* one cluster, for refcounts */

	uint64_t budget;
	struct refmap refs; /* how often each cluster is referred to; later, its count */
	struct refmap l2;   /* how many L1 entries lead to the L2 table there */
};

/* A line, and `weight` corruptions that concern references. */
void check_bad(struct check *c, uint64_t weight, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* A line; the caller counts. */
void check_say(struct check *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* A part of the file could not be looked at. */
void check_error(struct check *c, int err, const char *what, uint64_t where);

/* `weight` references to each cluster of a range of the file. 0 or -errno, for good. */
int check_count(struct check *c, uint64_t offset, uint64_t len, uint64_t weight);
/*
 * Count a table that is nobody else's: 0. 1 where it must not be walked, because it is unaligned,
 * outside of the file or over something else, which was said. Or -errno, for good.
 */
int check_claim(struct check *c, uint64_t offset, uint64_t len, const char *what);

/*
 * fn(c, at, entries, count, arg) for the parts of a table of big-endian entries that are not in a
 * hole of the file; `at` is where a part is in the file. Ends where fn does not return 0.
 */
typedef int check_part_fn(struct check *c, uint64_t at, const uint64_t *entries, uint64_t count,
			  void *arg);
int check_each_part(struct check *c, uint64_t offset, uint64_t len, check_part_fn *fn, void *arg);

/* All of these: 0, or -errno for good. */

/* check_tables.c */
int check_snapshots(struct check *c);
int check_bitmaps(struct check *c);
/* check_l2.c */
int check_l1(struct check *c, uint64_t offset, uint64_t entries);
int check_all_l2(struct check *c);
/* COPIED, against the counts that `refs` has by now; `fix`: set it right. */
int check_copied(struct check *c, bool fix);
/* check_refcounts.c */
int check_load_reftable(struct check *c);
int check_refblocks(struct check *c);
int check_compare(struct check *c);
/* Write counts that are right: `raise` those that are too low, or lower the others. */
int check_settle(struct check *c, bool raise);
/* From now on `refs` has the counts of what is referred to. */
int check_adopt(struct check *c);
