/* SPDX-License-Identifier: MIT */
/*
 * Random requests, many in flight, against a model of what every sector may hold: after a power
 * cut, anything written since what the last flush covered; without one, the last thing written.
 */
#pragma once

#include "block/block.h"

#define WORK_SLOTS 16

/* The values a sector had, oldest first; 0 is zeroes. */
struct history {
	uint64_t *tags;    /* `few` as long as they do */
	uint64_t few[4];
	unsigned int count, capacity;
	unsigned int known; /* tags[known] was answered; later ones may or may not be there */
	unsigned int floor; /* and tags[floor] was flushed */
	bool busy;          /* a request that writes it is under way */
};

struct work;

struct slot {
	struct blk_req req;
	struct work *work;
	bool busy;
	unsigned char *buf;
	struct iovec iov[16];
	uint64_t tag;
	unsigned int *flushed; /* of a flush: `known` of all sectors when it was asked for */
};

struct work {
	struct blk *blk;
	uint64_t first;   /* sector that the work starts at */
	uint64_t sectors; /* and how many it goes over */
	uint64_t max_len; /* of a request, in sectors */
	struct history *history;
	struct slot slots[WORK_SLOTS];
	unsigned int in_flight;
	uint64_t next_tag;
	uint64_t seed;
	unsigned int discards; /* of 16 requests, and flushes */
	unsigned int flushes;
	bool may_fail;         /* requests fail: that is the test */
	bool idle_discards;    /* a discard may leave what was there */
	bool cut;              /* what is answered now does not count any more */
	unsigned long failed, wrong;
	void (*idle)(void *arg); /* called when nothing is in flight */
	void *arg;
};

struct work *work_create(struct blk *blk, uint64_t first, uint64_t sectors, uint64_t seed);
void work_destroy(struct work *work);
/* Start a random request, if there is room. */
void work_submit(struct work *work);
void work_flush(struct work *work);
/* So many times: fill the slots, then run the loop until all is answered. */
void work_run(struct work *work, struct loop *loop, int batches);
/* Closing said that all is on disk. */
void work_closed(struct work *work);
/* The first `count` sectors are `tag`, as filled by fill_tag, and the others 0. */
void work_assume(struct work *work, uint64_t tag, uint64_t count);
/* After a cut: what these sectors hold, which was compared, is what there is now. */
void work_rebase(struct work *work, const unsigned char *sectors);
/* What the model knows for sure, into a raw file: sparse, `first` sectors and all. */
void work_save(const struct work *work, const char *path, uint64_t file_bytes);
/* These hold only what the model allows: the number of sectors where they do not. */
unsigned long work_compare(const struct work *work, const unsigned char *sectors);
/* The same, of a raw file, `first` sectors and all. */
unsigned long work_compare_file(const struct work *work, const char *path);

void fill_tag(unsigned char *sector, uint64_t tag, uint64_t number);
