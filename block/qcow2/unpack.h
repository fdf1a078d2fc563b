/* SPDX-License-Identifier: MIT */
/* Compressed clusters of a qcow2 image, unpacked, and kept for a while. */
#pragma once

#include <stdint.h>
#include <sys/queue.h>

#include "block/qcow2/wait.h"

struct q2_unpacked; /* one cluster */
struct qcow2;

#define Q2_UNPACK_BUCKETS 256

struct q2_unpack {
	LIST_HEAD(, q2_unpacked) buckets[Q2_UNPACK_BUCKETS];
	TAILQ_HEAD(q2_unpack_lru, q2_unpacked) lru; /* the last one goes first */
	unsigned int count, max;
	unsigned int unused; /* of `count`: nobody had them yet */
	uint64_t last; /* guest cluster that was read */
};

/* Where a compressed cluster is in the file. */
struct q2_packed {
	uint64_t host; /* bytes, any alignment */
	uint32_t len;  /* up to this: its end is known by unpacking alone */
};

struct q2_packed q2_packed_at(const struct qcow2 *q, uint64_t entry);

void q2_unpack_init(struct qcow2 *q);
void q2_unpack_finish(struct qcow2 *q);
/*
 * The cluster behind the L2 entry of guest cluster `guest`; valid until the caller returns to
 * the loop. 0, Q2_PARKED or -errno; logs.
 */
int q2_unpack_get(struct qcow2 *q, uint64_t guest, uint64_t entry, struct q2_wait *wait,
		  const unsigned char **data);
/* A read of `count` clusters from `guest` on begins: unpack what is next, all at once. */
void q2_unpack_ahead(struct qcow2 *q, uint64_t guest, uint64_t count);
