/* SPDX-License-Identifier: MIT */
/* Unpacking a kernel's payload on the host: gzip, lz4, zstd, xz, lzma. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* `out_len` bytes are expected, no more and no less. 0, -ENOTSUP: no format known here, -EINVAL:
 * damaged, or of another length, or -ENOMEM. Silent. */
int unpack(const void *in, size_t in_len, void *out, size_t out_len);

/* As quick as reading the same from a file, which lz4 is. `in`: at least 4 bytes. */
bool unpack_is_quick(const void *in);
