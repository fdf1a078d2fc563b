/* SPDX-License-Identifier: MIT */
/* Writing a qcow2 image's metadata back. */
#pragma once

#include "block/qcow2/wait.h"
#include "block/xfer.h"

struct q2_slice;
struct qcow2;
struct q2_chunk; /* one write of a commit */

struct q2_commit {
	bool running;
	bool wanted; /* once more after this one */
	struct q2_chunk *chunks;
	unsigned int count, refcounts; /* the first `refcounts` go before the first barrier */
	unsigned int pending;
	bool second;  /* past the first barrier */
	int err;
	unsigned char *buf;
	struct q2_slice **slices;
	unsigned int slice_count;
	struct q2_waitq flushes;
	struct loop_op op, data_op;
	unsigned int syncs; /* under way */
};

/* Write metadata back and sync, now or as soon as the running commit is done. */
void q2_commit_kick(struct qcow2 *q);
void q2_commit_finish(struct qcow2 *q);
bool q2_is_dirty(const struct qcow2 *q);
