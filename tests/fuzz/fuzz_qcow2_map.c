/* SPDX-License-Identifier: MIT */
/*
 * A qcow2 image from anywhere is mapped and read: clusters in it, zero, compressed, and of a
 * backing file.
 * The input is flags, a number of reads, those (6 bytes each), and the image.
 */
#include <stdlib.h>
#include <string.h>

#include "qcow2_file.h"

#define READ_MAX 32u
#define READ_BYTES KIB(32)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static struct read {
	struct blk_req req;
	struct iovec iov[2];
	unsigned int answers;
	unsigned char buf[READ_BYTES];
} reads[READ_MAX];

static void answered(struct blk_req *req, int err)
{
	CONTAINER_OF(req, struct read, req)->answers++;
}

/* 24 bits of offset in sectors of a quarter of the disk (the top two), length, where it is cut. */
static void submit(struct blk *blk, struct read *r, const uint8_t *script)
{
	uint64_t offset = (uint64_t)(script[0] | script[1] << 8 | (script[2] & 0x3f) << 16) * 512;
	uint64_t len = (1 + script[3] % 64) * 512u, cut = (script[4] | script[5] << 8) % len;

	offset += align_down(blk_info(blk)->size_bytes / 4 * (script[2] >> 6), 512);
	r->answers = 0;
	r->iov[0] = (struct iovec){r->buf, cut};
	r->iov[1] = (struct iovec){r->buf + cut, len - cut};
	r->req = (struct blk_req){.op = BLK_READ, .offset_bytes = offset, .len_bytes = len,
				  .iov = r->iov, .iovcnt = 2, .done = answered};
	blk_submit(blk, &r->req);
	if (r->answers)
		abort(); /* never inside */
}

/* The extents of what was read follow one another. */
static void map(struct blk *blk, const struct read *r)
{
	uint64_t at = r->req.offset_bytes, left = r->req.len_bytes;
	struct blk_extent extent;

	if (!range_fits(at, left, blk_info(blk)->size_bytes))
		return;
	while (left && blk_map(blk, at, left, &extent) == 0) {
		if (!extent.len_bytes || extent.len_bytes > left)
			abort();
		at += extent.len_bytes;
		left -= extent.len_bytes;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	unsigned int flags, count;
	struct blk *blk;

	if (len < 2)
		return 0;
	flags = data[0] | FUZZ_READONLY;
	count = data[1] % (READ_MAX + 1);
	if (len - 2 < 6 * count || len - 2 - 6 * count > FUZZ_FILE_MAX)
		return 0;
	fuzz_file_load(data + 2 + 6 * count, len - 2 - 6 * count, flags);
	if (fuzz_open(flags, &blk) < 0)
		return 0;
	for (unsigned int i = 0; i < count; i++) {
		submit(blk, &reads[i], data + 2 + 6 * (size_t)i);
		if (flags & FUZZ_WAIT)
			fuzz_run();
	}
	fuzz_run();
	for (unsigned int i = 0; i < count; i++) {
		if (reads[i].answers != 1)
			abort();
		map(blk, &reads[i]);
	}
	blk_close(blk);
	return 0;
}
