/* SPDX-License-Identifier: MIT */
/* The two compressions of qcow2 clusters: deflate without header (RFC 1951), zstd (RFC 8878). */
#pragma once

#include <stddef.h>

enum decompress_type {
	DECOMPRESS_DEFLATE = 0, /* as in the qcow2 header */
	DECOMPRESS_ZSTD = 1,
};

/*
 * `in` begins with a stream that fills `out`; what follows it is ignored. 0, -EIO where the
 * stream is damaged or makes less or more than `out_len` bytes, or -ENOMEM. Any thread.
 */
int decompress(enum decompress_type type, const void *in, size_t in_len, void *out,
	       size_t out_len);
