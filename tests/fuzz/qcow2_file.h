/* SPDX-License-Identifier: MIT */
/*
 * For the targets that open qcow2 images: a file in memory that holds the fuzzer's input, and
 * what such an image may name. Operations complete when told to, in either order.
 */
#pragma once

#include <stdint.h>

#include "block/block.h"
#include "util/util.h"

#define FUZZ_FILE_MAX KIB(512)
#define FUZZ_BELOW_BYTE 0xbb /* all of the backing file */

enum fuzz_flag {
	FUZZ_READONLY = 1,
	FUZZ_NO_PUNCH = 2,
	FUZZ_NO_ALLOCATE = 4,
	FUZZ_DEVICE = 8,
	FUZZ_LAST_FIRST = 16, /* the order in which operations complete */
	FUZZ_WAIT = 32,       /* one request at a time */
	FUZZ_SMALL_CACHE = 64,
	FUZZ_BACKING = 128,   /* what the image says lies below it is there, and its data file */
};

/* The file becomes `bytes`; len <= FUZZ_FILE_MAX. */
void fuzz_file_load(const uint8_t *bytes, size_t len, unsigned int flags);
/* And from then on: what is there now. */
const uint8_t *fuzz_file_bytes(uint64_t *size);
uint64_t fuzz_below_bytes(void); /* of the backing file, if one was opened; else 0 */

/* The file itself, for what opens it otherwise; one use at a time. */
struct bio *fuzz_bio(unsigned int flags);
/* Open it, FUZZ_READONLY or not. 0 or -errno. */
int fuzz_open(unsigned int flags, struct blk **out);
/* Complete all operations, and what they lead to; abort where that would not end. */
void fuzz_run(void);
