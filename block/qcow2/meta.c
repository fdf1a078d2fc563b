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
/* 160 MiB of them: 64 TiB need no more, with clusters of 64 KiB. An image can ask for any number. */
#define PAGES_MAX (320u << 10)
#define PAGE_INDEX_MAX (4u << 20)

static int grow(struct q2_meta *meta, uint64_t pages)
{
	uint8_t **more;

	if (pages <= meta->page_count)
		return 0;
	if (pages > PAGE_INDEX_MAX)
		return -EFBIG;
	pages = MAX(pages, 2 * meta->page_count);
	more = realloc(meta->pages, pages * sizeof(*more));
	if (!more)
		return -ENOMEM;
	memset(more + meta->page_count, 0, (pages - meta->page_count) * sizeof(*more));
	meta->pages = more;
	meta->page_count = pages;
	return 0;
}

static uint8_t *get_page(struct q2_meta *meta, uint64_t index)
{
	uint8_t **page = &meta->pages[index];

	if (*page || meta->pages_used == PAGES_MAX)
		return *page;
	*page = calloc(1, PAGE_BYTES);
	meta->pages_used += *page != NULL;
	return *page;
}

int q2_meta_set(struct qcow2 *q, uint64_t cluster, uint64_t count)
{
	struct q2_meta *meta = &q->meta;
	int r;

	if (!count)
		return 0; /* wherever that nothing is */
	r = grow(meta, (cluster + count - 1) / PAGE_CLUSTERS + 1);
	for (; !r && count; cluster++, count--) {
		uint8_t *page = get_page(meta, cluster / PAGE_CLUSTERS);

		if (!page)
			return meta->pages_used == PAGES_MAX ? -EFBIG : -ENOMEM;
		page[cluster % PAGE_CLUSTERS / 8] |= (uint8_t)(1u << cluster % 8);
	}
	return r;
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
