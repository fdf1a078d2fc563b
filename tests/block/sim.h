/* SPDX-License-Identifier: MIT */
/*
 * A file in memory under the block layer, with a disk's bad manners: operations complete in any
 * order, transfers are short, what was not synced may be lost, sector by sector, when the power
 * is cut, and any operation can be made to fail.
 *
 * What a sync covers are the writes that were complete when it was asked for, as with a real
 * kernel; later ones may or may not be on disk after a cut.
 */
#pragma once

#include "block/bio.h"

#define SIM_BYTES_MAX (4ull << 30) /* address space only */

struct blk;
struct sim_op;

struct sim_write {
	uint64_t offset, len;
	unsigned char *data; /* NULL: zeroes */
	bool complete;
	uint64_t number;
};

struct sim {
	struct bio bio;
	unsigned char *now;     /* as reads see it */
	unsigned char *durable; /* as of the last sync */
	uint64_t size;          /* now */
	uint64_t durable_size;
	struct sim_op *queue;   /* submitted, in order */
	struct sim_write *writes; /* since the last sync, in the order they took effect */
	unsigned int write_count, write_capacity;
	uint64_t seed;
	bool in_order;          /* complete operations in the order they came */
	bool short_reads;
	bool short_writes;      /* not with cuts: the rest of a sector may come in a later write */

	/* Fail the operation that comes when this has counted down to 0; -1: none. */
	long fail_after;
	int fail_errno;
	bool fail_from_then_on; /* and all later ones */
	unsigned long ops;      /* that came so far, but for deferred calls */
	unsigned long reserved; /* fallocate calls for space alone */
	bool no_punch, no_fallocate, no_zero_range;
	uint64_t limit;         /* the file cannot become longer; 0: it can */
	unsigned int no_space;  /* of 256 demands for space alone this many fail */
	bool hold_reads;        /* they wait */
	struct sim *below;      /* of the backing file: steps with this one */
	struct sim *data;       /* of the external data file: steps, and is cut, with this one */
	bool dead;              /* the power is cut: nothing works or changes any more */
	uint64_t high;          /* how far `now` and `durable` were used */
};

struct sim *sim_create(uint64_t seed);
void sim_destroy(struct sim *sim); /* the other files, too */
/* struct qcow2_options.open_backing, of raw files; `sim` is its arg. */
int sim_open_below(void *sim, const char *file, const char *format, struct blk **out);
/* struct qcow2_options.open_data: of sim->data, which the test made. */
int sim_open_data(void *sim, const char *file, struct blk **out);

/* The content of `path` becomes the disk's, durably. */
void sim_load(struct sim *sim, const char *path);
/* What reads see, into `path`. */
void sim_save(struct sim *sim, const char *path);
/*
 * Cut the power: what is durable, and some of the rest, by `chance` of 256, is all there will
 * ever be in `durable`; to be had by sim_save_durable, and by going on after sim_power_on, once
 * what is above was closed.
 */
void sim_cut(struct sim *sim, unsigned int chance);
void sim_save_durable(struct sim *sim, const char *path);
void sim_power_on(struct sim *sim);

/* Carry out one operation that waits and complete it; false if none does. */
bool sim_step(struct sim *sim);
void sim_run(struct sim *sim);
