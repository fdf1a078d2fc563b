/* SPDX-License-Identifier: MIT */
/* Allocating clusters of a qcow2 file, and giving them up. */
#pragma once

#include "block/qcow2/wait.h"
#include "block/xfer.h"

struct q2_slice;
struct qcow2;

/* Free clusters at hand, within one slice of refcounts, which is pinned. */
struct q2_run {
	uint64_t start, next, end; /* host clusters */
	bool zeroed;        /* they read as zero */
	bool at_end;        /* of the file, which was extended for them */
	bool ahead;         /* the next run was asked for */
	struct q2_slice *slice;
};

struct q2_got {
	uint64_t cluster;
	uint64_t count;
	bool zeroed;
};

/* Prepares the next run, one step after the other. */
struct q2_prep {
	bool busy;
	bool at_end;
	bool zeroed;
	bool scan_all;        /* look at every refcount before giving up */
	bool for_space;       /* waits for what was given up to become free */
	unsigned int budget;  /* slices to look at before the file is extended instead */
	int mode;             /* of the fallocate under way */
	uint64_t start, count;
	void (*step)(struct qcow2 *q); /* where to go on after a wait */
	struct q2_wait wait;
	struct loop_op op;
	struct xfer xfer;
	/* a new refcount block or table */
	uint64_t blocks, table_clusters, old_table, old_clusters;
	unsigned char *buf;
};

/* Up to `want` free clusters in a row, counted from now on. 0, Q2_PARKED or -errno. */
int q2_take(struct qcow2 *q, uint64_t want, struct q2_wait *wait, struct q2_got *got);
void q2_prep_kick(struct qcow2 *q);
void q2_prep_found(struct qcow2 *q); /* steps, between the two files */
void q2_prep_restart(struct qcow2 *q);
void q2_prep_end(struct qcow2 *q, int err);
void q2_prep_space(struct qcow2 *q); /* there may be more free clusters, or no more writing */
void q2_prep_refblock(struct qcow2 *q);
uint64_t q2_refblock_of(const struct qcow2 *q, uint64_t cluster);
bool q2_has_refblock(const struct qcow2 *q, uint64_t cluster);

/* --- giving up clusters: free.c --- */

struct q2_vec {
	uint64_t *v;
	size_t count, capacity;
};

struct q2_freeing {
	struct q2_vec unlinked; /* by what the next commit will write */
	struct q2_vec frozen;   /* by what the running commit writes */
	struct q2_vec ripe;     /* nothing on disk refers to them */
	struct q2_vec batch;    /* being worked on, in order */
	size_t at;
	uint64_t extent;        /* clusters of the hole being punched */
	bool busy;
	bool waiting;           /* for pieces that may still use the batch */
	struct q2_slice *slice;
	struct q2_wait wait;
	struct loop_op op;
};

void q2_unlink(struct qcow2 *q, uint64_t cluster);
/* Of data, as an L2 entry has it; refused where that is metadata. */
void q2_unlink_entry(struct qcow2 *q, uint64_t entry);
/* Never linked, or known to be unlinked on disk. */
void q2_give_back(struct qcow2 *q, uint64_t cluster, uint64_t count);
void q2_free_kick(struct qcow2 *q);
bool q2_free_pending(const struct qcow2 *q); /* there will be more free clusters */
void q2_free_finish(struct qcow2 *q);
