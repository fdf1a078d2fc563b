/* SPDX-License-Identifier: MIT */
/*
 * A number for each cluster of a file, most of them small and many zero: how often it is referred
 * to. Memory is taken for the parts that are used, a byte per cluster while that is enough.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define REFMAP_PAGE 1024u /* clusters */
#define REFMAP_MAX (1ull << 40)

struct refmap_node;

/* All zeroes is an empty map. Two maps may share a budget. */
struct refmap {
	struct refmap_node **nodes;
	uint64_t node_count;
	uint64_t end;     /* one past the highest cluster that was set */
	uint64_t *budget; /* bytes that may still be taken */
};

/* For clusters below `clusters`, at most REFMAP_MAX. 0 or -ENOMEM. */
int refmap_init(struct refmap *map, uint64_t clusters, uint64_t *budget);
void refmap_finish(struct refmap *map);

uint64_t refmap_get(const struct refmap *map, uint64_t cluster);
/* 0, or -ENOMEM where memory or the budget is used up, or -ERANGE past the end. */
int refmap_set(struct refmap *map, uint64_t cluster, uint64_t value);
/* The first cluster from `cluster` on whose number may not be 0, or `end`. */
uint64_t refmap_next(const struct refmap *map, uint64_t cluster, uint64_t end);
