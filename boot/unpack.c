/* SPDX-License-Identifier: MIT */
#include "boot/unpack.h"

#include <errno.h>
#include <libdeflate.h>
#include <lz4.h>
#include <lzma.h>
#include <stdint.h>
#include <string.h>
#include <zstd.h>

#include "util/util.h"

/*
 * What a decoder may use beside its output. Linux's xz and lzma want as much as their dictionary,
 * 32 MiB and in newer ones 128 MiB. Fuzzers are quicker with less.
 */
#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
#define DECODER_BYTES_MAX MIB(16)
#else
#define DECODER_BYTES_MAX MIB(160)
#endif

/* `lz4 -l`: a magic number, and then blocks of up to 8 MiB, each after its packed length. */
#define LZ4_BLOCK_MAX MIB(8)

static int unpack_gzip(const uint8_t *in, size_t in_len, uint8_t *out, size_t out_len)
{
	struct libdeflate_decompressor *decoder = libdeflate_alloc_decompressor();
	enum libdeflate_result result;
	size_t used, made;

	if (!decoder)
		return -ENOMEM;
	result = libdeflate_gzip_decompress_ex(decoder, in, in_len, out, out_len, &used, &made);
	libdeflate_free_decompressor(decoder);
	return result == LIBDEFLATE_SUCCESS && made == out_len ? 0 : -EINVAL;
}

static int unpack_lz4(const uint8_t *in, size_t in_len, uint8_t *out, size_t out_len)
{
	size_t pos = 4, made = 0;

	while (made < out_len) {
		uint32_t len;
		int n;

		if (!range_fits(pos, sizeof(len), in_len))
			return -EINVAL;
		memcpy(&len, in + pos, sizeof(len));
		pos += sizeof(len);
		if (len > INT32_MAX || !range_fits(pos, len, in_len))
			return -EINVAL;
		n = LZ4_decompress_safe((const char *)in + pos, (char *)out + made, (int)len,
					(int)MIN(out_len - made, LZ4_BLOCK_MAX));
		if (n <= 0)
			return -EINVAL;
		pos += len;
		made += (size_t)n;
	}
	return 0;
}

/* Streaming, because more than one frame, or something else, may follow. */
static int unpack_zstd(const uint8_t *in, size_t in_len, uint8_t *out, size_t out_len)
{
	size_t frame = ZSTD_findFrameCompressedSize(in, in_len), made;

	if (ZSTD_isError(frame))
		return -EINVAL;
	made = ZSTD_decompress(out, out_len, in, frame);
	return made == out_len ? 0 : -EINVAL;
}

static int unpack_lzma(lzma_ret ret, lzma_stream *stream, const uint8_t *in, size_t in_len,
		       uint8_t *out, size_t out_len)
{
	uint8_t more;

	stream->next_in = in;
	stream->avail_in = in_len;
	stream->next_out = out;
	stream->avail_out = out_len;
	if (ret == LZMA_OK)
		ret = lzma_code(stream, LZMA_RUN);
	if (ret == LZMA_OK && stream->avail_out == 0) {
		/* Full: only the end may follow. */
		stream->next_out = &more;
		stream->avail_out = 1;
		ret = lzma_code(stream, LZMA_RUN);
	}
	lzma_end(stream);
	if (ret == LZMA_MEM_ERROR || ret == LZMA_MEMLIMIT_ERROR)
		return -ENOMEM;
	return ret == LZMA_STREAM_END && stream->total_out == out_len ? 0 : -EINVAL;
}

bool unpack_is_quick(const void *in)
{
	return memcmp(in, "\x02\x21\x4C\x18", 4) == 0;
}

int unpack(const void *in, size_t in_len, void *out, size_t out_len)
{
	lzma_stream stream = LZMA_STREAM_INIT;
	const uint8_t *head = in;

	if (in_len < 13)
		return -ENOTSUP;
	if (memcmp(head, "\x1F\x8B\x08", 3) == 0)
		return unpack_gzip(in, in_len, out, out_len);
	if (unpack_is_quick(in))
		return unpack_lz4(in, in_len, out, out_len);
	if (memcmp(head, "\x28\xB5\x2F\xFD", 4) == 0)
		return unpack_zstd(in, in_len, out, out_len);
	if (memcmp(head, "\xFD" "7zXZ\0", 6) == 0)
		return unpack_lzma(lzma_stream_decoder(&stream, DECODER_BYTES_MAX, 0), &stream, in,
				   in_len, out, out_len);
	if (memcmp(head, "\x5D\0\0", 3) == 0)
		return unpack_lzma(lzma_alone_decoder(&stream, DECODER_BYTES_MAX), &stream, in,
				   in_len, out, out_len);
	return -ENOTSUP;
}
