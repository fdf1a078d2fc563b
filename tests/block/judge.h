/* SPDX-License-Identifier: MIT */
/*
 * A second, independent view of a qcow2 image: counts every reference, compares with what the
 * refcounts say, and reads the disk; from memory, in milliseconds. Written after the format's
 * description, and sharing nothing with block/. qemu-img has the last word: tests ask it too.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct judge {
	const unsigned char *bytes; /* the image */
	uint64_t size;
	const unsigned char *below; /* the raw file that lies below, or NULL */
	uint64_t below_size;
	uint64_t grown_size;        /* leaks count up to here, past the end as well; or 0 */
	const unsigned char *data;  /* the external data file, or NULL */
	uint64_t data_size;

	/* verdict */
	uint64_t leaks;             /* clusters that are counted too high */
	bool odd;                   /* counted right, but nobody makes such: the tables in use refer
				       to a cluster twice, or to one that holds metadata */
	char why[160];              /* the first thing that is damaged, or "" */
};

/* True where the image is whole, but for leaks. */
bool judge_check(struct judge *judge);
/*
 * Sectors [first, first + count) of the disk, of an image that was checked; `snapshot`: of the
 * first snapshot, which has to be there. False where they cannot be read: see `why`.
 */
bool judge_read(struct judge *judge, bool snapshot, uint64_t first, uint64_t count,
		unsigned char *out);
