/* SPDX-License-Identifier: MIT */
/*
 * How often a number was how large, by powers of two. One thread adds; others may read
 * meanwhile, and see each bucket whole.
 */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#include "util/counter.h"

/* Bucket 0 is for 0, bucket i for [2^(i-1), 2^i), and the last for all that is larger. */
#define HISTOGRAM_BUCKETS 48

struct histogram {
	_Atomic uint64_t sum;
	_Atomic uint64_t buckets[HISTOGRAM_BUCKETS];
};

static inline void histogram_add(struct histogram *histogram, uint64_t value)
{
	unsigned int bucket = value ? 64 - (unsigned int)__builtin_clzll(value) : 0;

	if (bucket >= HISTOGRAM_BUCKETS)
		bucket = HISTOGRAM_BUCKETS - 1;
	counter_add(&histogram->buckets[bucket], 1);
	counter_add(&histogram->sum, value);
}

uint64_t histogram_count(const struct histogram *histogram);
/* 0 where nothing was added. */
uint64_t histogram_mean(const struct histogram *histogram);
/* What `percent` of all are not above, as if a bucket's were spread evenly; 0 of nothing. */
uint64_t histogram_percentile(const struct histogram *histogram, unsigned int percent);
/* The smallest number of a bucket. */
uint64_t histogram_floor(unsigned int bucket);
