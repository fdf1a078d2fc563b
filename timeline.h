/* SPDX-License-Identifier: MIT */
/*
 * `--timeline`: when what happened from exec to the end, without touching the guest. Those it
 * happens to note it (util/moment.h); here it is put in order and shown.
 */
#pragma once

#include <stdint.h>
#include <stdio.h>

struct timeline_event {
	char what[48];
	uint64_t ns; /* of monotonic_ns */
};

struct timeline {
	struct timeline_event *events;
	unsigned int count, capacity;
};

/* At `ns`, or not at all where that is 0 or memory is short. */
void timeline_add(struct timeline *timeline, uint64_t ns, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* By time; of two at once the first added comes first. */
void timeline_sort(struct timeline *timeline);
void timeline_clear(struct timeline *timeline);

/* One that is sorted: times are shown from `zero_ns` on. */
void timeline_print(const struct timeline *timeline, uint64_t zero_ns, FILE *to);
/* One JSON object on a line. */
void timeline_print_json(const struct timeline *timeline, uint64_t zero_ns, FILE *to);
/* A picture, of which a browser needs nothing else. */
void timeline_print_svg(const struct timeline *timeline, uint64_t zero_ns, FILE *to);
