/* SPDX-License-Identifier: MIT */
/* The kernel command line of those who gave none. */
#pragma once

#include <stdbool.h>

struct blk;

/*
 * A console, and root= worked out from `disk` (NULL: no root). *out is the caller's to free.
 * 0 or -errno; logs, also where the disk has no root to be seen (and that is 0).
 */
int cmdline_make(struct blk *disk, bool readonly, char **out);
