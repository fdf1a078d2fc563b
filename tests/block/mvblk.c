/* SPDX-License-Identifier: MIT */
/*
 * mvblk: the block layer from the command line, with qemu-io's habits.
 *
 *     mvblk [-r] [-n] [-b] [-f raw|qcow2] -c COMMAND [-c COMMAND]... FILE
 *
 *     -r read-only   -n O_DIRECT   -b follow backing files
 *
 *     read [-P BYTE] OFFSET LENGTH      fails unless all of it is BYTE
 *     write [-P BYTE | -z [-u]] OFFSET LENGTH
 *     aio_read, aio_write ...           the same, not waited for
 *     aio_flush                         waits for those
 *     discard OFFSET LENGTH
 *     flush
 *     bench [-w] [-c COUNT] [-d DEPTH] [-s SIZE] [-S STEP] [-R]
 *                                       as qemu-img bench; -R in random order
 *     abort                             ends at once, as by kill -9
 *
 * Exit status 0 if every command succeeded.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "block/block.h"
#include "util/loop.h"
#include "util/util.h"

#define WORDS_MAX 16
#define COMMANDS_MAX 256

static struct loop *loop;
static struct blk *blk;
static unsigned int in_flight;
static bool failed, waiting;

struct io {
	struct blk_req req;
	struct iovec iov;
	int pattern; /* that a read must find, or -1 */
	const char *what;
};

/* --- single requests --- */

static void complain(const char *what, const char *why)
{
	fprintf(stderr, "mvblk: %s: %s\n", what, why);
	failed = true;
}

static void check_pattern(const struct io *io)
{
	const unsigned char *bytes = io->iov.iov_base;

	for (uint64_t i = 0; io->pattern >= 0 && i < io->req.len_bytes; i++) {
		if (bytes[i] == io->pattern)
			continue;
		fprintf(stderr, "mvblk: read: byte %llu is 0x%02x, not 0x%02x\n",
			(unsigned long long)(io->req.offset_bytes + i), bytes[i], io->pattern);
		failed = true;
		return;
	}
}

static void io_done(struct blk_req *req, int err)
{
	struct io *io = CONTAINER_OF(req, struct io, req);

	if (err)
		complain(io->what, strerror(-err));
	else if (req->op == BLK_READ)
		check_pattern(io);
	free(io->iov.iov_base);
	free(io);
	if (--in_flight == 0 && waiting)
		loop_quit(loop);
}

static void wait_for_all(void)
{
	waiting = true;
	if (in_flight)
		loop_run(loop);
	waiting = false;
}

static void *buffer(uint64_t len, int fill)
{
	void *buf = aligned_alloc(4096, align_up(MAX(len, 1), 4096));

	if (!buf) {
		fprintf(stderr, "mvblk: out of memory\n");
		exit(1);
	}
	memset(buf, fill, len);
	return buf;
}

static void start_io(enum blk_op op, const char *what, uint64_t offset, uint64_t len, int pattern,
		     bool unmap)
{
	struct io *io = calloc(1, sizeof(*io));

	if (!io)
		exit(1);
	*io = (struct io){
		.req = {.op = op, .offset_bytes = offset, .len_bytes = len, .unmap = unmap,
			.iov = &io->iov, .iovcnt = 1, .done = io_done},
		.pattern = pattern,
		.what = what,
	};
	if (op == BLK_READ || op == BLK_WRITE)
		io->iov = (struct iovec){buffer(len, op == BLK_READ ? 0 : MAX(pattern, 0)), len};
	in_flight++;
	blk_submit(blk, &io->req);
}

/* --- bench --- */

static struct bench {
	bool write, random;
	uint64_t count, depth, size, step;
	uint64_t started, ended, offset, seed;
} bench;

static void bench_next(struct blk_req *req)
{
	uint64_t end = align_down(blk_info(blk)->size_bytes, bench.size);

	if (bench.random) {
		bench.seed = bench.seed * 6364136223846793005u + 1442695040888963407u;
		req->offset_bytes = (bench.seed >> 20) % (end / bench.size) * bench.size;
	} else {
		req->offset_bytes = MIN(bench.offset, end - bench.size);
		bench.offset = (bench.offset + bench.step) % end;
	}
	bench.started++;
	blk_submit(blk, req);
}

static void bench_done(struct blk_req *req, int err)
{
	if (err && !failed)
		complain("bench", strerror(-err));
	if (bench.started < bench.count)
		bench_next(req);
	if (++bench.ended == bench.count)
		loop_quit(loop);
}

static double seconds(const struct timeval *from, const struct timeval *to)
{
	return (double)(to->tv_sec - from->tv_sec) + (double)(to->tv_usec - from->tv_usec) / 1e6;
}

static void run_bench(void)
{
	struct io *ios = calloc(bench.depth, sizeof(*ios));
	struct rusage before, after;
	struct timespec start, end;
	double wall, cpu;

	getrusage(RUSAGE_SELF, &before);
	clock_gettime(CLOCK_MONOTONIC, &start);
	for (uint64_t i = 0; i < MIN(bench.depth, bench.count); i++) {
		ios[i].iov = (struct iovec){buffer(bench.size, 0x5a), bench.size};
		ios[i].req = (struct blk_req){.op = bench.write ? BLK_WRITE : BLK_READ,
					      .len_bytes = bench.size, .iov = &ios[i].iov,
					      .iovcnt = 1, .done = bench_done};
		bench_next(&ios[i].req);
	}
	loop_run(loop);
	clock_gettime(CLOCK_MONOTONIC, &end);
	getrusage(RUSAGE_SELF, &after);
	wall = (double)(end.tv_sec - start.tv_sec) + (double)(end.tv_nsec - start.tv_nsec) / 1e9;
	cpu = seconds(&before.ru_utime, &after.ru_utime) +
	      seconds(&before.ru_stime, &after.ru_stime);
	printf("%llu requests in %.3f s: %.0f IOPS, %.1f MiB/s, %.2f us CPU each\n",
	       (unsigned long long)bench.count, wall, (double)bench.count / wall,
	       (double)(bench.count * bench.size) / wall / 1048576,
	       cpu * 1e6 / (double)bench.count);
	for (uint64_t i = 0; i < bench.depth; i++)
		free(ios[i].iov.iov_base);
	free(ios);
}

/* --- commands --- */

static void usage(const char *why)
{
	fprintf(stderr, "mvblk: %s (usage: the head of tests/block/mvblk.c)\n", why);
	exit(2);
}

static uint64_t number(const char *text)
{
	uint64_t value;

	if (!text || parse_size(text, &value) < 0)
		usage(text ? text : "a number is missing");
	return value;
}

static int pattern_of(const char *text)
{
	return text ? (int)(strtoul(text, NULL, 0) & 0xff) : -1;
}

static void transfer(const char *what, bool is_write, int argc, char **argv)
{
	bool zero = false, unmap = false;
	const char *pattern = NULL;
	enum blk_op op = BLK_READ;
	int option;

	optind = 0;
	while ((option = getopt(argc, argv, "+P:zu")) != -1) {
		if (option == '?')
			usage(what);
		pattern = option == 'P' ? optarg : pattern;
		zero |= option == 'z';
		unmap |= option == 'u';
	}
	if (argc - optind != 2)
		usage(what);
	if (is_write)
		op = zero ? BLK_WRITE_ZEROES : BLK_WRITE;
	start_io(op, what, number(argv[optind]), number(argv[optind + 1]), pattern_of(pattern),
		 unmap);
	if (strncmp(what, "aio_", 4) != 0)
		wait_for_all();
}

static void parse_bench(int argc, char **argv)
{
	int option;

	bench = (struct bench){.count = 75000, .depth = 64, .size = 4096, .seed = 1};
	optind = 0;
	while ((option = getopt(argc, argv, "+wRc:d:s:S:")) != -1) {
		switch (option) {
		case 'w':
			bench.write = true;
			break;
		case 'R':
			bench.random = true;
			break;
		case 'c':
			bench.count = number(optarg);
			break;
		case 'd':
			bench.depth = number(optarg);
			break;
		case 's':
			bench.size = number(optarg);
			break;
		case 'S':
			bench.step = number(optarg);
			break;
		default:
			usage("bench");
		}
	}
	bench.step = bench.step ? bench.step : bench.size;
	if (!bench.count || !bench.depth || !bench.size || bench.size % 512 || bench.step % 512 ||
	    bench.step > blk_info(blk)->size_bytes || bench.size > blk_info(blk)->size_bytes)
		usage("bench: sizes are multiples of 512, and fit the disk");
}

static void run_words(int argc, char **argv)
{
	const char *name = argv[0];

	if (!strcmp(name, "read") || !strcmp(name, "aio_read"))
		transfer(name, false, argc, argv);
	else if (!strcmp(name, "write") || !strcmp(name, "aio_write"))
		transfer(name, true, argc, argv);
	else if (!strcmp(name, "discard") && argc == 3)
		start_io(BLK_DISCARD, name, number(argv[1]), number(argv[2]), -1, true);
	else if (!strcmp(name, "flush"))
		start_io(BLK_FLUSH, name, 0, 0, -1, false);
	else if (!strcmp(name, "abort"))
		raise(SIGKILL);
	else if (!strcmp(name, "bench")) {
		parse_bench(argc, argv);
		run_bench();
	} else if (strcmp(name, "aio_flush") != 0) {
		usage(name);
	}
	if (strncmp(name, "aio_", 4) != 0 || !strcmp(name, "aio_flush"))
		wait_for_all();
}

static void run_command(const char *command)
{
	char *argv[WORDS_MAX + 1], *rest, *text = strdup(command);
	int argc = 0;

	for (char *word = strtok_r(text, " ", &rest); word && argc < WORDS_MAX;
	     word = strtok_r(NULL, " ", &rest))
		argv[argc++] = word;
	argv[argc] = NULL;
	if (argc)
		run_words(argc, argv);
	free(text);
}

int main(int argc, char **argv)
{
	struct blk_options opts = {0};
	const char *commands[COMMANDS_MAX];
	unsigned int count = 0;
	int option;

	while ((option = getopt(argc, argv, "+rnbf:c:")) != -1) {
		if (option == '?' || (option == 'c' && count == COMMANDS_MAX))
			usage("options");
		opts.readonly |= option == 'r';
		opts.direct |= option == 'n';
		if (option == 'b')
			opts.backing = BLK_BACKING_ON;
		if (option == 'f')
			opts.format = strcmp(optarg, "raw") ? BLK_FORMAT_QCOW2 : BLK_FORMAT_RAW;
		if (option == 'c')
			commands[count++] = optarg;
	}
	if (optind != argc - 1)
		usage("one file is expected");
	opts.path = argv[optind];
	if (loop_create("mvblk", &loop) < 0 || blk_open(loop, &opts, &blk) < 0)
		return 1;
	for (unsigned int i = 0; i < count; i++)
		run_command(commands[i]);
	wait_for_all();
	if (blk_close(blk) < 0)
		failed = true;
	loop_destroy(loop);
	return failed ? 1 : 0;
}
