/* SPDX-License-Identifier: MIT */
/* What the files of the qcow2 engine share. Its theory of operation is in qcow2.c. */
#pragma once

#include <endian.h>
#include <sys/queue.h>

#include "block/impl.h"
#include "block/qcow2_format.h"
#include "block/xfer.h"

struct qcow2;

/* Functions that may have to wait return 0, -errno, or this: the caller's `wait` is woken. */
#define Q2_PARKED 1

struct q2_wait {
	struct q2_wait *next;
	/* err: what was waited for failed; otherwise ask again */
	void (*wake)(struct q2_wait *wait, int err);
};

struct q2_waitq {
	struct q2_wait *first;
	struct q2_wait **last;
};

void q2_waitq_init(struct q2_waitq *queue);
void q2_waitq_add(struct q2_waitq *queue, struct q2_wait *wait);
void q2_waitq_move(struct q2_waitq *to, struct q2_waitq *from); /* `to` held none */
void q2_waitq_wake(struct q2_waitq *queue, int err); /* all; they may queue up again */

/* --- cached metadata: qcow2_cache.c --- */

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

int q2_cache_init(struct qcow2 *q);
void q2_cache_finish(struct qcow2 *q);
/* The slice, loaded; valid until the caller returns to the loop, longer if pinned. */
int q2_slice_get(struct qcow2 *q, enum q2_kind kind, uint64_t index, struct q2_wait *wait,
		 struct q2_slice **out);
void q2_slice_dirty(struct qcow2 *q, struct q2_slice *slice);
void q2_slice_pin(struct q2_slice *slice);
void q2_slice_unpin(struct q2_slice *slice);
void q2_cache_room(struct qcow2 *q); /* there may be room: wake who waits, later */
uint64_t q2_slice_host(const struct qcow2 *q, const struct q2_slice *slice);
/* Let refcounts of `clusters` host clusters be cached. 0 or -ENOMEM. */
int q2_cache_grow(struct qcow2 *q, uint64_t clusters);
/* Too much is dirty: park until a commit is done. */
int q2_dirty_room(struct qcow2 *q, struct q2_wait *wait);

/* --- which clusters hold metadata: qcow2_meta.c --- */

struct q2_meta {
	uint8_t **pages; /* a bit per host cluster */
	uint64_t page_count;
};

int q2_meta_set(struct qcow2 *q, uint64_t cluster, uint64_t count);
void q2_meta_clear(struct qcow2 *q, uint64_t cluster);
bool q2_meta_any(const struct qcow2 *q, uint64_t cluster, uint64_t count);
void q2_meta_finish(struct qcow2 *q);

/* --- allocation: qcow2_alloc.c, qcow2_refblock.c --- */

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
void q2_prep_refblock(struct qcow2 *q);
uint64_t q2_refblock_of(const struct qcow2 *q, uint64_t cluster);
bool q2_has_refblock(const struct qcow2 *q, uint64_t cluster);

/* --- giving up clusters: qcow2_free.c --- */

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
	bool waiting;           /* for requests that may still use the batch */
	struct q2_slice *slice;
	struct q2_wait wait;
	struct loop_op op;
};

void q2_unlink(struct qcow2 *q, uint64_t cluster);
void q2_unlink_data(struct qcow2 *q, uint64_t host); /* refused where that is metadata */
/* Never linked, or known to be unlinked on disk. */
void q2_give_back(struct qcow2 *q, uint64_t cluster, uint64_t count);
void q2_free_kick(struct qcow2 *q);
void q2_free_finish(struct qcow2 *q);

/* --- commit: qcow2_commit.c --- */

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
	struct loop_op op;
};

/* Write metadata back and sync, now or as soon as the running commit is done. */
void q2_commit_kick(struct qcow2 *q);
void q2_commit_finish(struct qcow2 *q);
bool q2_is_dirty(const struct qcow2 *q);

/* --- requests: qcow2_io.c, qcow2_write.c, qcow2_zero.c, qcow2_l2.c --- */

/* In blk_req.priv */
struct q2_req {
	struct q2_wait wait;
	struct qcow2 *q;
	struct loop_op op;      /* to finish outside of blk_submit */
	uint64_t pos;           /* what lies before is done or in pieces */
	unsigned int iov_index; /* `pos` in the iovec */
	size_t iov_skip;
	unsigned int pieces;    /* in flight, and one while the request is being run */
	unsigned int parity;    /* which grace period it belongs to */
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
	struct iovec *iov;
	unsigned int iovcnt, iov_capacity;
	struct q2_piece *next;      /* free list */
};

struct q2_cow {
	struct q2_cow *next;
	unsigned char *data; /* a cluster */
};

struct q2_l2_new;

struct q2_extent {
	enum { Q2_EXTENT_ZERO, Q2_EXTENT_DATA, Q2_EXTENT_COMPRESSED } kind;
	uint64_t host;
	uint64_t len;
};

/* What `len` bytes at guest `offset` are; shortened to what is of one kind and in a row. */
int q2_map(struct qcow2 *q, uint64_t offset, uint64_t len, struct q2_wait *wait,
	   struct q2_extent *out);
/* The L2 table of guest cluster `guest` exists and is ours alone. */
int q2_l2_ensure(struct qcow2 *q, uint64_t guest, struct q2_wait *wait);

void q2_submit(struct blk *blk, struct blk_req *req);
struct blk_req *q2_blk_req(struct q2_req *r);
/* One step of a request: some of it is done or in flight. */
int q2_write_step(struct q2_req *r, uint64_t len); /* of the next `len` bytes */
int q2_zero_step(struct q2_req *r);
void q2_req_finish(struct q2_req *r, int err);
int q2_compressed(struct qcow2 *q); /* -EIO; logs once */

struct q2_piece *q2_piece_get(struct q2_req *r, enum q2_piece_kind kind);
void q2_piece_put(struct q2_piece *piece, int err);
void q2_piece_end(struct q2_piece *piece, int err); /* of one that may own clusters */
int q2_piece_gather(struct q2_piece *piece, uint64_t len);
int q2_piece_add(struct q2_piece *piece, void *base, size_t len);
void q2_piece_lock(struct q2_piece *piece, uint64_t guest, uint64_t count,
		   struct q2_slice *slice);
/* How many of the clusters from `guest` on nobody owns; parks where it is none. */
int q2_unowned(struct qcow2 *q, uint64_t guest, uint64_t *count, struct q2_wait *wait);
void q2_req_advance(struct q2_req *r, uint64_t len);

/* --- the engine --- */

struct qcow2 {
	struct blk blk;
	struct loop *loop;
	struct loop_watch *timer;
	struct q2_header header;
	unsigned char *sector; /* the file's first, to write header fields */

	uint32_t cluster_bits;
	uint64_t cluster_bytes;
	uint32_t l2_bits;        /* log2 of entries per table */
	uint32_t slice_bytes;
	uint32_t slice_bits;     /* log2 of L2 entries per slice */
	uint32_t rc_slice_bits;  /* log2 of refcounts per slice */
	uint32_t refblock_bits;  /* log2 of refcounts per block */
	uint64_t reach;          /* bytes of the file that refcounts can describe */

	uint64_t *l1;            /* big-endian */
	uint8_t *l1_dirty;       /* a bit per 512 bytes */
	unsigned int l1_dirty_count;
	uint64_t *reftable;      /* big-endian */
	uint64_t reftable_entries;

	struct q2_cache cache;
	struct q2_meta meta;
	struct q2_run run, next_run;
	struct q2_prep prep;
	struct q2_waitq run_wait;
	uint64_t run_bytes;      /* length of the next run, grows with use */
	uint64_t scan;           /* free clusters are looked for from here */
	uint64_t file_clusters;
	bool wrote_past_end;     /* the file may be longer than we think */
	bool can_punch, can_zero_range, can_fallocate;
	struct q2_freeing freeing;
	struct q2_commit commit;
	struct q2_waitq flushes; /* of the next commit */

	unsigned int live[2];    /* requests by parity */
	unsigned int parity;
	LIST_HEAD(, q2_piece) owned;
	struct q2_piece *free_pieces;
	LIST_HEAD(, q2_l2_new) new_l2;
	struct q2_cow *free_cows;
	unsigned int cows;

	int failed;              /* sticky: no more writes or flushes */
	bool corrupt;
	bool marking;            /* the corrupt bit is being written */
	struct xfer mark_xfer;
	struct loop_op mark_op;
	bool told_compressed;
	struct log_limit log_read;
};

static inline uint64_t q2_l1_entry(const struct qcow2 *q, uint64_t index)
{
	return be64toh(q->l1[index]);
}

void q2_l1_set(struct qcow2 *q, uint64_t index, uint64_t entry);

/* A data or table cluster can be there. */
static inline bool q2_host_valid(const struct qcow2 *q, uint64_t host, uint64_t len)
{
	return host && !(host & (q->cluster_bytes - 1)) && host <= q->reach &&
	       len <= q->reach - host;
}

int q2_load(struct qcow2 *q, bool readonly); /* qcow2_load.c: tables, all checks */
void q2_set_reach(struct qcow2 *q);
/* Nothing can be promised any more. */
void q2_fail(struct qcow2 *q, const char *what, int err);
/* The image contradicts itself: mark it, refuse writes. Returns -EIO. */
int q2_corrupt(struct qcow2 *q, const char *what, uint64_t where);
bool q2_unsupported(int err);
