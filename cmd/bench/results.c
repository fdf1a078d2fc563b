/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/bench/report.h"
#include "util/log.h"
#include "util/util.h"

static void *grow(void *list, size_t *room, size_t count, size_t size)
{
	if (count < *room)
		return list;
	*room = MAX(2 * *room, 64);
	list = reallocarray(list, *room, size);
	if (list)
		return list;
	log_error("out of memory");
	exit(1);
}

struct bench_result *bench_result(struct bench_results *results, const char *name,
				  enum bench_unit unit)
{
	for (size_t i = 0; i < results->count; i++)
		if (strcmp(results->list[i].name, name) == 0)
			return &results->list[i];
	results->list = grow(results->list, &results->room, results->count,
			     sizeof(*results->list));
	results->list[results->count] = (struct bench_result){.name = name, .unit = unit};
	return &results->list[results->count++];
}

void bench_sample(struct bench_result *result, double value)
{
	result->samples = grow(result->samples, &result->room, result->count,
			       sizeof(*result->samples));
	result->samples[result->count++] = value;
}

void bench_results_free(struct bench_results *results)
{
	for (size_t i = 0; i < results->count; i++)
		free(results->list[i].samples);
	free(results->list);
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* `part` of the samples are below it. */
static double quantile(const struct bench_result *result, double part)
{
	double at = part * (double)(result->count - 1);
	size_t below = (size_t)at;
	double lower = result->samples[below];

	if (below + 1 == result->count)
		return lower;
	return lower + (at - (double)below) * (result->samples[below + 1] - lower);
}

struct bench_summary bench_summarize(struct bench_result *result)
{
	if (!result->count)
		return (struct bench_summary){0};
	qsort(result->samples, result->count, sizeof(*result->samples), by_value);
	return (struct bench_summary){quantile(result, 0.1), quantile(result, 0.5),
				      quantile(result, 0.9)};
}

const char *bench_unit_text(enum bench_unit unit)
{
	switch (unit) {
	case BENCH_NS:
		return "ns";
	case BENCH_US:
		return "us";
	case BENCH_MS:
		return "ms";
	case BENCH_KIB:
		return "KiB";
	case BENCH_RATE:
		return "/s";
	case BENCH_GIB_S:
		return "GiB/s";
	}
	return "";
}

bool bench_more_is_better(enum bench_unit unit)
{
	return unit == BENCH_RATE || unit == BENCH_GIB_S;
}
