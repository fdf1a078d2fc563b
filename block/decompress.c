/* SPDX-License-Identifier: MIT */
#include "block/decompress.h"

#include <errno.h>
#include <libdeflate.h>
#include <zstd.h>

static int inflate(const void *in, size_t in_len, void *out, size_t out_len)
{
	struct libdeflate_decompressor *d = libdeflate_alloc_decompressor();
	enum libdeflate_result result;
	size_t in_used;

	if (!d)
		return -ENOMEM;
	/* Without a place for the length it must be `out_len`; with one for `in_used` it may be
	 * followed by anything. */
	result = libdeflate_deflate_decompress_ex(d, in, in_len, out, out_len, &in_used, NULL);
	libdeflate_free_decompressor(d);
	return result == LIBDEFLATE_SUCCESS ? 0 : -EIO;
}

/* Streaming, because a cluster's frame need not say its length. */
static int unzstd(const void *in, size_t in_len, void *out, size_t out_len)
{
	ZSTD_DStream *d = ZSTD_createDStream();
	ZSTD_inBuffer from = {in, in_len, 0};
	ZSTD_outBuffer to = {out, out_len, 0};
	size_t left = 1;

	if (!d)
		return -ENOMEM;
	while (left && !ZSTD_isError(left) && (from.pos < from.size || to.pos < to.size)) {
		size_t from_pos = from.pos, to_pos = to.pos;

		left = ZSTD_decompressStream(d, &to, &from);
		if (from.pos == from_pos && to.pos == to_pos)
			break; /* it needs more than there is */
	}
	ZSTD_freeDStream(d);
	return left == 0 && to.pos == to.size ? 0 : -EIO;
}

int decompress(enum decompress_type type, const void *in, size_t in_len, void *out,
	       size_t out_len)
{
	switch (type) {
	case DECOMPRESS_DEFLATE:
		return inflate(in, in_len, out, out_len);
	case DECOMPRESS_ZSTD:
		return unzstd(in, in_len, out, out_len);
	}
	return -EIO;
}
