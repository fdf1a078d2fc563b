/* SPDX-License-Identifier: MIT */
/*
 * Whether the tables of a qcow2 image agree with each other: each reference to each cluster is
 * counted, and compared with what the refcounts say.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct image;

/* How many lines `found` gets at most; more are only counted. */
#define CHECK_LINES_MAX 100u

enum check_repair {
	CHECK_REPAIR_NONE,
	CHECK_REPAIR_LEAKS, /* lower counts, where nothing else is wrong */
	CHECK_REPAIR_ALL,   /* set counts right, where all references are beyond doubt */
};

struct check_options {
	/* Something is wrong: a line about it. */
	void (*found)(void *arg, const char *line);
	void *arg;
	/* The image is open for writing, and nobody else's. */
	enum check_repair repair;
};

struct check_report {
	uint64_t corruptions; /* data may be wrong or be lost: too low a count, a bad table */
	uint64_t leaks;       /* clusters with too high a count: space is lost, no more */
	uint64_t errors;      /* what could not be checked */
	uint64_t corruptions_fixed, leaks_fixed; /* these are not in the above any more */
	uint64_t clusters;    /* of the disk */
	uint64_t allocated, fragmented, compressed; /* of these */
	uint64_t end_bytes;   /* where the last cluster in use ends, in the file */
};

/* `img` has a sound header. 0 where the report says all, or -errno; logs. */
int check_image(const struct image *img, const struct check_options *opts,
		struct check_report *out);
