/* SPDX-License-Identifier: MIT */
#include "work.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "harness.h"
#include "util/util.h"

#define SECTOR 512u
#define LEN_MAX 1024u /* sectors */

static uint64_t tag_word(uint64_t tag, uint64_t number)
{
	return tag ? tag << 32 ^ number : 0;
}

void fill_tag(unsigned char *sector, uint64_t tag, uint64_t number)
{
	uint64_t word = tag_word(tag, number);

	memcpy(sector, &word, 8);
	for (unsigned int done = 8; done < SECTOR; done *= 2)
		memcpy(sector + done, sector, done);
}

static bool has_tag(const unsigned char *sector, uint64_t tag, uint64_t number)
{
	uint64_t word = tag_word(tag, number);

	return !memcmp(sector, &word, 8) && !memcmp(sector, sector + 8, SECTOR - 8);
}

/* --- the model --- */

static void grow(struct history *h)
{
	bool moved = h->tags && h->tags != h->few;
	unsigned int capacity = 4 * MAX(h->capacity, (unsigned int)ARRAY_LEN(h->few));
	uint64_t *more = realloc(moved ? h->tags : NULL, capacity * sizeof(*more));

	assert_non_null(more);
	if (!moved)
		memcpy(more, h->few, sizeof(h->few));
	h->tags = more;
	h->capacity = capacity;
}

static void push(struct history *h, uint64_t tag)
{
	if (!h->tags) {
		h->tags = h->few;
		h->capacity = ARRAY_LEN(h->few);
	}
	if (h->count == h->capacity)
		grow(h);
	h->tags[h->count++] = tag;
}

static struct history *at(const struct work *work, uint64_t sector)
{
	return &work->history[sector - work->first];
}

static void note_submitted(struct work *work, const struct blk_req *req, uint64_t tag)
{
	for (uint64_t i = 0; i < req->len_bytes / SECTOR; i++) {
		struct history *h = at(work, req->offset_bytes / SECTOR + i);

		h->busy = true;
		if (req->op != BLK_READ)
			push(h, tag);
	}
}

static void note_done(struct work *work, const struct blk_req *req, int err)
{
	bool hint = req->op == BLK_DISCARD && work->idle_discards;

	for (uint64_t i = 0; i < req->len_bytes / SECTOR; i++) {
		struct history *h = at(work, req->offset_bytes / SECTOR + i);

		h->busy = false;
		if (req->op != BLK_READ && !err && !hint)
			h->known = h->count - 1;
	}
}

/* After a failed write either is there. */
static bool may_hold(const struct history *h, unsigned int from, const unsigned char *sector,
		     uint64_t number)
{
	for (unsigned int i = from; i < h->count; i++) {
		if (has_tag(sector, h->tags[i], number))
			return true;
	}
	return false;
}

static void check_read(struct work *work, const struct slot *slot)
{
	uint64_t first = slot->req.offset_bytes / SECTOR;

	for (uint64_t i = 0; i < slot->req.len_bytes / SECTOR; i++) {
		const struct history *h = at(work, first + i);
		uint64_t word;

		if (may_hold(h, h->known, slot->buf + i * SECTOR, first + i))
			continue;
		memcpy(&word, slot->buf + i * SECTOR, 8);
		if (!work->wrong++)
			print_message("sector %llu holds %llx, not tag %llx\n",
				      (unsigned long long)(first + i), (unsigned long long)word,
				      (unsigned long long)h->tags[h->known]);
	}
}

/* --- requests --- */

static void note_flushed(struct work *work, struct slot *slot, int err)
{
	for (uint64_t i = 0; i < work->sectors && !err; i++)
		work->history[i].floor = MAX(work->history[i].floor, slot->flushed[i]);
	free(slot->flushed);
	slot->flushed = NULL;
}

static void done(struct blk_req *req, int err)
{
	struct slot *slot = CONTAINER_OF(req, struct slot, req);
	struct work *work = slot->work;

	if (err && !work->may_fail && !work->cut)
		fail_msg("op %d at %llu, %llu bytes: %s", req->op,
			 (unsigned long long)req->offset_bytes,
			 (unsigned long long)req->len_bytes, strerror(-err));
	work->failed += err != 0;
	if (req->op == BLK_FLUSH)
		note_flushed(work, slot, work->cut ? -1 : err);
	else if (!work->cut)
		note_done(work, req, err);
	if (req->op == BLK_READ && !err && !work->cut)
		check_read(work, slot);
	slot->busy = false;
	if (--work->in_flight == 0 && work->idle)
		work->idle(work->arg);
}

static struct slot *free_slot(struct work *work)
{
	for (int i = 0; i < WORK_SLOTS; i++) {
		if (!work->slots[i].busy)
			return &work->slots[i];
	}
	return NULL;
}

static void cut_iov(struct work *work, struct slot *slot)
{
	uint64_t left = slot->req.len_bytes;
	unsigned char *p = slot->buf;
	unsigned int n = 0;

	while (left) {
		uint64_t len = rnd(&work->seed) % 3 ? 4096 : 1 + rnd(&work->seed) % 70000;

		if (len > left || n == ARRAY_LEN(slot->iov) - 1)
			len = left;
		slot->iov[n++] = (struct iovec){p, len};
		p += len;
		left -= len;
	}
	slot->req.iov = slot->iov;
	slot->req.iovcnt = n;
}

/* A discard zeroes whole clusters and leaves the rest alone: make it whole. */
static void widen(struct work *work, uint64_t *sector, uint64_t *len)
{
	uint64_t cluster = blk_info(work->blk)->cluster_bytes / SECTOR;
	uint64_t start = align_down(*sector, cluster), end = align_up(*sector + *len, cluster);

	if (start < work->first)
		start += cluster;
	if (end > work->first + work->sectors)
		end -= cluster;
	*sector = start;
	*len = end > start ? end - start : 0;
}

static enum blk_op random_op(struct work *work)
{
	unsigned int r = (unsigned int)(rnd(&work->seed) % 16);

	if (r < work->discards)
		return rnd(&work->seed) % 2 ? BLK_DISCARD : BLK_WRITE_ZEROES;
	if (r < work->discards + work->flushes)
		return BLK_FLUSH;
	return rnd(&work->seed) % 4 ? BLK_WRITE : BLK_READ;
}

static bool choose(struct work *work, struct slot *slot)
{
	struct blk_req *req = &slot->req;
	uint64_t sector = work->first + rnd(&work->seed) % work->sectors;
	uint64_t len = rnd(&work->seed) % 2 ? 8 : 1 + rnd(&work->seed) % work->max_len;

	if (rnd(&work->seed) % 2)
		sector = align_down(sector, 8);
	sector = MAX(sector, work->first);
	len = MIN(len, work->first + work->sectors - sector);
	*req = (struct blk_req){.op = random_op(work), .done = done};
	req->unmap = rnd(&work->seed) % 2;
	if (req->op == BLK_FLUSH)
		return true;
	if (req->op == BLK_DISCARD)
		widen(work, &sector, &len);
	for (uint64_t i = 0; i < len; i++) {
		if (at(work, sector + i)->busy)
			return false;
	}
	req->offset_bytes = sector * SECTOR;
	req->len_bytes = len * SECTOR;
	return len != 0;
}

static void start(struct work *work, struct slot *slot)
{
	struct blk_req *req = &slot->req;
	uint64_t first = req->offset_bytes / SECTOR;

	slot->tag = req->op == BLK_WRITE ? work->next_tag++ : 0;
	if (req->op == BLK_READ || req->op == BLK_WRITE)
		cut_iov(work, slot);
	if (req->op == BLK_WRITE) {
		for (uint64_t i = 0; i < req->len_bytes / SECTOR; i++)
			fill_tag(slot->buf + i * SECTOR, slot->tag, first + i);
	}
	if (req->op == BLK_FLUSH) {
		slot->flushed = malloc(work->sectors * sizeof(*slot->flushed));
		for (uint64_t i = 0; i < work->sectors; i++)
			slot->flushed[i] = work->history[i].known;
	} else {
		note_submitted(work, req, slot->tag);
	}
	slot->busy = true;
	work->in_flight++;
	blk_submit(work->blk, req);
}

void work_submit(struct work *work)
{
	struct slot *slot = free_slot(work);

	if (slot && choose(work, slot))
		start(work, slot);
}

void work_flush(struct work *work)
{
	struct slot *slot = free_slot(work);

	assert_non_null(slot);
	slot->req = (struct blk_req){.op = BLK_FLUSH, .done = done};
	start(work, slot);
}

/* --- whole disks --- */

struct work *work_create(struct blk *blk, uint64_t first, uint64_t sectors, uint64_t seed)
{
	struct work *work = calloc(1, sizeof(*work));

	work->blk = blk;
	work->first = first;
	work->sectors = sectors;
	work->max_len = LEN_MAX;
	work->seed = seed;
	work->next_tag = 2;
	work->discards = 3;
	work->flushes = 1;
	work->history = calloc(sectors, sizeof(*work->history));
	work_assume(work, 0, 0);
	for (int i = 0; i < WORK_SLOTS; i++) {
		work->slots[i].work = work;
		work->slots[i].buf = malloc(LEN_MAX * SECTOR);
	}
	return work;
}

void work_assume(struct work *work, uint64_t tag, uint64_t count)
{
	for (uint64_t i = 0; i < work->sectors; i++) {
		struct history *h = &work->history[i];

		h->count = 0;
		push(h, i < count ? tag : 0);
		h->known = 0;
		h->floor = 0;
	}
}

void work_destroy(struct work *work)
{
	for (uint64_t i = 0; i < work->sectors; i++) {
		if (work->history[i].tags != work->history[i].few)
			free(work->history[i].tags);
	}
	for (int i = 0; i < WORK_SLOTS; i++) {
		free(work->slots[i].buf);
		free(work->slots[i].flushed);
	}
	free(work->history);
	free(work);
}

static void quit_loop(void *arg)
{
	loop_quit(arg);
}

void work_run(struct work *work, struct loop *loop, int batches)
{
	work->idle = quit_loop;
	work->arg = loop;
	while (batches--) {
		for (int i = 0; i < WORK_SLOTS; i++)
			work_submit(work);
		if (work->in_flight)
			assert_int_equal(loop_run(loop), 0);
	}
	assert_int_equal(work->wrong, 0);
}

void work_closed(struct work *work)
{
	for (uint64_t i = 0; i < work->sectors; i++)
		work->history[i].floor = work->history[i].known;
}

void work_save(const struct work *work, const char *path, uint64_t file_bytes)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	unsigned char sector[SECTOR];

	assert_true(fd >= 0);
	for (uint64_t i = 0; i < work->sectors; i++) {
		const struct history *h = &work->history[i];

		if (!h->tags[h->known])
			continue;
		fill_tag(sector, h->tags[h->known], work->first + i);
		assert_int_equal(pwrite(fd, sector, SECTOR, (off_t)((work->first + i) * SECTOR)),
				 SECTOR);
	}
	assert_int_equal(ftruncate(fd, (off_t)file_bytes), 0);
	close(fd);
}

/* The part of a raw file that is worked on, in memory; what the file lacks is zero. */
static unsigned char *load(const struct work *work, const char *path)
{
	unsigned char *bytes = calloc(work->sectors, SECTOR);
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0 && bytes);
	assert_true(pread(fd, bytes, work->sectors * SECTOR, (off_t)(work->first * SECTOR)) >= 0);
	close(fd);
	return bytes;
}

static void rebase(struct history *h, const unsigned char *sector, uint64_t number)
{
	uint64_t word, tag;

	memcpy(&word, sector, 8);
	tag = word ? (word ^ number) >> 32 : 0;
	assert_true(has_tag(sector, tag, number));
	h->count = 0;
	push(h, tag);
	h->known = 0;
	h->floor = 0;
	h->busy = false;
}

void work_rebase(struct work *work, const unsigned char *sectors)
{
	for (uint64_t i = 0; i < work->sectors; i++)
		rebase(&work->history[i], sectors + i * SECTOR, work->first + i);
	work->cut = false;
	work->failed = 0;
}

unsigned long work_compare(const struct work *work, const unsigned char *sectors)
{
	unsigned long wrong = 0;

	for (uint64_t i = 0; i < work->sectors; i++) {
		const struct history *h = &work->history[i];
		uint64_t word;

		if (may_hold(h, h->floor, sectors + i * SECTOR, work->first + i))
			continue;
		memcpy(&word, sectors + i * SECTOR, 8);
		if (!wrong++)
			print_message("sector %llu holds %llx, not tag %llx or what came after\n",
				      (unsigned long long)(work->first + i),
				      (unsigned long long)word,
				      (unsigned long long)h->tags[h->floor]);
	}
	return wrong;
}

unsigned long work_compare_file(const struct work *work, const char *path)
{
	unsigned char *sectors = load(work, path);
	unsigned long wrong = work_compare(work, sectors);

	free(sectors);
	return wrong;
}
