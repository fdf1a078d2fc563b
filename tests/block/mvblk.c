/* SPDX-License-Identifier: MIT */
/*
 * mvblk: the block layer from the command line, with qemu-io's habits.
 *
 *     mvblk [-r] [-n] [-f raw|qcow2] [-b | -B DIR] [-d FILE] [-C SIZE] [-c COMMAND]... FILE
 *
 *     -r read-only   -n O_DIRECT   -f the format (default: by the file's name)
 *     -b follow backing files, -B of DIR alone   -d the external data file
 *     -C size of the metadata cache
 *
 * Commands, from stdin where there is no -c:
 *
 *     read [-qP BYTE] OFFSET LENGTH...  into so many buffers; fails unless all of it is BYTE
 *     write [-qP BYTE] OFFSET LENGTH... (readv and writev are the same)
 *     write -z [-qu] OFFSET LENGTH      zeroes; -u: the space may be given back
 *     aio_read, aio_write ...           the same, not waited for
 *     aio_flush                         waits for those
 *     discard [-q] OFFSET LENGTH
 *     flush
 *     length, info
 *     map [OFFSET LENGTH]               what lies where, an extent a line
 *     bench [-w] [-R] [-c COUNT] [-d DEPTH] [-s SIZE] [-S STEP]
 *                                       as qemu-img bench; -R in random order
 *     sleep MS                          requests and timers go on
 *     abort                             ends at once, as by kill -9
 *     quit
 *
 * Sizes are decimal, with K, M, G or T, or hexadecimal with 0x, and multiples of 512 (but for
 * the buffers: these sum up to one). What fails is said, and the rest is done all the same; the
 * exit status is 0 if all succeeded, 1 if not, 2 where the command line makes no sense.
 */
#include "mvblk.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "block/block.h"
#include "util/loop.h"
#include "util/util.h"

#define WORDS_MAX 1100
#define BUFFERS_MAX 1024 /* of one request */
#define WRITTEN 0xcd     /* by default, as qemu-io's */

static struct loop *loop;
static struct blk *blk;
static unsigned int in_flight;
static bool failed, waiting, ended;

struct io {
	struct blk_req req;
	const char *what;
	bool quiet;
	int pattern; /* that a read must find, or -1 */
	unsigned char *buf;
	struct iovec iov[];
};

static void complain(const char *what, const char *why)
{
	fprintf(stderr, "mvblk: %s: %s\n", what, why);
	failed = true;
}

void *mvblk_buffer(size_t len_bytes, int fill)
{
	void *buf = aligned_alloc(4096, align_up(MAX(len_bytes, 1), 4096));

	if (!buf) {
		fprintf(stderr, "mvblk: out of memory\n");
		exit(1);
	}
	memset(buf, fill, len_bytes);
	return buf;
}

/* --- requests --- */

static void check_pattern(const struct io *io)
{
	for (uint64_t i = 0; io->pattern >= 0 && i < io->req.len_bytes; i++) {
		if (io->buf[i] == io->pattern)
			continue;
		fprintf(stderr, "mvblk: %s: byte %llu is 0x%02x, not 0x%02x\n", io->what,
			(unsigned long long)(io->req.offset_bytes + i), io->buf[i], io->pattern);
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
	if (!err && !io->quiet && req->op != BLK_FLUSH)
		printf("%s %llu bytes at offset %llu\n",
		       req->op == BLK_READ ? "read" : req->op == BLK_DISCARD ? "discarded" : "wrote",
		       (unsigned long long)req->len_bytes, (unsigned long long)req->offset_bytes);
	free(io->buf);
	free(io);
	if (--in_flight == 0 && waiting)
		loop_quit(loop);
}

static void wait_for_all(void)
{
	waiting = true;
	while (in_flight && loop_run(loop) == 0)
		;
	waiting = false;
}

static struct io *io_new(const char *what, enum blk_op op)
{
	struct io *io = calloc(1, sizeof(*io) + BUFFERS_MAX * sizeof(io->iov[0]));

	if (!io) {
		fprintf(stderr, "mvblk: out of memory\n");
		exit(1);
	}
	io->what = what;
	io->pattern = -1;
	io->req.op = op;
	io->req.done = io_done;
	return io;
}

static void io_submit(struct io *io)
{
	in_flight++;
	blk_submit(blk, &io->req);
}

/* --- commands --- */

static bool number(const char *text, uint64_t *out)
{
	char *end;

	if (strncmp(text, "0x", 2) != 0)
		return parse_size(text, out) == 0;
	errno = 0;
	*out = strtoull(text, &end, 16);
	return !errno && !*end && end != text + 2;
}

/* OFFSET LENGTH...: NULL, or what is wrong with them. */
static const char *parse_range(struct io *io, int count, char **words)
{
	uint64_t len;

	if (count < 2 || count - 1 > BUFFERS_MAX)
		return "an offset and a length are expected";
	if (!number(words[0], &io->req.offset_bytes))
		return "not an offset";
	for (int i = 1; i < count; i++) {
		if (!number(words[i], &len) || len > GIB(1))
			return "not a length (1G at most)";
		io->iov[io->req.iovcnt++].iov_len = len;
		io->req.len_bytes += len;
	}
	if (io->req.offset_bytes % 512 || io->req.len_bytes % 512)
		return "not a multiple of 512";
	return NULL;
}

static const char *parse_transfer(struct io *io, int argc, char **argv)
{
	bool is_write = io->req.op == BLK_WRITE;
	int option;

	optind = 0;
	while ((option = getopt(argc, argv, is_write ? "+qP:zu" : "+qP:")) != -1) {
		if (option == '?')
			return "options: -q -P BYTE, and to write -z -u";
		if (option == 'P')
			io->pattern = (int)(strtoul(optarg, NULL, 0) & 0xff);
		io->quiet |= option == 'q';
		io->req.unmap |= option == 'u';
		if (option == 'z')
			io->req.op = BLK_WRITE_ZEROES;
	}
	if (io->req.op == BLK_WRITE_ZEROES && io->pattern >= 0)
		return "-z and -P exclude each other";
	return parse_range(io, argc - optind, argv + optind);
}

static void fill_buffers(struct io *io)
{
	size_t at = 0;

	io->buf = mvblk_buffer(io->req.len_bytes, io->req.op == BLK_READ ? 0
			       : io->pattern < 0 ? WRITTEN : io->pattern);
	for (unsigned int i = 0; i < io->req.iovcnt; i++) {
		io->iov[i].iov_base = io->buf + at;
		at += io->iov[i].iov_len;
	}
	io->req.iov = io->iov;
}

static void transfer(const char *what, enum blk_op op, int argc, char **argv)
{
	struct io *io = io_new(what, op);
	const char *why = parse_transfer(io, argc, argv);

	if (why) {
		complain(what, why);
		free(io);
		return;
	}
	if (io->req.op == BLK_READ || io->req.op == BLK_WRITE)
		fill_buffers(io);
	else
		io->req.iovcnt = 0;
	io_submit(io);
}

static void do_read(int argc, char **argv)
{
	transfer("read", BLK_READ, argc, argv);
}

static void do_write(int argc, char **argv)
{
	transfer("write", BLK_WRITE, argc, argv);
}

static void do_discard(int argc, char **argv)
{
	transfer("discard", BLK_DISCARD, argc, argv);
}

static void do_flush(int argc, char **argv)
{
	io_submit(io_new("flush", BLK_FLUSH));
}

static void do_nothing(int argc, char **argv)
{
}

static void do_length(int argc, char **argv)
{
	printf("%llu\n", (unsigned long long)blk_info(blk)->size_bytes);
}

static void do_info(int argc, char **argv)
{
	const struct blk_info *info = blk_info(blk);

	printf("format %s, %llu bytes, blocks of %u, clusters of %u%s%s%s\n", info->format,
	       (unsigned long long)info->size_bytes, info->block_bytes, info->cluster_bytes,
	       info->readonly ? ", read-only" : "", info->can_discard ? ", discard" : "",
	       info->can_write_zeroes ? ", write-zeroes" : "");
}

static void print_extent(uint64_t offset, const struct blk_extent *extent)
{
	static const char *const kinds[] = {"zero", "data", "compressed"};

	printf("%llu %llu %s", (unsigned long long)offset, (unsigned long long)extent->len_bytes,
	       extent->present ? kinds[extent->kind] : "hole");
	if (extent->present)
		printf(" depth %u", extent->depth);
	if (extent->has_host)
		printf(" at %llu", (unsigned long long)extent->host_bytes);
	printf("\n");
}

static void do_map(int argc, char **argv)
{
	uint64_t at = 0, len = blk_info(blk)->size_bytes, end;
	struct blk_extent extent;
	int r = 0;

	if (argc != 1 && (argc != 3 || !number(argv[1], &at) || !number(argv[2], &len) ||
			  !range_fits(at, len, blk_info(blk)->size_bytes))) {
		complain("map", "an offset and a length inside the disk are expected, or neither");
		return;
	}
	wait_for_all();
	for (end = at + len; at < end && !r; at += r ? 0 : extent.len_bytes) {
		r = blk_map(blk, at, end - at, &extent);
		if (!r)
			print_extent(at, &extent);
	}
	if (r)
		complain("map", strerror(-r));
}

static void do_bench(int argc, char **argv)
{
	if (!mvblk_bench(loop, blk, argc, argv))
		failed = true;
}

static void quit_loop(void *arg)
{
	loop_quit(arg);
}

static void do_sleep(int argc, char **argv)
{
	struct loop_watch *watch;
	uint64_t ms;

	if (argc != 2 || parse_uint(argv[1], 1, 1000000, &ms) < 0) {
		complain("sleep", "milliseconds are expected");
		return;
	}
	watch = loop_watch_timer(loop, ms, quit_loop, loop);
	if (watch)
		loop_run(loop);
	loop_unwatch(loop, watch);
}

static void do_abort(int argc, char **argv)
{
	fflush(stdout);
	raise(SIGKILL);
}

static void do_quit(int argc, char **argv)
{
	ended = true;
}

static const struct command {
	const char *name;
	void (*run)(int argc, char **argv);
	bool waits; /* for all that is in flight */
} commands[] = {
	{"read", do_read, true},
	{"readv", do_read, true},
	{"write", do_write, true},
	{"writev", do_write, true},
	{"aio_read", do_read, false},
	{"aio_write", do_write, false},
	{"aio_flush", do_nothing, true},
	{"discard", do_discard, true},
	{"aio_discard", do_discard, false},
	{"flush", do_flush, true},
	{"length", do_length, false},
	{"info", do_info, false},
	{"map", do_map, false},
	{"bench", do_bench, false},
	{"sleep", do_sleep, false},
	{"abort", do_abort, false},
	{"quit", do_quit, false},
};

static void run_words(int argc, char **argv)
{
	for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
		if (strcmp(commands[i].name, argv[0]) != 0)
			continue;
		commands[i].run(argc, argv);
		if (commands[i].waits)
			wait_for_all();
		fflush(stdout);
		return;
	}
	complain(argv[0], "no such command");
}

static void run_command(const char *command)
{
	char *argv[WORDS_MAX + 1], *rest, *text = strdup(command);
	int argc = 0;

	for (char *word = strtok_r(text, " \t\n", &rest); word && argc < WORDS_MAX;
	     word = strtok_r(NULL, " \t\n", &rest))
		argv[argc++] = word;
	argv[argc] = NULL;
	if (argc)
		run_words(argc, argv);
	free(text);
}

/* Of stdin. */
static void run_lines(void)
{
	size_t capacity = 0;
	char *line = NULL;

	while (!ended && getline(&line, &capacity, stdin) > 0)
		run_command(line);
	free(line);
}

/* --- the command line --- */

static void usage(void)
{
	fprintf(stderr, "usage: mvblk [-r] [-n] [-f raw|qcow2] [-b | -B DIR] [-d FILE] "
		"[-C SIZE] [-c COMMAND]... FILE (see the head of tests/block/mvblk.c)\n");
	exit(2);
}

static void set_format(struct blk_options *opts, const char *name)
{
	opts->format = strcmp(name, "raw") ? BLK_FORMAT_QCOW2 : BLK_FORMAT_RAW;
	if (opts->format == BLK_FORMAT_QCOW2 && strcmp(name, "qcow2") != 0)
		usage();
}

static void set_cache(struct blk_options *opts, const char *text)
{
	uint64_t bytes;

	if (!number(text, &bytes) || !bytes || bytes > GIB(1))
		usage();
	opts->cache_bytes = (uint32_t)bytes;
}

/* The commands' words are the caller's: `lines` points into argv. Their number. */
static int parse_args(int argc, char **argv, struct blk_options *opts, const char **lines)
{
	int count = 0, option;

	while ((option = getopt(argc, argv, "+rnbB:d:f:C:c:")) != -1) {
		opts->readonly |= option == 'r';
		opts->direct |= option == 'n';
		if (option == 'b' || option == 'B')
			opts->backing = BLK_BACKING_ON;
		if (option == 'B')
			opts->backing_dir = optarg;
		if (option == 'd')
			opts->data_file = optarg;
		if (option == 'f')
			set_format(opts, optarg);
		if (option == 'C')
			set_cache(opts, optarg);
		if (option == 'c')
			lines[count++] = optarg;
		if (option == '?')
			usage();
	}
	if (optind != argc - 1)
		usage();
	opts->path = argv[optind];
	return count;
}

int main(int argc, char **argv)
{
	const char **lines = calloc((size_t)argc + 1, sizeof(*lines));
	struct blk_options opts = {0};
	int count = parse_args(argc, argv, &opts, lines);

	if (loop_create("mvblk", &loop) < 0 || blk_open(loop, &opts, &blk) < 0) {
		free(lines);
		return 1;
	}
	for (int i = 0; i < count && !ended; i++)
		run_command(lines[i]);
	if (!count)
		run_lines();
	wait_for_all();
	if (blk_close(blk) < 0)
		failed = true;
	loop_destroy(loop);
	free(lines);
	return failed ? 1 : 0;
}
