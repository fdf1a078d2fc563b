/* SPDX-License-Identifier: MIT */
/* Disks whose writes go to a temporary overlay, to open.c and blk.c. */
#pragma once

#include "block/block.h"

struct snapshot;

/* blk_open, of a disk with opts->snapshot. */
int snapshot_open(struct loop *loop, const struct blk_options *opts, struct blk **out);
/* After its blk was closed. NULL is fine. */
void snapshot_finish(struct snapshot *snapshot);
/* 0, or -EBUSY where an overlay that was not merged lies beside the image at `path`; logs. */
int snapshot_check_left(const char *path);
