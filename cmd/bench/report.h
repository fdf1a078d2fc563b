/* SPDX-License-Identifier: MIT */
/* What was measured, for people and for programs. */
#pragma once

#include <jansson.h>

#include "cmd/bench/bench.h"
#include "cmd/bench/lint.h"

struct bench_summary {
	double low, median, high; /* of the samples a tenth is below, half, and nine tenths */
};

/* Sorts the samples. */
struct bench_summary bench_summarize(struct bench_result *result);
const char *bench_unit_text(enum bench_unit unit);
bool bench_more_is_better(enum bench_unit unit);

void bench_print(struct bench_results *results);
/* With what it was measured on. 0 or -errno; logs. */
int bench_write_json(const char *path, const struct bench_options *opts, const struct lint *lint,
		     struct bench_results *results);
/* Two such files side by side. 0 or -errno; logs. */
int bench_compare(const char *before, const char *after);
