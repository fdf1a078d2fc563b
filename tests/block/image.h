/* SPDX-License-Identifier: MIT */
/* For tests of damaged images: one that qemu-img made, and its bytes. */
#pragma once

#include "harness.h"

extern struct loop *image_loop;

/* The loop and the tools; false, and said so, where there are none. */
bool image_begin(void);
const char *image_path(void); /* its path */

/* Eight bytes of the image, and so many changed: big-endian. */
uint64_t image_get(uint64_t at);
void image_put(uint64_t at, unsigned int bytes, uint64_t value);

enum base {
	HEADER,
	L1,
	L2,       /* the first */
	REFTABLE,
	REFBLOCK, /* the first */
};

uint64_t image_base(enum base base);
/* 64 MiB; the first 256 KiB are fives. */
void image_make(const char *options);
int image_open(bool readonly, struct blk **out);
/* It does not open, and one line of the log has `says` in it. */
void image_refused(const char *what, bool readonly, const char *says);
/* It said so, and is marked as corrupt: for us and for QEMU. */
void image_marked(const char *says, const char *log);
