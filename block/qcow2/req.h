/* SPDX-License-Identifier: MIT */
/* Requests on a qcow2 image, and the pieces they are cut into. */
#pragma once

#include <sys/queue.h>

#include "block/block.h"
#include "block/qcow2/wait.h"
#include "block/xfer.h"

struct q2_slice;
struct qcow2;

/* In blk_req.priv */
struct q2_req {
	struct q2_wait wait;
	struct qcow2 *q;
	struct loop_op op;      /* to finish outside of blk_submit */
	uint64_t pos;           /* what lies before is done or in pieces */
	unsigned int iov_index; /* `pos` in the iovec */
	size_t iov_skip;
	unsigned int pieces;    /* in flight, and one while the request is being run */
	int err;
	bool submitting;
	bool stalled; /* goes on when a piece is done */
};

enum q2_piece_kind {
	Q2_PIECE_IO,    /* read or write in place */
	Q2_PIECE_ALLOC, /* write into clusters that L2 will point to afterwards */
	Q2_PIECE_PUNCH,
};

/* A part of a request that goes to one place in the file. */
struct q2_piece {
	struct q2_req *r;
	unsigned int parity;        /* which grace period it belongs to */
	enum q2_piece_kind kind;
	struct xfer xfer;
	struct loop_op op;
	LIST_ENTRY(q2_piece) entry; /* of those that own guest clusters */
	bool locked;
	uint64_t guest, count;      /* clusters owned: nobody else changes their mapping */
	struct q2_waitq waiters;
	struct q2_slice *slice;     /* their L2 entries, pinned */
	uint64_t host;              /* where they will be */
	bool taken;                 /* newly allocated */
	uint64_t data_offset, data_len; /* of the write, once its filling was read */
	struct q2_cow *cow;
	struct blk_req below;       /* to the backing file */
	struct iovec *iov;
	unsigned int iovcnt, iov_capacity;
	struct q2_piece *next;      /* free list */
};

struct q2_cow {
	struct q2_cow *next;
	struct iovec iov;    /* of `data`, or part of it */
	unsigned char *data; /* a cluster */
};

struct q2_extent {
	enum {
		Q2_EXTENT_ZERO,
		Q2_EXTENT_DATA,
		Q2_EXTENT_COMPRESSED,
		Q2_EXTENT_BACKING, /* as the backing file has it, which goes that far */
	} kind;
	uint64_t host;
	uint64_t entry; /* of the first cluster, in L2 */
	uint64_t len;
};

/* What `len` bytes at guest `offset` are; shortened to what is of one kind and in a row. */
int q2_map(struct qcow2 *q, uint64_t offset, uint64_t len, struct q2_wait *wait,
	   struct q2_extent *out);
/* blk_ops.map */
int q2_map_sync(struct blk *blk, uint64_t offset, uint64_t len, struct blk_extent *out);
/* The same, synchronously: what has to be read for it is read. */
int q2_map_now(struct qcow2 *q, uint64_t offset, uint64_t len, struct q2_extent *out);
/* The L2 table of guest cluster `guest` exists and is ours alone. */
int q2_l2_ensure(struct qcow2 *q, uint64_t guest, struct q2_wait *wait);

void q2_submit(struct blk *blk, struct blk_req *req);
struct blk_req *q2_blk_req(struct q2_req *r);
/* One step of a request: some of it is done or in flight. */
int q2_write_step(struct q2_req *r, uint64_t len); /* of the next `len` bytes */
int q2_zero_step(struct q2_req *r);
void q2_req_run(struct q2_req *r); /* go on, as far as it gets */
void q2_req_finish(struct q2_req *r, int err);

struct q2_piece *q2_piece_get(struct q2_req *r, enum q2_piece_kind kind);
void q2_piece_put(struct q2_piece *piece, int err);
void q2_piece_end(struct q2_piece *piece, int err); /* of one that may own clusters */
int q2_piece_gather(struct q2_piece *piece, uint64_t len);
int q2_piece_add(struct q2_piece *piece, void *base, size_t len);
/* As the backing file has it; piece->below.done is set by the caller. */
void q2_read_backing(struct q2_piece *piece, uint64_t offset, uint64_t len,
		     const struct iovec *iov, unsigned int iovcnt);
void q2_piece_lock(struct q2_piece *piece, uint64_t guest, uint64_t count,
		   struct q2_slice *slice);
/* How many of the clusters from `guest` on nobody owns; parks where it is none. */
int q2_unowned(struct qcow2 *q, uint64_t guest, uint64_t *count, struct q2_wait *wait);
void q2_req_advance(struct q2_req *r, uint64_t len);

/* Memory for a cluster; few are handed out at a time. 0, Q2_PARKED or -errno. */
int q2_cow_get(struct qcow2 *q, struct q2_wait *wait, struct q2_cow **out);
void q2_cow_put(struct qcow2 *q, struct q2_cow *cow); /* NULL is fine */
