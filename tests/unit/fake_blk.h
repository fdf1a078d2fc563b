/* SPDX-License-Identifier: MIT */
/*
 * For tests of virtio-blk: a disk in RAM behind block.h that completes requests when it is told
 * to, and aborts where one is not what block.h promises. Stands in for block/; include it in
 * one file of the program.
 */
#pragma once

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "block/block.h"
#include "util/util.h"
#include "vmm/mem.h"

#define FAKE_BLK_PENDING 1024
#define FAKE_BLK_LOG 64

struct blk {
	struct blk_info info;
	uint8_t *disk;
	const struct mem *mem; /* buffers must lie in it */
	struct blk_req *pending[FAKE_BLK_PENDING];
	unsigned int pending_count;
	int error;          /* what requests end with, if not 0 */
	enum blk_op error_op; /* and which */
	/* what was submitted, the first FAKE_BLK_LOG of it */
	struct {
		enum blk_op op;
		uint64_t offset, len;
		bool unmap;
	} log[FAKE_BLK_LOG];
	unsigned int log_count;
};

static inline void fake_blk_init(struct blk *blk, const struct mem *mem, uint64_t size_bytes)
{
	*blk = (struct blk){
		.info = {
			.size_bytes = size_bytes,
			.block_bytes = 4096,
			.cluster_bytes = 65536,
			.can_discard = true,
			.can_write_zeroes = true,
			.format = "fake",
		},
		.disk = calloc(1, size_bytes),
		.mem = mem,
	};
}

static inline void fake_blk_finish(struct blk *blk)
{
	free(blk->disk);
}

const struct blk_info *blk_info(const struct blk *blk)
{
	return &blk->info;
}

static inline void fake_blk_demand(bool promised)
{
	if (!promised)
		abort();
}

static inline void fake_blk_check_iov(struct blk *blk, const struct blk_req *req)
{
	uint64_t sum = 0;

	for (unsigned int i = 0; i < req->iovcnt; i++) {
		const uint8_t *base = req->iov[i].iov_base;
		bool inside = false;

		for (unsigned int k = 0; k < blk->mem->count; k++) {
			const struct mem_region *region = &blk->mem->regions[k];

			inside |= base >= region->hva &&
				  range_fits((uint64_t)(base - region->hva), req->iov[i].iov_len,
					     region->len_bytes);
		}
		fake_blk_demand(inside && req->iov[i].iov_len);
		sum += req->iov[i].iov_len;
	}
	fake_blk_demand(sum == req->len_bytes);
}

void blk_submit(struct blk *blk, struct blk_req *req)
{
	if (req->op == BLK_READ || req->op == BLK_WRITE)
		fake_blk_check_iov(blk, req);
	if (req->op == BLK_FLUSH)
		fake_blk_demand(req->len_bytes == 0 && req->iovcnt == 0);
	else
		fake_blk_demand(req->len_bytes && range_fits(req->offset_bytes, req->len_bytes,
							    blk->info.size_bytes));
	fake_blk_demand(req->offset_bytes % 512 == 0 && req->len_bytes % 512 == 0);
	fake_blk_demand(!blk->info.readonly || req->op == BLK_READ || req->op == BLK_FLUSH);
	fake_blk_demand(blk->pending_count < FAKE_BLK_PENDING);
	for (unsigned int i = 0; i < blk->pending_count; i++)
		fake_blk_demand(blk->pending[i] != req);
	memset(&req->priv, 0xa5, sizeof(req->priv));
	blk->pending[blk->pending_count++] = req;
	if (blk->log_count == FAKE_BLK_LOG)
		return;
	blk->log[blk->log_count].op = req->op;
	blk->log[blk->log_count].offset = req->offset_bytes;
	blk->log[blk->log_count].len = req->len_bytes;
	blk->log[blk->log_count++].unmap = req->unmap;
}

static inline void fake_blk_perform(struct blk *blk, struct blk_req *req)
{
	uint8_t *at = blk->disk + req->offset_bytes;

	if (req->op == BLK_DISCARD || req->op == BLK_WRITE_ZEROES)
		memset(at, 0, req->len_bytes);
	if (req->op != BLK_READ && req->op != BLK_WRITE)
		return;
	for (unsigned int i = 0; i < req->iovcnt; i++) {
		const struct iovec *iov = &req->iov[i];

		if (req->op == BLK_READ)
			memcpy(iov->iov_base, at, iov->iov_len);
		else
			memcpy(at, iov->iov_base, iov->iov_len);
		at += iov->iov_len;
	}
}

/* Complete pending request `index`. */
static inline void fake_blk_complete(struct blk *blk, unsigned int index)
{
	struct blk_req *req = blk->pending[index];
	int err = blk->error && blk->error_op == req->op ? blk->error : 0;

	blk->pending[index] = blk->pending[--blk->pending_count];
	if (!err)
		fake_blk_perform(blk, req);
	req->done(req, err);
}

/* Complete what is pending, and what follows from that, until nothing is. */
static inline void fake_blk_complete_all(struct blk *blk)
{
	while (blk->pending_count)
		fake_blk_complete(blk, 0);
}
