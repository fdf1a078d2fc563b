/* SPDX-License-Identifier: MIT */
/* For the block layer's formats: what a block device is inside. */
#pragma once

#include "block/block.h"
#include "util/log.h"

struct bio;
struct loop;
struct snapshot;

/* Mandatory unless it says otherwise. */
struct blk_ops {
	/* Range and mode were checked. Completes by blk_req.done, never inside. */
	void (*submit)(struct blk *blk, struct blk_req *req);
	/* Nothing in flight, the loop does not run: write back, sync. 0 or -errno; logs. */
	int (*flush_and_free)(struct blk *blk);
	/* Optional: blk_map, for a range that was checked and is not empty. */
	int (*map)(struct blk *blk, uint64_t offset, uint64_t len, struct blk_extent *out);
};

/* Base of every format's own struct. */
struct blk {
	const struct blk_ops *ops;
	struct blk_info info;
	struct bio *bio; /* the file; ours */
	char *name;      /* for messages */
	struct snapshot *snapshot; /* of an overlay that was made for it, or NULL */
	struct log_limit limit;
};

/*
 * The formats' constructors take over `bio` where they succeed. `blk->name` is the base's to
 * copy. 0 or -errno; log.
 */
int blk_init(struct blk *blk, const struct blk_ops *ops, struct bio *bio, const char *name);
void blk_finish(struct blk *blk);

/* One request, synchronously: as blk_read_sync, in whole sectors. 0 or -errno. */
int blk_request_sync(struct blk *blk, enum blk_op op, void *buf, uint64_t len, uint64_t offset);

int raw_create(struct bio *bio, const char *name, bool readonly, struct blk **out);

/* What the first bytes of a file look like, or NULL. `len` >= 512 or the whole file. */
const char *probe_format(const unsigned char *head, size_t len);
#define PROBE_BYTES 512

/*
 * Image locks that QEMU's tools and other minivmms respect, held by `fd` until unlock_image.
 * 0, or -EAGAIN where another holds what is in the way; logs.
 */
int lock_image(int fd, const char *name, bool readonly);
/* Whether somebody else holds the locks of a writer, or of anyone; takes none. */
bool is_locked(int fd, bool by_writer);
/*
 * Before the last close of the disk: io_uring lets go of its registered files only some time
 * after the ring has gone, even after the process has.
 */
void unlock_image(int fd);
