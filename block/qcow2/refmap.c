/* SPDX-License-Identifier: MIT */
#include "block/qcow2/refmap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "util/util.h"

#define NODE_PAGES 1024u
#define NODE_CLUSTERS ((uint64_t)NODE_PAGES * REFMAP_PAGE)

struct page {
	bool wide;
	uint64_t numbers[]; /* or bytes, as long as they do */
};

#define NARROW_BYTES (sizeof(struct page) + REFMAP_PAGE)
#define WIDE_BYTES (sizeof(struct page) + REFMAP_PAGE * sizeof(uint64_t))

struct refmap_node {
	struct page *pages[NODE_PAGES];
};

static void *take(struct refmap *map, size_t bytes)
{
	void *memory;

	if (*map->budget < bytes)
		return NULL;
	memory = calloc(1, bytes);
	if (memory)
		*map->budget -= bytes;
	return memory;
}

int refmap_init(struct refmap *map, uint64_t clusters, uint64_t *budget)
{
	*map = (struct refmap){.budget = budget};
	if (clusters > REFMAP_MAX)
		return -ENOMEM;
	map->node_count = clusters / NODE_CLUSTERS + 1;
	map->nodes = calloc(map->node_count, sizeof(struct refmap_node *));
	return map->nodes ? 0 : -ENOMEM;
}

void refmap_finish(struct refmap *map)
{
	for (uint64_t i = 0; map->nodes && i < map->node_count; i++) {
		for (unsigned int j = 0; map->nodes[i] && j < NODE_PAGES; j++)
			free(map->nodes[i]->pages[j]);
		free(map->nodes[i]);
	}
	free(map->nodes);
	map->nodes = NULL;
}

static uint8_t *bytes_of(struct page *page)
{
	return (uint8_t *)page->numbers;
}

static struct page *find(const struct refmap *map, uint64_t cluster)
{
	const struct refmap_node *node;

	if (cluster >= map->end)
		return NULL;
	node = map->nodes[cluster / NODE_CLUSTERS];
	return node ? node->pages[cluster % NODE_CLUSTERS / REFMAP_PAGE] : NULL;
}

uint64_t refmap_get(const struct refmap *map, uint64_t cluster)
{
	struct page *page = find(map, cluster);
	uint64_t at = cluster % REFMAP_PAGE;

	if (!page)
		return 0;
	return page->wide ? page->numbers[at] : bytes_of(page)[at];
}

/* The page of `cluster`, there and wide enough for `value`, or NULL. */
static struct page *provide(struct refmap *map, uint64_t cluster, uint64_t value)
{
	struct refmap_node **node = &map->nodes[cluster / NODE_CLUSTERS];
	struct page **page, *wide;

	if (!*node)
		*node = take(map, sizeof(**node));
	if (!*node)
		return NULL;
	page = &(*node)->pages[cluster % NODE_CLUSTERS / REFMAP_PAGE];
	if (!*page)
		*page = take(map, NARROW_BYTES);
	if (!*page || (*page)->wide || value <= UINT8_MAX)
		return *page;
	wide = take(map, WIDE_BYTES);
	if (!wide)
		return NULL;
	wide->wide = true;
	for (unsigned int i = 0; i < REFMAP_PAGE; i++)
		wide->numbers[i] = bytes_of(*page)[i];
	free(*page);
	*map->budget += NARROW_BYTES;
	*page = wide;
	return wide;
}

int refmap_set(struct refmap *map, uint64_t cluster, uint64_t value)
{
	struct page *page;

	if (cluster / NODE_CLUSTERS >= map->node_count)
		return -ERANGE;
	page = provide(map, cluster, value);
	if (!page)
		return -ENOMEM;
	if (page->wide)
		page->numbers[cluster % REFMAP_PAGE] = value;
	else
		bytes_of(page)[cluster % REFMAP_PAGE] = (uint8_t)value;
	map->end = MAX(map->end, cluster + 1);
	return 0;
}

uint64_t refmap_next(const struct refmap *map, uint64_t cluster, uint64_t end)
{
	uint64_t stop = MIN(end, map->end);

	while (cluster < stop) {
		if (!map->nodes[cluster / NODE_CLUSTERS])
			cluster = align_up(cluster + 1, NODE_CLUSTERS);
		else if (!find(map, cluster))
			cluster = align_up(cluster + 1, REFMAP_PAGE);
		else
			return cluster;
	}
	return end;
}
