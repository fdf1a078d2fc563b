/* SPDX-License-Identifier: MIT */
/* mvblk's `bench`: as many requests as told, so many at a time. */
#include "mvblk.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "block/block.h"
#include "util/loop.h"
#include "util/util.h"

#define DEPTH_MAX 4096

static struct bench {
	struct loop *loop;
	struct blk *blk;
	bool write, random;
	uint64_t count, depth, size, step;
	uint64_t started, ended, offset, seed;
	int err;
} bench;

struct io {
	struct blk_req req;
	struct iovec iov;
};

static void next(struct blk_req *req)
{
	uint64_t end = align_down(blk_info(bench.blk)->size_bytes, bench.size);

	if (bench.random) {
		bench.seed = bench.seed * 6364136223846793005u + 1442695040888963407u;
		req->offset_bytes = (bench.seed >> 20) % (end / bench.size) * bench.size;
	} else {
		req->offset_bytes = MIN(bench.offset, end - bench.size);
		bench.offset = (bench.offset + bench.step) % end;
	}
	bench.started++;
	blk_submit(bench.blk, req);
}

static void done(struct blk_req *req, int err)
{
	if (err && !bench.err)
		bench.err = err;
	if (bench.started < bench.count)
		next(req);
	if (++bench.ended == bench.count)
		loop_quit(bench.loop);
}

static double seconds(const struct timeval *from, const struct timeval *to)
{
	return (double)(to->tv_sec - from->tv_sec) + (double)(to->tv_usec - from->tv_usec) / 1e6;
}

static void report(double wall, double cpu)
{
	printf("%llu requests in %.3f s: %.0f IOPS, %.1f MiB/s, %.2f us CPU each\n",
	       (unsigned long long)bench.count, wall, (double)bench.count / wall,
	       (double)(bench.count * bench.size) / wall / 1048576,
	       cpu * 1e6 / (double)bench.count);
}

static void run(struct io *ios)
{
	struct rusage before, after;
	struct timespec start, end;

	getrusage(RUSAGE_SELF, &before);
	clock_gettime(CLOCK_MONOTONIC, &start);
	for (uint64_t i = 0; i < bench.depth; i++) {
		ios[i].iov = (struct iovec){mvblk_buffer(bench.size, 0x5a), bench.size};
		ios[i].req = (struct blk_req){.op = bench.write ? BLK_WRITE : BLK_READ,
					      .len_bytes = bench.size, .iov = &ios[i].iov,
					      .iovcnt = 1, .done = done};
		next(&ios[i].req);
	}
	loop_run(bench.loop);
	clock_gettime(CLOCK_MONOTONIC, &end);
	getrusage(RUSAGE_SELF, &after);
	report((double)(end.tv_sec - start.tv_sec) + (double)(end.tv_nsec - start.tv_nsec) / 1e9,
	       seconds(&before.ru_utime, &after.ru_utime) +
	       seconds(&before.ru_stime, &after.ru_stime));
	for (uint64_t i = 0; i < bench.depth; i++)
		free(ios[i].iov.iov_base);
}

static uint64_t *field_of(int option)
{
	switch (option) {
	case 'c':
		return &bench.count;
	case 'd':
		return &bench.depth;
	case 's':
		return &bench.size;
	case 'S':
		return &bench.step;
	}
	return NULL;
}

static bool parse(int argc, char **argv)
{
	int option;

	optind = 0;
	while ((option = getopt(argc, argv, "+wRc:d:s:S:")) != -1) {
		uint64_t *field = field_of(option);

		if (field ? parse_size(optarg, field) < 0 : option == '?')
			return false;
		bench.write |= option == 'w';
		bench.random |= option == 'R';
	}
	bench.step = bench.step ? bench.step : bench.size;
	return optind == argc;
}

/* What is wrong with the numbers, or NULL. */
static const char *problem(void)
{
	uint64_t disk = blk_info(bench.blk)->size_bytes;

	if (!bench.count || !bench.depth || bench.depth > DEPTH_MAX)
		return "a count and a depth (4096 at most) are needed";
	if (!bench.size || bench.size % 512 || bench.step % 512)
		return "sizes are multiples of 512";
	return bench.size > disk || bench.step > disk ? "the sizes do not fit the disk" : NULL;
}

bool mvblk_bench(struct loop *loop, struct blk *blk, int argc, char **argv)
{
	const char *why = "options: -w -R -c COUNT -d DEPTH -s SIZE -S STEP";
	struct io *ios = NULL;

	bench = (struct bench){.loop = loop, .blk = blk, .count = 75000, .depth = 64, .size = 4096,
			       .seed = 1};
	if (parse(argc, argv))
		why = problem();
	bench.depth = MIN(bench.depth, bench.count);
	if (!why) {
		ios = calloc(bench.depth, sizeof(*ios));
		why = ios ? NULL : "out of memory";
	}
	if (!why)
		run(ios);
	if (bench.err)
		why = strerror(-bench.err);
	if (why)
		fprintf(stderr, "mvblk: bench: %s\n", why);
	free(ios);
	return !why;
}
