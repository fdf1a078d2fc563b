/* SPDX-License-Identifier: MIT */
/*
 * Each thread keeps its decoders. Zstandard's is large enough for malloc to hand its pages back
 * each time, and a process that has a guest pays for unmapping what it pays for nowhere else.
 */
#include "block/decompress.h"

#include <errno.h>
#include <libdeflate.h>
#include <pthread.h>
#include <stdlib.h>
#include <zstd.h>

struct decoders {
	struct libdeflate_decompressor *deflate; /* NULL: not needed yet */
	ZSTD_DStream *zstd;
};

static pthread_key_t key;
static pthread_once_t key_once = PTHREAD_ONCE_INIT;
static int key_err;

static void decoders_free(void *arg)
{
	struct decoders *decoders = arg;

	libdeflate_free_decompressor(decoders->deflate);
	ZSTD_freeDStream(decoders->zstd);
	free(decoders);
}

static void make_key(void)
{
	key_err = pthread_key_create(&key, decoders_free);
}

/* This thread's, or NULL. */
static struct decoders *decoders_get(void)
{
	struct decoders *decoders;

	pthread_once(&key_once, make_key);
	if (key_err)
		return NULL;
	decoders = pthread_getspecific(key);
	if (decoders)
		return decoders;
	decoders = calloc(1, sizeof(*decoders));
	if (decoders && pthread_setspecific(key, decoders) == 0)
		return decoders;
	free(decoders);
	return NULL;
}

static int inflate(struct decoders *decoders, const void *in, size_t in_len, void *out,
		   size_t out_len)
{
	size_t in_used;

	if (!decoders->deflate)
		decoders->deflate = libdeflate_alloc_decompressor();
	if (!decoders->deflate)
		return -ENOMEM;
	/* Without a place for the length it must be `out_len`; with one for `in_used` it may be
	 * followed by anything. */
	return libdeflate_deflate_decompress_ex(decoders->deflate, in, in_len, out, out_len,
						&in_used, NULL) == LIBDEFLATE_SUCCESS ? 0 : -EIO;
}

/* Streaming, because a cluster's frame need not say its length. */
static int unzstd(struct decoders *decoders, const void *in, size_t in_len, void *out,
		  size_t out_len)
{
	ZSTD_inBuffer from = {in, in_len, 0};
	ZSTD_outBuffer to = {out, out_len, 0};
	size_t left = 1;

	if (!decoders->zstd)
		decoders->zstd = ZSTD_createDStream();
	if (!decoders->zstd)
		return -ENOMEM;
	ZSTD_DCtx_reset(decoders->zstd, ZSTD_reset_session_only);
	while (left && !ZSTD_isError(left) && (from.pos < from.size || to.pos < to.size)) {
		size_t from_pos = from.pos, to_pos = to.pos;

		left = ZSTD_decompressStream(decoders->zstd, &to, &from);
		if (from.pos == from_pos && to.pos == to_pos)
			break; /* it needs more than there is */
	}
	return left == 0 && to.pos == to.size ? 0 : -EIO;
}

int decompress(enum decompress_type type, const void *in, size_t in_len, void *out,
	       size_t out_len)
{
	struct decoders *decoders = decoders_get();

	if (!decoders)
		return -ENOMEM;
	switch (type) {
	case DECOMPRESS_DEFLATE:
		return inflate(decoders, in, in_len, out, out_len);
	case DECOMPRESS_ZSTD:
		return unzstd(decoders, in, in_len, out, out_len);
	}
	return -EIO;
}
