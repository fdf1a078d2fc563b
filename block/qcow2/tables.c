/* SPDX-License-Identifier: MIT */
#include "block/qcow2/tables.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/image.h"
#include "util/util.h"

/* Fixed parts of the entries; the variable parts follow. */
#define SNAPSHOT_BYTES 40u
#define BITMAP_BYTES 24u
#define BITMAP_DIRECTORY_MAX MIB(64)
#define BITMAPS_MAX 65535u
#define EXTRA_MAX 1024u

static uint64_t get(const unsigned char *at, unsigned int bytes)
{
	uint64_t value = 0;

	for (unsigned int i = 0; i < bytes; i++)
		value = value << 8 | at[i];
	return value;
}

static void take_text(char *out, const unsigned char *at, uint64_t len)
{
	uint64_t n = MIN(len, Q2_NAME_MAX - 1);

	memcpy(out, at, n);
	out[n] = 0;
}

/* --- snapshots --- */

/* An entry's variable part is extra data, id, name; read it at once. */
static int read_variable(const struct image *img, uint64_t offset, uint64_t len,
			 unsigned char **out)
{
	int r;

	*out = malloc(MAX(len, 1));
	if (!*out)
		return -ENOMEM;
	r = image_read(img, *out, len, offset);
	if (r < 0)
		free(*out);
	return r;
}

static int read_snapshot(const struct image *img, uint64_t at, struct q2_snapshot *s, uint64_t *len)
{
	unsigned char head[SNAPSHOT_BYTES], *extra;
	uint64_t id, name, extra_len;
	int r = image_read(img, head, sizeof(head), at);

	if (r < 0)
		return r;
	s->l1_offset = get(head, 8);
	s->l1_entries = (uint32_t)get(head + 8, 4);
	id = get(head + 12, 2);
	name = get(head + 14, 2);
	s->date_s = (uint32_t)get(head + 16, 4);
	s->date_ns = (uint32_t)get(head + 20, 4);
	s->vm_clock_ns = get(head + 24, 8);
	s->vm_state_bytes = get(head + 32, 4);
	s->icount = UINT64_MAX;
	extra_len = get(head + 36, 4);
	if (extra_len > EXTRA_MAX)
		return -EINVAL;
	r = read_variable(img, at + sizeof(head), extra_len + id + name, &extra);
	if (r < 0)
		return r;
	if (extra_len >= 8)
		s->vm_state_bytes = get(extra, 8);
	if (extra_len >= 24)
		s->icount = get(extra + 16, 8);
	take_text(s->id, extra + extra_len, id);
	take_text(s->name, extra + extra_len + id, name);
	free(extra);
	*len = align_up(sizeof(head) + extra_len + id + name, 8);
	return 0;
}

int q2_each_snapshot(const struct image *img, int (*fn)(void *arg, const struct q2_snapshot *s),
		     void *arg, uint64_t *bytes)
{
	uint64_t start = img->header.snapshots_offset, at = 0, len = 0;
	struct q2_snapshot s = {0};
	int r = 0;

	*bytes = 0;
	if (start > img->file_bytes)
		return -EINVAL;
	for (; !r && s.index < img->header.snapshots; s.index++) {
		if (at > QCOW2_SNAPSHOT_TABLE_BYTES_MAX ||
		    !range_fits(start + at, SNAPSHOT_BYTES, img->file_bytes))
			return -EINVAL;
		r = read_snapshot(img, start + at, &s, &len);
		if (r < 0)
			return r;
		at += len;
		*bytes = at;
		r = fn(arg, &s);
	}
	return r;
}

/* --- bitmaps --- */

/* The entry at `at`, of which `left` bytes are there. */
static int read_bitmap(const unsigned char *at, uint64_t left, struct q2_bitmap *b, uint64_t *len)
{
	uint64_t name, extra;

	if (left < BITMAP_BYTES)
		return -EINVAL;
	b->table_offset = get(at, 8);
	b->table_entries = (uint32_t)get(at + 8, 4);
	b->flags = (uint32_t)get(at + 12, 4);
	b->granularity_bits = at[17];
	name = get(at + 18, 2);
	extra = get(at + 20, 4);
	*len = align_up(BITMAP_BYTES + extra + name, 8);
	if (*len > left || b->granularity_bits > 63)
		return -EINVAL;
	take_text(b->name, at + BITMAP_BYTES + extra, name);
	return 0;
}

int q2_each_bitmap(const struct image *img, int (*fn)(void *arg, const struct q2_bitmap *b),
		   void *arg)
{
	const struct q2_area *area = &img->header.bitmap_area;
	struct q2_bitmap b = {0};
	unsigned char *directory;
	uint64_t at = 0, len = 0;
	int r;

	if (img->header.bitmaps > BITMAPS_MAX || area->len > BITMAP_DIRECTORY_MAX ||
	    !range_fits(area->offset, area->len, img->file_bytes))
		return -EINVAL;
	r = read_variable(img, area->offset, area->len, &directory);
	if (r < 0)
		return r;
	for (; !r && b.index < img->header.bitmaps; b.index++) {
		r = read_bitmap(directory + at, area->len - at, &b, &len);
		if (!r)
			r = fn(arg, &b);
		at += len;
	}
	free(directory);
	return r;
}
