/* SPDX-License-Identifier: MIT */
#include "util/histogram.h"

uint64_t histogram_floor(unsigned int bucket)
{
	return bucket ? 1ull << (bucket - 1) : 0;
}

uint64_t histogram_count(const struct histogram *histogram)
{
	uint64_t count = 0;

	for (unsigned int i = 0; i < HISTOGRAM_BUCKETS; i++)
		count += counter_get(&histogram->buckets[i]);
	return count;
}

uint64_t histogram_mean(const struct histogram *histogram)
{
	uint64_t count = histogram_count(histogram);

	return count ? counter_get(&histogram->sum) / count : 0;
}

/* The `rank`th of the `count` in a bucket. */
static uint64_t inside(unsigned int bucket, double rank, uint64_t count)
{
	uint64_t low = histogram_floor(bucket);
	uint64_t width = bucket ? low : 0; /* up to the next power of two */

	return low + (uint64_t)((double)width * rank / (double)count);
}

uint64_t histogram_percentile(const struct histogram *histogram, unsigned int percent)
{
	double rank = (double)histogram_count(histogram) * percent / 100;

	for (unsigned int i = 0; i < HISTOGRAM_BUCKETS; i++) {
		uint64_t count = counter_get(&histogram->buckets[i]);

		if (count && rank <= (double)count)
			return inside(i, rank, count);
		rank -= (double)count;
	}
	return 0;
}
