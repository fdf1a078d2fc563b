/* SPDX-License-Identifier: MIT */
/* Kernels that were unpacked before, kept in the user's cache directory. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct kernel_cache;

/* What is packed, and the room for what it unpacks to. */
struct kernel_bytes {
	uint8_t *packed; /* by mmap, as is the next; or NULL */
	size_t packed_len;
	uint8_t *bytes;
	size_t len;
};

void kernel_bytes_free(struct kernel_bytes *kernel);

/* NULL where there can be none: -v says why. Closing ends what is still being written. */
struct kernel_cache *kernel_cache_open(void);
void kernel_cache_close(struct kernel_cache *cache);

/*
 * Fill kernel->bytes with what kernel->packed unpacks to. 0, or -errno: unpack it; what is in
 * kernel->bytes then is of no use. -v says what is wrong with an entry. What is being written is
 * awaited. `cache` may be NULL.
 */
int kernel_cache_get(struct kernel_cache *cache, const struct kernel_bytes *kernel);
/* Keep it; written by a thread of the cache's own. Takes what `kernel` holds, in any case. */
void kernel_cache_put(struct kernel_cache *cache, struct kernel_bytes *kernel);
