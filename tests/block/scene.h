/* SPDX-License-Identifier: MIT */
/*
 * Kinds of images that random work is done on, in a simulated file, while something goes wrong;
 * and what must be true of the image afterwards.
 */
#pragma once

#include "sim.h"
#include "work.h"

struct scene {
	const char *name;
	const char *options;
	uint64_t disk_mib;
	uint64_t first, sectors; /* that are worked on */
	uint64_t max_len;
	uint64_t filled;         /* of these, with tag 1 */
	bool snapshot;
	/* the filling: in the image, in a raw file below, compressed, or its first half compressed
	   and all of it below */
	enum { HERE, BELOW, PACKED, PACKED_ABOVE } where;
	enum { PLENTY, SHORT, DEVICE } space;
	/* UNMAPPED: a raw one, whose entries are still to be made */
	enum { NO_DATA_FILE, DATA_FILE, RAW_DATA_FILE, UNMAPPED } data;
};

extern const struct scene scenes[];
extern const unsigned int scene_count;

/* All of them, as files of the test's own. */
void scenes_make(void);

/* One that is worked on. */
struct trial {
	const struct scene *scene;
	struct sim *sim;
	struct work *work;
	uint64_t sectors_max;
	uint64_t state;         /* of chance */
	uint64_t leaks;         /* that were there before */
	unsigned char *sectors; /* that are worked on, as the image has them: trial_check */
	const char *how;        /* to have the same again */
};

/* scene, state, and sectors_max are given; `work` fails where there is no space. */
void trial_begin(struct trial *t);
void trial_end(struct trial *t);
/* So much as the scene has, by chance: before it is opened, each time. */
void trial_set_space(struct trial *t);
/* qcow2_create's result. */
int trial_open(struct trial *t, uint32_t cache_bytes);
/* The message, and what qemu-img says to the image as it is durably. */
void trial_fail(const struct trial *t, const char *why);
/*
 * After a sim_cut: the image is whole, its snapshot as it was, and each sector holds what it may.
 * `closed`: it leaks no more than before. judge.c says so, and to one of QEMU_EVERY (4) qemu-img.
 */
void trial_check(struct trial *t, bool closed);

/* How many images were looked at, by qemu-img, and had leaks. */
extern unsigned long trials_checked, trials_asked, trials_leaking;
