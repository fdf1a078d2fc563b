/* SPDX-License-Identifier: MIT */
/* The qcow2 engine, to its own files. Its theory of operation is in qcow2.c. */
#pragma once

#include <endian.h>
#include <sys/queue.h>

#include "block/impl.h"
#include "block/qcow2/alloc.h"
#include "block/qcow2/cache.h"
#include "block/qcow2/commit.h"
#include "block/qcow2/format.h"
#include "block/qcow2/req.h"
#include "block/qcow2/unpack.h"

struct q2_l2_new;
struct qcow2_options;

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
	struct q2_unpack unpack;
	struct q2_meta meta;
	struct blk *data;        /* the external data file, or NULL */
	struct bio *data_bio;    /* where guest data is: that file's, or the image's */
	uint64_t allocated;      /* bits of an L2 entry of which one says: there is a cluster */
	bool data_raw;           /* the data file alone is the disk */
	struct blk *backing;     /* what is not in here, or NULL */
	uint64_t backing_bytes;  /* how far that goes; 0: there is none */
	struct q2_run run, next_run;
	struct q2_prep prep;
	struct q2_waitq run_wait;
	uint64_t run_bytes;      /* length of the next run, grows with use */
	uint64_t scan;           /* free clusters are looked for from here */
	uint64_t file_clusters;  /* what lies behind was never used */
	uint64_t solid_clusters; /* so long is the file for sure */
	bool wrote_past_end;     /* the file may be longer than we think */
	bool can_punch, can_zero_range, can_fallocate;
	struct q2_freeing freeing;
	struct q2_commit commit;
	struct q2_waitq flushes; /* of the next commit */

	unsigned int live[2];    /* pieces by parity */
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

/* Data of guest clusters from `guest` on can be at `host`: of an external file, at their place. */
static inline bool q2_data_valid(const struct qcow2 *q, uint64_t guest, uint64_t host,
				 uint64_t len)
{
	return q->data ? host == guest << q->cluster_bits : q2_host_valid(q, host, len);
}

bool q2_packed_valid(const struct qcow2 *q, uint64_t entry);
bool q2_data_entry_valid(const struct qcow2 *q, uint64_t guest, uint64_t entry);

/* What the L2 entry of `guest` points to can be there. */
static inline bool q2_entry_valid(const struct qcow2 *q, uint64_t guest, uint64_t entry)
{
	if (q->data)
		return q2_data_entry_valid(q, guest, entry);
	if (entry & QCOW2_COMPRESSED)
		return q2_packed_valid(q, entry);
	return !(entry & QCOW2_OFFSET) || q2_host_valid(q, entry & QCOW2_OFFSET, q->cluster_bytes);
}

/* Guest cluster `guest` is at least in part below, if it is not in here. */
static inline bool q2_is_backed(const struct qcow2 *q, uint64_t guest)
{
	return guest << q->cluster_bits < q->backing_bytes;
}

/* --- an external data file: data.c --- */

int q2_data_open(struct qcow2 *q, const struct qcow2_options *opts);
/* Of a raw one: the entries of clusters `at` on, about to be written to, are on disk. */
int q2_data_map(struct qcow2 *q, uint64_t guest, uint64_t clusters, struct q2_slice *slice,
		struct q2_wait *wait);
int q2_data_zero_step(struct q2_req *r); /* of a raw one */

int q2_load(struct qcow2 *q, bool readonly); /* load.c: tables, all checks */
/* Autoclear features (bitmaps) are not kept up to date: to be said before the first write. */
int q2_clear_autoclear(struct qcow2 *q);
void q2_set_reach(struct qcow2 *q);
/* Nothing can be promised any more. */
void q2_fail(struct qcow2 *q, const char *what, int err);
/* The image contradicts itself: mark it, refuse writes. Returns -EIO. */
int q2_corrupt(struct qcow2 *q, const char *what, uint64_t where);
bool q2_unsupported(int err);
