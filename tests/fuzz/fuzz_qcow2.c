/* SPDX-License-Identifier: MIT */
/*
 * A qcow2 image from anywhere: open it, read, write, discard, flush, close. The input is flags,
 * a number of requests, those, and the image; the file is memory that is not larger than FILE_MAX.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/bio.h"
#include "block/block.h"
#include "block/impl.h"
#include "block/qcow2.h"
#include "util/util.h"

#define FILE_MAX KIB(512)
#define REQ_MAX 24u
#define STEPS_MAX 200000u

enum flag {
	FLAG_READONLY = 1,
	FLAG_NO_PUNCH = 2,
	FLAG_NO_ALLOCATE = 4,
	FLAG_DEVICE = 8,
	FLAG_LAST_FIRST = 16, /* the order in which operations complete */
	FLAG_WAIT = 32,       /* one request at a time */
	FLAG_SMALL_CACHE = 64,
	FLAG_BACKING = 128,   /* what the image says lies below it is there */
};

struct pending {
	struct loop_op *op;
	int res;
};

static struct fuzz_file {
	struct bio bio;
	unsigned char bytes[FILE_MAX];
	uint64_t size;
	unsigned int flags;
	struct pending pending[4096];
	unsigned int count;
} file;

static void complete(struct loop_op *op, int64_t res)
{
	if (file.count == ARRAY_LEN(file.pending))
		abort();
	file.pending[file.count++] = (struct pending){op, (int)res};
}

static void fuzz_readv(struct bio *bio, struct loop_op *op, const struct iovec *iov,
		       unsigned int iovcnt, uint64_t offset)
{
	uint64_t done = 0;

	for (unsigned int i = 0; i < iovcnt && offset + done < file.size; i++) {
		uint64_t n = MIN(iov[i].iov_len, file.size - offset - done);

		memcpy(iov[i].iov_base, file.bytes + offset + done, n);
		done += n;
	}
	complete(op, (int64_t)done);
}

static void fuzz_writev(struct bio *bio, struct loop_op *op, const struct iovec *iov,
			unsigned int iovcnt, uint64_t offset)
{
	uint64_t done = 0;

	if (file.flags & FLAG_READONLY)
		abort();
	for (unsigned int i = 0; i < iovcnt && offset + done < FILE_MAX; i++) {
		uint64_t n = MIN(iov[i].iov_len, FILE_MAX - offset - done);

		memcpy(file.bytes + offset + done, iov[i].iov_base, n);
		done += n;
	}
	if (!done) {
		complete(op, -ENOSPC);
		return;
	}
	file.size = MAX(file.size, offset + done);
	complete(op, (int64_t)done);
}

static void fuzz_fdatasync(struct bio *bio, struct loop_op *op)
{
	complete(op, 0);
}

static int allocate(int mode, uint64_t offset, uint64_t len)
{
	if (file.flags & (mode ? FLAG_NO_PUNCH : FLAG_NO_ALLOCATE))
		return -EOPNOTSUPP;
	if (!range_fits(offset, len, FILE_MAX))
		return mode ? 0 : -ENOSPC;
	if (mode & ~FALLOC_FL_KEEP_SIZE)
		memset(file.bytes + offset, 0, len);
	else if (!mode)
		file.size = MAX(file.size, offset + len);
	return 0;
}

static void fuzz_fallocate(struct bio *bio, struct loop_op *op, int mode, uint64_t offset,
			   uint64_t len)
{
	complete(op, allocate(mode, offset, len));
}

static void fuzz_defer(struct bio *bio, struct loop_op *op)
{
	complete(op, 0);
}

static void fuzz_begin_sync(struct bio *bio)
{
	if (file.count)
		abort();
}

static void fuzz_run_sync(struct bio *bio)
{
	unsigned int steps = 0;

	while (file.count) {
		struct pending next;

		if (++steps > STEPS_MAX)
			abort(); /* it would not end */
		if (file.flags & FLAG_LAST_FIRST) {
			next = file.pending[--file.count];
		} else {
			next = file.pending[0];
			memmove(file.pending, file.pending + 1,
				--file.count * sizeof(file.pending[0]));
		}
		next.op->done(next.op, next.res);
	}
}

static int fuzz_truncate(struct bio *bio, uint64_t size_bytes)
{
	if (size_bytes < file.size)
		memset(file.bytes + size_bytes, 0, file.size - size_bytes);
	file.size = MIN(size_bytes, FILE_MAX);
	return 0;
}

static void fuzz_destroy(struct bio *bio)
{
}

static const struct bio_ops fuzz_ops = {
	.readv = fuzz_readv,
	.writev = fuzz_writev,
	.fdatasync = fuzz_fdatasync,
	.fallocate = fuzz_fallocate,
	.defer = fuzz_defer,
	.begin_sync = fuzz_begin_sync,
	.run_sync = fuzz_run_sync,
	.truncate = fuzz_truncate,
	.destroy = fuzz_destroy,
};

/* --- the backing file: all of it one byte --- */

static void below_done(struct loop_op *op, int res)
{
	struct blk_req *req = CONTAINER_OF((void *)op, struct blk_req, priv);

	req->done(req, 0);
}

static void below_submit(struct blk *blk, struct blk_req *req)
{
	struct loop_op *op = (struct loop_op *)&req->priv;

	for (unsigned int i = 0; i < req->iovcnt; i++)
		memset(req->iov[i].iov_base, 0xbb, req->iov[i].iov_len);
	op->done = below_done;
	complete(op, 0);
}

static int below_close(struct blk *blk)
{
	return 0;
}

static int open_below(void *arg, const char *name, const char *format, struct blk **out)
{
	static const struct blk_ops ops = {.submit = below_submit, .flush_and_free = below_close};
	static struct blk below;

	below = (struct blk){.ops = &ops, .bio = &file.bio,
			     .info = {.size_bytes = strlen(name) * KIB(7), .readonly = true}};
	below.info.size_bytes = align_up(MAX(below.info.size_bytes, 512), 512);
	*out = &below;
	return 0;
}

/* --- requests --- */

struct fuzz_req {
	struct blk_req req;
	struct iovec iov;
	unsigned char *buf;
	bool submitted;
	unsigned int answers;
};

static void answered(struct blk_req *req, int err)
{
	CONTAINER_OF(req, struct fuzz_req, req)->answers++;
}

/* 8 bytes: kind, 24 bits of offset in sectors (of a quarter of the disk: the top two), length. */
static void submit(struct blk *blk, struct fuzz_req *r, const uint8_t *script)
{
	uint64_t disk = blk_info(blk)->size_bytes, len = 512 + (script[4] | script[5] << 8) * 512u;
	uint64_t offset = (uint64_t)(script[1] | script[2] << 8 | (script[3] & 0x3f) << 16) * 512;

	offset += align_down(disk / 4 * (script[3] >> 6), 512);
	r->req = (struct blk_req){.op = script[0] % 5, .unmap = script[0] & 0x80,
				  .offset_bytes = offset, .done = answered};
	if (r->req.op == BLK_READ || r->req.op == BLK_WRITE) {
		len = MIN(len, KIB(64));
		r->buf = malloc(len);
		memset(r->buf, script[6], len);
		r->iov = (struct iovec){r->buf, len};
		r->req.iov = &r->iov;
		r->req.iovcnt = 1;
	}
	r->req.len_bytes = r->req.op == BLK_FLUSH ? 0 : len;
	r->submitted = true;
	blk_submit(blk, &r->req);
	if (r->answers)
		abort(); /* never inside */
}

static void run_script(struct blk *blk, const uint8_t *script, unsigned int count)
{
	struct fuzz_req reqs[REQ_MAX] = {0};

	for (unsigned int i = 0; i < count; i++) {
		submit(blk, &reqs[i], script + 8 * (size_t)i);
		if (file.flags & FLAG_WAIT || script[8 * i + 7] & 1)
			fuzz_run_sync(&file.bio);
	}
	fuzz_run_sync(&file.bio);
	for (unsigned int i = 0; i < count; i++) {
		if (reqs[i].answers != 1)
			abort();
		free(reqs[i].buf);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct qcow2_options opts = {.name = "fuzz"};
	const uint8_t *script = data + 2;
	unsigned int count;
	struct blk *blk;

	if (len < 2)
		return 0;
	count = data[1] % (REQ_MAX + 1);
	if (len - 2 < 8 * count || len - 2 - 8 * count > FILE_MAX)
		return 0;
	file.flags = data[0];
	file.size = len - 2 - 8 * count;
	memcpy(file.bytes, script + 8 * count, file.size);
	memset(file.bytes + file.size, 0, FILE_MAX - file.size);
	file.bio = (struct bio){.ops = &fuzz_ops, .io_align = 1, .mem_align = 1,
				.size_bytes = file.size,
				.is_device = file.flags & FLAG_DEVICE};
	opts.readonly = file.flags & FLAG_READONLY;
	opts.open_backing = file.flags & FLAG_BACKING ? open_below : NULL;
	opts.cache_bytes = file.flags & FLAG_SMALL_CACHE ? 1 : 0;
	if (qcow2_create(&file.bio, &opts, &blk) < 0)
		return 0;
	run_script(blk, script, count);
	blk_close(blk);
	return 0;
}
