/* SPDX-License-Identifier: MIT */
/* Opening disks: what open.c (the disk's own file) and open_below.c (others) share. */
#pragma once

#include <sys/types.h>

#include "block/block.h"

struct bio;

/* A file of the disk's chain, from the top down. */
struct open_layer {
	const struct open_layer *above;
	const struct blk_options *opts; /* the disk's */
	struct loop *loop;
	struct bio *first;              /* the disk's first file */
	const char *path;
	dev_t dev, data_dev;            /* of the file, and of its data file if it has one */
	ino_t ino, data_ino;
	bool has_data;
	unsigned int depth;
};

/* The file, of a type that can be a disk, and locked. 0 or -errno; logs. */
int open_file(const struct blk_options *opts, int *out);

/* --- open_below.c --- */

/* Note who the file is; 0, or -errno where it is in the chain already; logs. */
int open_identify(struct open_layer *layer, int fd);
/* The layer's format on its file, and all that this one needs. 0 or -errno; logs. */
int open_format(struct open_layer *layer, enum blk_format format, bool readonly, struct bio *bio,
		struct blk **out);
/* Logs that data-file= was given for nothing; -errno. */
int open_data_unused(const char *path);
