/* SPDX-License-Identifier: MIT */
/* Small helpers that every layer uses. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define CONTAINER_OF(ptr, type, member) ((type *)((char *)(ptr) - offsetof(type, member)))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

#define KIB(n) ((uint64_t)(n) << 10)
#define MIB(n) ((uint64_t)(n) << 20)
#define GIB(n) ((uint64_t)(n) << 30)

/* `align` is a power of two. */
static inline uint64_t align_up(uint64_t value, uint64_t align)
{
	return (value + align - 1) & ~(align - 1);
}

static inline uint64_t align_down(uint64_t value, uint64_t align)
{
	return value & ~(align - 1);
}

/* True if [start, start + len) lies inside [0, limit), whatever the values. */
static inline bool range_fits(uint64_t start, uint64_t len, uint64_t limit)
{
	return len <= limit && start <= limit - len;
}

/*
 * Parse a size: digits and an optional K, M, G or T (powers of 1024, either case).
 * 0, or -EINVAL (not a size) or -ERANGE (does not fit).
 */
int parse_size(const char *text, uint64_t *out);

/* Parse a whole decimal number in [min, max]. 0, -EINVAL or -ERANGE. */
int parse_uint(const char *text, uint64_t min, uint64_t max, uint64_t *out);

bool ends_with(const char *text, const char *suffix);

/* How to get more file descriptors, to follow strerror(err); "" where that is no help. */
const char *fd_remedy(int err);

/* Of the clock that only goes forward. */
uint64_t monotonic_ns(void);

/* pread/pwrite all of `len` bytes. 0, -errno, or -ENODATA where the file ends before. */
int pread_full(int fd, void *buf, size_t len, uint64_t offset);
int pwrite_full(int fd, const void *buf, size_t len, uint64_t offset);
