/* SPDX-License-Identifier: MIT */
/*
 * Block devices as the rest of minivmm sees them: a size, and asynchronous requests on iovecs.
 * Knows nothing of guests. Back ends: raw, qcow2, and what libqcow reads.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

struct blk;
struct loop;

enum blk_format {
	/* By the file's name: .qcow2 is qcow2, anything else raw. The content is never trusted
	 * to choose; where it contradicts the choice, blk_open refuses. */
	BLK_FORMAT_BY_NAME,
	BLK_FORMAT_RAW,
	BLK_FORMAT_QCOW2,
	BLK_FORMAT_QCOW, /* version 1; by libqcow, readonly */
};

/* What reads an image. AES-encrypted ones and QCOW are libqcow's in any case, readonly. */
enum blk_reader {
	BLK_READER_OWN,
	BLK_READER_LIBQCOW,
	/* Also what it is known to read wrong, and of what lies below nothing: to compare. */
	BLK_READER_LIBQCOW_ANYHOW,
};

/* What BLK_FORMAT_BY_NAME comes to. */
enum blk_format blk_format_by_name(const char *path);

enum blk_op {
	BLK_READ,
	BLK_WRITE,
	BLK_FLUSH,        /* data and metadata written before are on stable storage */
	BLK_DISCARD,      /* contents become undefined (here: zeroes or unchanged) */
	BLK_WRITE_ZEROES, /* contents become zeroes */
};

/* What is done about the files that a qcow2 image names: what lies below it, its data file. */
enum blk_backing {
	BLK_BACKING_OFF, /* the image is refused */
	BLK_BACKING_ON,  /* they are opened: regular files, what lies below readonly */
	BLK_BACKING_UNREAD, /* what lies below is not opened, and is no part of the disk */
};

/* Whether writes go to the disk, or to a temporary overlay of it. */
enum blk_snapshot {
	BLK_SNAPSHOT_OFF,
	BLK_SNAPSHOT_ON,     /* to one that is thrown away; the disk itself is opened readonly */
	BLK_SNAPSHOT_COMMIT, /* to one that blk_commit merges */
};

struct blk_options {
	const char *path;
	enum blk_format format;
	bool readonly;
	bool direct; /* O_DIRECT */
	enum blk_snapshot snapshot; /* not with readonly */
	enum blk_backing backing;
	const char *backing_dir; /* where all of the chain below must lie, or NULL: anywhere */
	const char *data_file;   /* of a qcow2 image that has one, or NULL: as it says, by `backing` */
	uint32_t cache_bytes; /* of each file's metadata; 0: what covers the disk, to a limit */
	enum blk_reader reader;
	const char *reader_program; /* NULL: minivmm-qcow where it is installed */
	const char *password_file; /* of an encrypted image, or NULL */
	bool has_password_fd;
	int password_fd; /* the same, to be read from here */
};

struct blk_info {
	uint64_t size_bytes; /* a multiple of 512 as the guest sees it */
	uint32_t block_bytes; /* best request granularity: 512 or 4096 */
	uint32_t cluster_bytes; /* allocation unit, or 0 */
	bool readonly;
	bool can_discard;
	bool can_write_zeroes;
	const char *format; /* "raw", "qcow2", "qcow" */
};

/* One request. Owned by the block layer from submit to `done`. */
struct blk_req {
	enum blk_op op;
	bool unmap;            /* WRITE_ZEROES: may give the space back */
	uint64_t offset_bytes; /* multiple of 512 */
	uint64_t len_bytes;    /* multiple of 512; sum of iov for READ and WRITE, 0 for FLUSH */
	const struct iovec *iov; /* valid until done; any alignment */
	unsigned int iovcnt;
	/* err: 0 or -errno (-EIO, -ENOSPC, -EROFS, -EINVAL out of range, -ENOTSUP). Runs exactly
	 * once, on the device's loop, never inside blk_submit. */
	void (*done)(struct blk_req *req, int err);

	/* Private to the block layer; room enough that the hot path allocates nothing. */
	union {
		uint64_t align;
		unsigned char bytes[192];
	} priv;
};

/*
 * Open `opts->path` on `loop`, take the image locks, and check all that can be checked.
 * Synchronous; before the loop runs or on its thread. 0 or -errno; logs.
 */
int blk_open(struct loop *loop, const struct blk_options *opts, struct blk **out);

/*
 * Before an image is made as `path` that names `name` as its backing file: the chain below it can
 * be opened, and `path`, if it is there already, is not in it. `*format` is what the image will
 * say; BY_NAME is replaced by what it comes to. 0, and the size of the disk below; or -errno; logs.
 */
int blk_check_below(struct loop *loop, const char *path, const char *name,
		    enum blk_format *format, uint64_t *size_bytes);

/*
 * With no request in flight and the loop not running. Writes back metadata and syncs. 0 or
 * -errno; logs. NULL is fine.
 */
int blk_close(struct blk *blk);

/*
 * What was written to the overlay of BLK_SNAPSHOT_COMMIT becomes the disk's; nothing to do for
 * other disks. When and where blk_close may be called, and before it. 0 or -errno, and then the
 * overlay stays as a file, of which the log tells.
 */
int blk_commit(struct blk *blk);

const struct blk_info *blk_info(const struct blk *blk);

/* On the device's loop. Ranges are checked here: what lies outside the device fails. */
void blk_submit(struct blk *blk, struct blk_req *req);

/* What lies behind a part of a disk. */
struct blk_extent {
	enum {
		BLK_EXTENT_ZERO,
		BLK_EXTENT_DATA,
		BLK_EXTENT_COMPRESSED,
	} kind;
	bool present;         /* some file of the chain says so; else nothing is there at all */
	unsigned int depth;   /* of that file in the chain; the disk's own is 0 */
	bool has_host;
	uint64_t host_bytes;  /* where it is in `file` */
	const char *file;     /* valid as long as the disk */
	uint64_t len_bytes;
};

/*
 * What is at `offset_bytes`, for at most `len_bytes`, inside the disk: synchronous, with nothing in
 * flight. What follows may be of the same kind. 0 or -errno, -ENOTSUP where it cannot be told.
 */
int blk_map(struct blk *blk, uint64_t offset_bytes, uint64_t len_bytes, struct blk_extent *out);

/*
 * Read synchronously, for boot code that looks into a disk before the machine runs: any
 * offset and length. 0 or -errno.
 */
int blk_read_sync(struct blk *blk, void *buf, uint64_t len_bytes, uint64_t offset_bytes);
