/* SPDX-License-Identifier: MIT */
/* Merging an overlay into what lies below it; nothing else goes on meanwhile. */
#include <errno.h>
#include <stdlib.h>

#include "block/qcow2/impl.h"
#include "block/qcow2/qcow2.h"
#include "util/util.h"

#define COPY_BYTES MIB(2)
#define ZERO_BYTES GIB(1)

static int copy(struct qcow2 *q, void *buf, uint64_t offset, uint64_t len)
{
	int r = 0;

	while (len && !r) {
		uint64_t n = MIN(len, COPY_BYTES);

		r = blk_request_sync(&q->blk, BLK_READ, buf, n, offset);
		if (!r)
			r = blk_request_sync(q->backing, BLK_WRITE, buf, n, offset);
		offset += n;
		len -= n;
	}
	return r;
}

static int zero(struct qcow2 *q, uint64_t offset, uint64_t len)
{
	int r = 0;

	while (len && !r) {
		uint64_t n = MIN(len, ZERO_BYTES);

		r = blk_request_sync(q->backing, BLK_WRITE_ZEROES, NULL, n, offset);
		offset += n;
		len -= n;
	}
	return r;
}

static int merge_all(struct qcow2 *q, void *buf)
{
	uint64_t offset = 0, size = q->blk.info.size_bytes;
	struct q2_extent extent;
	int r = 0;

	for (; offset < size && !r; offset += extent.len) {
		r = q2_map_now(q, offset, size - offset, &extent);
		if (!r && extent.kind == Q2_EXTENT_ZERO)
			r = zero(q, offset, extent.len);
		else if (!r && extent.kind != Q2_EXTENT_BACKING)
			r = copy(q, buf, offset, extent.len);
	}
	return r ? r : blk_request_sync(q->backing, BLK_FLUSH, NULL, 0, 0);
}

int qcow2_merge(struct blk *overlay)
{
	struct qcow2 *q = CONTAINER_OF(overlay, struct qcow2, blk);
	void *buf = aligned_alloc(4096, COPY_BYTES);
	int r = buf ? merge_all(q, buf) : -ENOMEM;

	free(buf);
	return r;
}
