/* SPDX-License-Identifier: MIT */
/*
 * A qcow2 image from anywhere is worked on: read, written, discarded, zeroed, flushed, closed;
 * and opens again. Where it was whole before, by tests/block/judge.c, it is whole afterwards and
 * leaks no more; and where requests came one at a time, it holds what was written, and beside
 * that what it held before.
 *
 * The input is flags, a number of requests, those (8 bytes each), and the image.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "qcow2_file.h"
#include "tests/block/judge.h"

#define REQ_MAX 24u
#define REQ_BYTES KIB(64)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static struct fuzz_req {
	struct blk_req req;
	struct iovec iov;
	unsigned int answers;
	int err;
	unsigned char byte;
	unsigned char buf[REQ_BYTES];
} reqs[REQ_MAX];

static const unsigned char *below;

/* FUZZ_SAVE=FILE keeps the image as it was left. */
static void finding(const char *what, const char *why)
{
	const char *path = getenv("FUZZ_SAVE");
	FILE *out = path ? fopen(path, "w") : NULL;
	uint64_t size;
	const uint8_t *bytes = fuzz_file_bytes(&size);

	if (out) {
		fwrite(bytes, 1, size, out);
		fclose(out);
	}
	fprintf(stderr, "%s: %s\n", what, why);
	abort();
}

static void answered(struct blk_req *req, int err)
{
	struct fuzz_req *r = CONTAINER_OF(req, struct fuzz_req, req);

	r->answers++;
	r->err = err;
}

/* Kind, 24 bits of offset in sectors (of a quarter of the disk: the top two), length, byte. */
static void submit(struct blk *blk, struct fuzz_req *r, const uint8_t *script)
{
	uint64_t disk = blk_info(blk)->size_bytes, len = 512 + (script[4] | script[5] << 8) * 512u;
	uint64_t offset = (uint64_t)(script[1] | script[2] << 8 | (script[3] & 0x3f) << 16) * 512;

	offset += align_down(disk / 4 * (script[3] >> 6), 512);
	r->req = (struct blk_req){.op = script[0] % 5, .unmap = script[0] & 0x80,
				  .offset_bytes = offset, .done = answered};
	r->answers = 0;
	r->byte = script[6];
	if (r->req.op == BLK_READ || r->req.op == BLK_WRITE) {
		len = MIN(len, REQ_BYTES);
		if (r->req.op == BLK_WRITE)
			memset(r->buf, r->byte, len);
		r->iov = (struct iovec){r->buf, len};
		r->req.iov = &r->iov;
		r->req.iovcnt = 1;
	}
	r->req.len_bytes = r->req.op == BLK_FLUSH ? 0 : len;
	blk_submit(blk, &r->req);
	if (r->answers)
		abort(); /* never inside */
}

/* Returns whether all requests succeeded. */
static bool run_script(struct blk *blk, unsigned int flags, const uint8_t *script,
		       unsigned int count)
{
	bool good = true;

	for (unsigned int i = 0; i < count; i++) {
		submit(blk, &reqs[i], script + 8 * (size_t)i);
		if (flags & FUZZ_WAIT || script[8 * i + 7] & 1)
			fuzz_run();
	}
	fuzz_run();
	for (unsigned int i = 0; i < count; i++) {
		if (reqs[i].answers != 1)
			abort();
		good &= !reqs[i].err || reqs[i].err == -EINVAL; /* past the end */
	}
	return good;
}

/* --- what it should hold --- */

static bool covers(const struct fuzz_req *r, uint64_t sector)
{
	return r->req.op != BLK_READ && r->err != -EINVAL &&
	       sector >= r->req.offset_bytes / 512 &&
	       sector - r->req.offset_bytes / 512 < r->req.len_bytes / 512;
}

/* What the sector's last request made of it, or -1: as it was, -2: there is no telling. */
static int made_of(unsigned int count, uint64_t sector)
{
	while (count--) {
		const struct fuzz_req *r = &reqs[count];

		if (!covers(r, sector))
			continue;
		if (r->err || r->req.op == BLK_DISCARD)
			return -2;
		return r->req.op == BLK_WRITE ? r->byte : 0;
	}
	return -1;
}

static void check_sector(struct judge *before, struct judge *after, unsigned int count,
			 uint64_t sector)
{
	unsigned char was[512], now[512];
	int byte = made_of(count, sector);

	if (byte == -2 || (byte == -1 && !judge_read(before, false, sector, 1, was)))
		return;
	if (byte >= 0)
		memset(was, byte, sizeof(was));
	if (!judge_read(after, false, sector, 1, now))
		finding("a sector cannot be read", after->why);
	if (memcmp(was, now, sizeof(was)) != 0) {
		fprintf(stderr, "sector %llu: ", (unsigned long long)sector);
		finding("wrong", byte == -1 ? "it changed" : "not as it was written");
	}
}

/* The ends of what was written, and what is next to them. */
static void check_content(struct judge *before, struct judge *after, unsigned int count,
			  uint64_t disk)
{
	for (unsigned int i = 0; i < count; i++) {
		uint64_t first = reqs[i].req.offset_bytes / 512;
		uint64_t end = first + reqs[i].req.len_bytes / 512;
		uint64_t at[] = {first - 1, first, end - 1, end};

		for (unsigned int k = 0; k < ARRAY_LEN(at); k++) {
			if (at[k] < disk / 512)
				check_sector(before, after, count, at[k]);
		}
	}
}

static struct judge judge_of(const uint8_t *bytes, uint64_t size)
{
	return (struct judge){.bytes = bytes, .size = size, .below = below,
			      .below_size = fuzz_below_bytes(), .grown_size = FUZZ_FILE_MAX};
}

static void make_below(void)
{
	static unsigned char bytes[1024 * KIB(7)]; /* a name has 1023 bytes */

	if (below)
		return;
	memset(bytes, FUZZ_BELOW_BYTE, sizeof(bytes));
	below = bytes;
}

/* After the work: again open for reading, at least. */
static void open_again(unsigned int flags)
{
	struct blk *blk;

	if (fuzz_open(flags | FUZZ_READONLY, &blk) < 0)
		finding("the image", "does not open again");
	blk_close(blk);
}

static void work(const uint8_t *image, size_t len, unsigned int flags, const uint8_t *script,
		 unsigned int count)
{
	struct judge before, after;
	const uint8_t *bytes;
	bool whole, good;
	struct blk *blk;
	uint64_t size, disk;

	fuzz_file_load(image, len, flags);
	if (fuzz_open(flags, &blk) < 0)
		return;
	disk = blk_info(blk)->size_bytes;
	before = judge_of(image, len);
	whole = judge_check(&before) && !before.odd;
	good = run_script(blk, flags, script, count);
	good &= blk_close(blk) == 0;
	open_again(flags);
	if (!whole)
		return;
	bytes = fuzz_file_bytes(&size);
	after = judge_of(bytes, size);
	if (!judge_check(&after))
		finding("damaged", after.why);
	if (good && after.leaks > before.leaks)
		finding("closed", "and leaks");
	if (good && flags & FUZZ_WAIT)
		check_content(&before, &after, count, disk);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	unsigned int count;

	if (len < 2)
		return 0;
	count = data[1] % (REQ_MAX + 1);
	if (len - 2 < 8 * count || len - 2 - 8 * count > FUZZ_FILE_MAX)
		return 0;
	make_below();
	work(data + 2 + 8 * count, len - 2 - 8 * count, data[0], data + 2, count);
	return 0;
}
