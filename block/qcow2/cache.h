/* SPDX-License-Identifier: MIT */
/* Cached metadata of a qcow2 image, and which clusters hold metadata. */
#pragma once

#include "block/qcow2/wait.h"
#include "block/xfer.h"

struct qcow2;

enum q2_kind {
	Q2_L2,
	Q2_REFCOUNT,
	Q2_KINDS,
};

/* 4 KiB (or a whole table of smaller clusters) of an L2 table or a refcount block. */
struct q2_slice {
	struct qcow2 *q;
	enum q2_kind kind;
	uint32_t index;  /* in the order of guest offsets, or of host clusters */
	unsigned int pins; /* users across waits: not to be evicted */
	bool loaded;
	bool dirty;      /* differs from the disk and is not in a running commit */
	bool frozen;     /* in a running commit */
	bool referenced; /* since the clock's hand passed */
	struct q2_slice *next_dirty;
	struct q2_waitq waiters; /* for it to be loaded */
	struct xfer xfer;
	union { /* big-endian, as on disk */
		void *data;
		uint64_t *l2;
		uint16_t *refcounts;
	};
};

struct q2_cache {
	struct q2_slice **maps[Q2_KINDS]; /* by index; NULL is absent */
	uint64_t map_len[Q2_KINDS];
	struct q2_slice **slices;         /* all there are, for the clock */
	uint32_t count, capacity, hand;
	struct q2_slice *dirty[Q2_KINDS]; /* lists */
	uint32_t dirty_count[Q2_KINDS];
	struct q2_waitq room; /* for a slice that can be evicted, fewer dirty ones, a q2_cow */
	struct loop_op room_op;
	bool room_due;
};

int q2_cache_init(struct qcow2 *q, uint32_t bytes); /* 0: the default */
void q2_cache_finish(struct qcow2 *q);
/* The slice, loaded; valid until the caller returns to the loop, longer if pinned. */
int q2_slice_get(struct qcow2 *q, enum q2_kind kind, uint64_t index, struct q2_wait *wait,
		 struct q2_slice **out);
void q2_slice_dirty(struct qcow2 *q, struct q2_slice *slice);
void q2_slice_pin(struct q2_slice *slice);
void q2_slice_unpin(struct q2_slice *slice);
void q2_cache_room(struct qcow2 *q); /* there may be room: wake who waits, later */
uint64_t q2_slice_host(const struct qcow2 *q, const struct q2_slice *slice);
/* Too much is dirty: park until a commit is done. */
int q2_dirty_room(struct qcow2 *q, struct q2_wait *wait);

/* --- which clusters hold metadata: meta.c --- */

struct q2_meta {
	uint8_t **pages; /* a bit per host cluster */
	uint64_t page_count, pages_used;
};

/* 0, -ENOMEM, or -EFBIG: that would be too much memory for one image. */
int q2_meta_set(struct qcow2 *q, uint64_t cluster, uint64_t count);
void q2_meta_clear(struct qcow2 *q, uint64_t cluster);
bool q2_meta_any(const struct qcow2 *q, uint64_t cluster, uint64_t count);
void q2_meta_finish(struct qcow2 *q);
