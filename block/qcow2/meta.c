/* SPDX-License-Identifier: MIT */
/*
 * Which host clusters hold metadata: a bit each, in pages that are made when first needed.
 * Guest data must never be written there, whatever a damaged table says.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/qcow2/impl.h"
#include "util/util.h"

/* Small: tables lie far apart, and a page holds but one or two of them. */
#define PAGE_BYTES 512u
#define PAGE_CLUSTERS (8ull * PAGE_BYTES)

static int grow(struct q2_meta *meta, uint64_t pages)
{
	uint8_t **more;

	if (pages <= meta->page_count)
		return 0;
	pages = MAX(pages, 2 * meta->page_count);
	more = realloc(meta->pages, pages * sizeof(*more));
	if (!more)
		return -ENOMEM;
	memset(more + meta->page_count, 0, (pages - meta->page_count) * sizeof(*more));
	meta->pages = more;
	meta->page_count = pages;
	return 0;
}

int q2_meta_set(struct qcow2 *q, uint64_t cluster, uint64_t count)
{
	struct q2_meta *meta = &q->meta;

	if (!count)
		return 0; /* wherever that nothing is */
	if (grow(meta, (cluster + count) / PAGE_CLUSTERS + 1) < 0)
		return -ENOMEM;
	for (; count; cluster++, count--) {
		uint8_t **page = &meta->pages[cluster / PAGE_CLUSTERS];

		if (!*page)
			*page = calloc(1, PAGE_BYTES);
		if (!*page)
			return -ENOMEM;
		(*page)[cluster % PAGE_CLUSTERS / 8] |= (uint8_t)(1u << cluster % 8);
	}
	return 0;
}

void q2_meta_clear(struct qcow2 *q, uint64_t cluster)
{
	struct q2_meta *meta = &q->meta;
	uint64_t page = cluster / PAGE_CLUSTERS;

	if (page < meta->page_count && meta->pages[page])
		meta->pages[page][cluster % PAGE_CLUSTERS / 8] &= (uint8_t)~(1u << cluster % 8);
}

bool q2_meta_any(const struct qcow2 *q, uint64_t cluster, uint64_t count)
{
	const struct q2_meta *meta = &q->meta;

	for (; count; cluster++, count--) {
		uint64_t page = cluster / PAGE_CLUSTERS;

		if (page >= meta->page_count || !meta->pages[page])
			continue;
		if (meta->pages[page][cluster % PAGE_CLUSTERS / 8] >> cluster % 8 & 1)
			return true;
	}
	return false;
}

void q2_meta_finish(struct qcow2 *q)
{
	for (uint64_t i = 0; i < q->meta.page_count; i++)
		free(q->meta.pages[i]);
	free(q->meta.pages);
}
