/* SPDX-License-Identifier: MIT */
#include "qcow2_file.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "block/bio.h"
#include "block/impl.h"
#include "block/qcow2/qcow2.h"

#define PENDING_MAX 4096u
#define STEPS_MAX 200000u
#define TABLE_BYTES_MAX KIB(256)

struct pending {
	struct loop_op *op;
	int res;
};

static struct fuzz_file {
	struct bio bio;
	unsigned char bytes[FUZZ_FILE_MAX];
	uint64_t size, high; /* `high`: all behind is zero */
	unsigned int flags;
	struct pending pending[PENDING_MAX];
	unsigned int first, end;
	uint64_t below_size;
} file;

static void complete(struct loop_op *op, int64_t res)
{
	if (file.end == PENDING_MAX) {
		memmove(file.pending, file.pending + file.first,
			(file.end - file.first) * sizeof(file.pending[0]));
		file.end -= file.first;
		file.first = 0;
	}
	if (file.end == PENDING_MAX)
		abort();
	file.pending[file.end++] = (struct pending){op, (int)res};
}

/* --- the file --- */

static void file_readv(struct bio *bio, struct loop_op *op, const struct iovec *iov,
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

static void file_writev(struct bio *bio, struct loop_op *op, const struct iovec *iov,
			unsigned int iovcnt, uint64_t offset)
{
	uint64_t done = 0;

	if (file.flags & FUZZ_READONLY)
		abort();
	for (unsigned int i = 0; i < iovcnt && offset + done < FUZZ_FILE_MAX; i++) {
		uint64_t n = MIN(iov[i].iov_len, FUZZ_FILE_MAX - offset - done);

		memcpy(file.bytes + offset + done, iov[i].iov_base, n);
		done += n;
	}
	if (!done) {
		complete(op, -ENOSPC);
		return;
	}
	file.size = MAX(file.size, offset + done);
	file.high = MAX(file.high, offset + done);
	complete(op, (int64_t)done);
}

static void file_fdatasync(struct bio *bio, struct loop_op *op)
{
	complete(op, 0);
}

static void zero(uint64_t offset, uint64_t len)
{
	if (offset < file.high)
		memset(file.bytes + offset, 0, MIN(len, file.high - offset));
}

static int allocate(int mode, uint64_t offset, uint64_t len)
{
	if (file.flags & (mode ? FUZZ_NO_PUNCH : FUZZ_NO_ALLOCATE))
		return -EOPNOTSUPP;
	if (!range_fits(offset, len, FUZZ_FILE_MAX))
		return mode ? 0 : -ENOSPC;
	if (mode & ~FALLOC_FL_KEEP_SIZE)
		zero(offset, len);
	else if (!mode)
		file.size = MAX(file.size, offset + len);
	return 0;
}

static void file_fallocate(struct bio *bio, struct loop_op *op, int mode, uint64_t offset,
			   uint64_t len)
{
	complete(op, allocate(mode, offset, len));
}

static void file_defer(struct bio *bio, struct loop_op *op)
{
	complete(op, 0);
}

static void file_begin_sync(struct bio *bio)
{
	if (file.first != file.end)
		abort();
}

static void file_run_sync(struct bio *bio)
{
	fuzz_run();
}

static int file_truncate(struct bio *bio, uint64_t size_bytes)
{
	zero(size_bytes, FUZZ_FILE_MAX);
	file.size = MIN(size_bytes, FUZZ_FILE_MAX);
	return 0;
}

static void file_destroy(struct bio *bio)
{
}

static const struct bio_ops file_ops = {
	.readv = file_readv,
	.writev = file_writev,
	.fdatasync = file_fdatasync,
	.fallocate = file_fallocate,
	.defer = file_defer,
	.begin_sync = file_begin_sync,
	.run_sync = file_run_sync,
	.truncate = file_truncate,
	.destroy = file_destroy,
};

void fuzz_run(void)
{
	for (unsigned int steps = 0; file.first != file.end; steps++) {
		struct pending next = file.flags & FUZZ_LAST_FIRST ? file.pending[--file.end]
								   : file.pending[file.first++];

		if (steps > STEPS_MAX)
			abort(); /* it would not end */
		next.op->done(next.op, next.res);
	}
	file.first = 0;
	file.end = 0;
}

/* --- the backing file --- */

static void below_done(struct loop_op *op, int res)
{
	struct blk_req *req = CONTAINER_OF((void *)op, struct blk_req, priv);

	req->done(req, 0);
}

static void below_submit(struct blk *blk, struct blk_req *req)
{
	struct loop_op *op = (struct loop_op *)&req->priv;

	if (!range_fits(req->offset_bytes, req->len_bytes, file.below_size))
		abort();
	for (unsigned int i = 0; i < req->iovcnt; i++)
		memset(req->iov[i].iov_base, FUZZ_BELOW_BYTE, req->iov[i].iov_len);
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

	file.below_size = align_up(MAX(strlen(name) * KIB(7), 512), 512);
	below = (struct blk){.ops = &ops, .bio = &file.bio,
			     .info = {.size_bytes = file.below_size, .readonly = true}};
	*out = &below;
	return 0;
}

uint64_t fuzz_below_bytes(void)
{
	return file.below_size;
}

/* --- the data file: it swallows what is written, and is all one byte --- */

static uint64_t bytes_of(const struct iovec *iov, unsigned int iovcnt)
{
	uint64_t len = 0;

	while (iovcnt--)
		len += iov++->iov_len;
	return len;
}

static void data_readv(struct bio *bio, struct loop_op *op, const struct iovec *iov,
		       unsigned int iovcnt, uint64_t offset)
{
	for (unsigned int i = 0; i < iovcnt; i++)
		memset(iov[i].iov_base, 0xdd, iov[i].iov_len);
	complete(op, (int64_t)bytes_of(iov, iovcnt));
}

static void data_writev(struct bio *bio, struct loop_op *op, const struct iovec *iov,
			unsigned int iovcnt, uint64_t offset)
{
	if (file.flags & FUZZ_READONLY)
		abort();
	complete(op, (int64_t)bytes_of(iov, iovcnt));
}

static void data_fallocate(struct bio *bio, struct loop_op *op, int mode, uint64_t offset,
			   uint64_t len)
{
	complete(op, file.flags & FUZZ_NO_PUNCH ? -EOPNOTSUPP : 0);
}

static const struct bio_ops data_ops = {
	.readv = data_readv,
	.writev = data_writev,
	.fdatasync = file_fdatasync,
	.fallocate = data_fallocate,
	.defer = file_defer,
	.begin_sync = file_begin_sync,
	.run_sync = file_run_sync,
	.truncate = file_truncate,
	.destroy = file_destroy,
};

static int open_data(void *arg, const char *name, struct blk **out)
{
	static struct bio bio;

	bio = (struct bio){.ops = &data_ops, .io_align = 1, .mem_align = 1,
			   .size_bytes = 1ull << (strlen(name) % 48),
			   .is_device = file.flags & FUZZ_DEVICE};
	return out ? raw_create(&bio, name, file.flags & FUZZ_READONLY, out) : 0;
}

/* --- for targets --- */

void fuzz_file_load(const uint8_t *bytes, size_t len, unsigned int flags)
{
	memcpy(file.bytes, bytes, len);
	if (len < file.high)
		memset(file.bytes + len, 0, file.high - len);
	file.size = len;
	file.high = len;
	file.flags = flags;
}

const uint8_t *fuzz_file_bytes(uint64_t *size)
{
	*size = file.size;
	return file.bytes;
}

struct bio *fuzz_bio(unsigned int flags)
{
	file.bio = (struct bio){.ops = &file_ops, .io_align = 1, .mem_align = 1,
				.size_bytes = file.size, .is_device = flags & FUZZ_DEVICE};
	return &file.bio;
}

static uint64_t header_field(size_t at)
{
	uint32_t value;

	memcpy(&value, file.bytes + at, sizeof(value));
	return be32toh(value);
}

/* Their limits are tested elsewhere: a table of 32 MiB takes the time of a thousand images. */
static bool tables_are_long(void)
{
	uint64_t l1_entries = header_field(36), reftable_clusters = header_field(56);

	return l1_entries > TABLE_BYTES_MAX / 8 ||
	       reftable_clusters << MIN(header_field(20), 21) > TABLE_BYTES_MAX;
}

int fuzz_open(unsigned int flags, struct blk **out)
{
	struct qcow2_options opts = {
		.name = "fuzz",
		.readonly = flags & FUZZ_READONLY,
		.cache_bytes = flags & FUZZ_SMALL_CACHE ? 1 : 0,
		.open_backing = flags & FUZZ_BACKING ? open_below : NULL,
		.open_data = flags & FUZZ_BACKING ? open_data : NULL,
	};

	file.flags = flags;
	file.below_size = 0;
	if (tables_are_long())
		return -E2BIG;
	return qcow2_create(fuzz_bio(flags), &opts, out);
}
