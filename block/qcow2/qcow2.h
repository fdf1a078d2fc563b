/* SPDX-License-Identifier: MIT */
/* The qcow2 format, to the rest of the block layer and to tests. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct bio;
struct blk;
struct loop;

struct qcow2_options {
	const char *name;    /* for messages */
	bool readonly;
	struct loop *loop;   /* for the timer that commits metadata now and then, or NULL */
	uint32_t cache_bytes; /* of metadata; 0: what covers the disk, at most 32 MiB */
	/*
	 * Open the backing file that the image names, readonly; `format` is "" where the image does
	 * not say. 0, and NULL in `*out` to do without, or -errno; logs. NULL: an image with one
	 * is refused.
	 */
	int (*open_backing)(void *arg, const char *file, const char *format, struct blk **out);
	/*
	 * Open the external data file, `file` or "" as the image names it, for reading or as the
	 * image is; NULL: an image with one is refused. `out` is NULL where the image has none.
	 */
	int (*open_data)(void *arg, const char *file, struct blk **out);
	void *arg; /* of both */
};

/*
 * Everything that `overlay`, a qcow2 disk, has itself is written to what lies below it, which is
 * writable and as large, and flushed there. Synchronously, where blk_close may be called. 0 or
 * -errno. The overlay stays as it is; doing it again does no harm.
 */
int qcow2_merge(struct blk *overlay);

/* The image in `bio`, which is the image's where this succeeds. 0 or -errno; logs. */
int qcow2_create(struct bio *bio, const struct qcow2_options *opts, struct blk **out);
