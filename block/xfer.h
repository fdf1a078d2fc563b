/* SPDX-License-Identifier: MIT */
/*
 * A whole transfer between memory and a file: short transfers are continued, memory that
 * O_DIRECT can not take goes through a bounce buffer, and what lies past the end reads as zero.
 */
#pragma once

#include "block/bio.h"

enum xfer_kind {
	XFER_READ,
	XFER_WRITE,
	XFER_ZERO, /* write zeroes, by writing them */
};

/* Lives in its owner until `done`. All but `done` is private. */
struct xfer {
	struct loop_op op;
	struct bio *bio;
	void (*done)(struct xfer *xfer, int err); /* 0 or -errno; may free or reuse the xfer */
	const struct iovec *iov; /* the cursor is at `part`, then at these */
	unsigned int iovcnt;
	enum xfer_kind kind;
	uint64_t offset;
	uint64_t left;
	struct iovec part;
	struct iovec one; /* what the bio got of bounce or zeroes */
	void *bounce;
};

/* `iov` holds `len` bytes and stays valid until done; `xfer->done` is set by the caller. */
void xfer_read(struct xfer *xfer, struct bio *bio, const struct iovec *iov, unsigned int iovcnt,
	       uint64_t len, uint64_t offset);
void xfer_write(struct xfer *xfer, struct bio *bio, const struct iovec *iov, unsigned int iovcnt,
		uint64_t len, uint64_t offset);
void xfer_zero(struct xfer *xfer, struct bio *bio, uint64_t len, uint64_t offset);
/* One buffer. */
void xfer_read_buf(struct xfer *xfer, struct bio *bio, void *buf, uint64_t len, uint64_t offset);
void xfer_write_buf(struct xfer *xfer, struct bio *bio, const void *buf, uint64_t len,
		    uint64_t offset);

/* Synchronously, with nothing in flight: 0 or -errno. `buf` as aligned as the bio asks. */
int bio_read_sync(struct bio *bio, void *buf, uint64_t len, uint64_t offset);
int bio_write_sync(struct bio *bio, const void *buf, uint64_t len, uint64_t offset);
int bio_flush_sync(struct bio *bio);

/* ZERO_BLOCK_BYTES zeroes, aligned to a page. */
#define ZERO_BLOCK_BYTES 65536u
void *zero_block(void);
