/* SPDX-License-Identifier: MIT */
/* Making empty qcow2 images. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define QCOW2_CLUSTER_BITS_DEFAULT 16u

struct qcow2_make_options {
	const char *name;           /* for messages */
	uint64_t size_bytes;        /* of the disk: a multiple of 512, not 0 */
	unsigned int cluster_bits;  /* 9 to 21, or 0: the default */
	unsigned int version;       /* 2, 3, or 0: 3 */
	const char *backing;        /* what the image says lies below it, or NULL */
	const char *backing_format; /* "raw" or "qcow2", with a backing file */
	bool temporary;             /* nobody will look at it after a crash: no syncs */
};

/*
 * Make the empty regular file `fd`, open for writing, an image. Its header comes last, so that
 * half an image is none. 0 or -errno, when the file is in an undefined state; logs.
 */
int qcow2_make(int fd, const struct qcow2_make_options *opts);
