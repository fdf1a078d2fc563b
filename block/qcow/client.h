/* SPDX-License-Identifier: MIT */
/* Images that libqcow reads, in a process of its own (minivmm-qcow). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "block/block.h"
#include "block/qcow/proto.h"

struct bio;

struct qcow_options {
	const char *name;    /* for messages */
	struct loop *loop;
	int fd;              /* the image's, readable, not O_DIRECT; stays the bio's */
	const char *program; /* NULL: minivmm-qcow where it is installed */
	bool has_key;        /* a password was given */
	uint8_t key[QCOW_KEY_BYTES];
	bool compare;        /* see struct qcow_check */
};

/* The image in `bio`, read-only, which is the image's where this succeeds. 0 or -errno; logs. */
int qcow_client_create(struct bio *bio, const struct qcow_options *opts, struct blk **out);

/* All reads fail: its process is no more. `blk` is one of the above. */
bool qcow_client_died(const struct blk *blk);

/* --- as the user asks for it: open.c --- */

bool qcow_is_wanted(const struct blk_options *opts, enum blk_format format);
/* What does not go together. 0 or -EINVAL; logs. */
int qcow_check_options(const struct blk_options *opts, enum blk_format format);
/* Read the password, if any, and qcow_client_create. */
int qcow_open(struct loop *loop, const struct blk_options *opts, int fd, struct bio *bio,
	      struct blk **out);
