/* SPDX-License-Identifier: MIT */
/* The qcow2 format, to the rest of the block layer and to tests. */
#pragma once

#include <stdbool.h>

struct bio;
struct blk;
struct loop;

/*
 * The image in `bio`, which is the image's where this succeeds. Without a `loop` there is no
 * timer that commits metadata now and then. 0 or -errno; logs as `name`.
 */
int qcow2_create(struct bio *bio, struct loop *loop, const char *name, bool readonly,
		 struct blk **out);
