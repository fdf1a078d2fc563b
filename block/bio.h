/* SPDX-License-Identifier: MIT */
/*
 * The file under a disk image: asynchronous operations with completions that never run inside
 * the call that asked for them. The real one sits on a struct loop (bio_file.c); tests put a
 * simulator that cuts the power or fails operations in its place.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "util/loop.h"

struct bio;

/* Mandatory unless it says otherwise. Transfers may be short; `op->done` gets bytes or 0, or -errno. */
struct bio_ops {
	void (*readv)(struct bio *bio, struct loop_op *op, const struct iovec *iov,
		      unsigned int iovcnt, uint64_t offset);
	void (*writev)(struct bio *bio, struct loop_op *op, const struct iovec *iov,
		       unsigned int iovcnt, uint64_t offset);
	void (*fdatasync)(struct bio *bio, struct loop_op *op); /* for bio_flush */
	/* `mode` as fallocate(2) */
	void (*fallocate)(struct bio *bio, struct loop_op *op, int mode, uint64_t offset,
			  uint64_t len);
	/* done(op, 0) later, outside of the caller */
	void (*defer)(struct bio *bio, struct loop_op *op);
	/*
	 * Synchronous mode, for opening, closing and boot code, with nothing in flight: between
	 * begin_sync and run_sync operations are carried out at once, and run_sync runs their
	 * completions, and what these ask for, until nothing is left. The files of one disk are
	 * in it together.
	 */
	void (*begin_sync)(struct bio *bio);
	void (*run_sync)(struct bio *bio);
	/* Synchronous: set the size of a regular file. 0 or -errno. */
	int (*truncate)(struct bio *bio, uint64_t size_bytes);
	/*
	 * Optional, synchronous: whether `offset` is in a hole, which reads as zeroes; `*len` is
	 * shortened to where that changes.
	 */
	bool (*is_hole)(struct bio *bio, uint64_t offset, uint64_t *len);
	void (*destroy)(struct bio *bio);
};

/* Private to bio.c, but for `err`. */
struct bio_flushing {
	struct loop_op op;
	struct loop_op *running, *waiting; /* who shares the sync under way, and the next */
	int err; /* of the first that failed, for good: what was lost is unknown */
};

struct bio_sync; /* bio_file.c */

struct bio {
	const struct bio_ops *ops;
	struct bio_sync *sync; /* NULL: there is no loop that could be held up */
	struct bio_flushing flushing;
	uint64_t size_bytes;   /* when opened */
	uint32_t io_align;     /* lengths and offsets: 1, or 512 under O_DIRECT */
	uint32_t mem_align;    /* addresses: 1, or what O_DIRECT needs */
	bool is_device;        /* a block device: fixed size */
	bool temporary;        /* nobody wants it after a crash: bio_flush does nothing */
};

/*
 * The file `fd`, which the bio closes in the end, on `loop`. `first`: the first file of the same
 * disk, or NULL; once that is destroyed nothing may be asked of this one. 0 or -errno; logs as
 * `name`.
 */
int bio_file_create(struct loop *loop, int fd, const char *name, bool direct, struct bio *first,
		    struct bio **out);
/* Nothing may be left for later: in synchronous mode, or where there is no loop. */
bool bio_is_sync(const struct bio *bio);

/*
 * What was written before is on stable storage: op->done(op, 0 or -errno), later. One fdatasync
 * at a time, because the kernel tells of a lost page once per open file: of two at a time one
 * would hear that all is well. Who asks while one runs shares the next. An error is for good.
 */
void bio_flush(struct bio *bio, struct loop_op *op);

/* Accepts NULL. */
static inline void bio_destroy(struct bio *bio)
{
	if (bio)
		bio->ops->destroy(bio);
}
