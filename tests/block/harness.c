/* SPDX-License-Identifier: MIT */
#include "harness.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/util.h"

struct one_req {
	struct blk_req req;
	struct loop *loop;
	int err;
};

static void one_done(struct blk_req *req, int err)
{
	struct one_req *one = CONTAINER_OF(req, struct one_req, req);

	one->err = err;
	loop_quit(one->loop);
}

int do_iov(struct loop *loop, struct blk *blk, enum blk_op op, bool unmap, uint64_t offset,
	   const struct iovec *iov, unsigned int iovcnt, uint64_t len)
{
	struct one_req one = {
		.req = {.op = op, .unmap = unmap, .offset_bytes = offset, .len_bytes = len,
			.iov = iov, .iovcnt = iovcnt, .done = one_done},
		.loop = loop,
		.err = 1,
	};

	blk_submit(blk, &one.req);
	assert_int_equal(one.err, 1); /* never inside */
	assert_int_equal(loop_run(loop), 0);
	assert_int_not_equal(one.err, 1);
	return one.err;
}

int do_read(struct loop *loop, struct blk *blk, void *buf, uint64_t len, uint64_t offset)
{
	struct iovec iov = {buf, len};

	return do_iov(loop, blk, BLK_READ, false, offset, &iov, 1, len);
}

int do_write(struct loop *loop, struct blk *blk, const void *buf, uint64_t len, uint64_t offset)
{
	struct iovec iov = {(void *)(uintptr_t)buf, len};

	return do_iov(loop, blk, BLK_WRITE, false, offset, &iov, 1, len);
}

int do_op(struct loop *loop, struct blk *blk, enum blk_op op, uint64_t offset, uint64_t len)
{
	return do_iov(loop, blk, op, op == BLK_WRITE_ZEROES, offset, NULL, 0, len);
}

void stop_running(struct loop *loop)
{
	loop_quit(loop);
}

void run_until_zero(struct loop *loop, const unsigned int *pending)
{
	while (*pending)
		assert_int_equal(loop_run(loop), 0);
}

/* --- files and commands --- */

static char dir[64];

const char *temp_dir(void)
{
	if (!dir[0]) {
		snprintf(dir, sizeof(dir), "%s/minivmm-block-XXXXXX",
			 access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
		assert_non_null(mkdtemp(dir));
		atexit(remove_temp_dir);
	}
	return dir;
}

const char *temp_path(const char *name)
{
	static struct path {
		struct path *next;
		char text[128];
	} *paths; /* for as long as the test runs */
	struct path *path;
	char text[128];

	snprintf(text, sizeof(text), "%s/%s", temp_dir(), name);
	for (path = paths; path; path = path->next) {
		if (!strcmp(path->text, text))
			return path->text;
	}
	path = malloc(sizeof(*path));
	assert_non_null(path);
	memcpy(path->text, text, sizeof(text));
	path->next = paths;
	paths = path;
	return path->text;
}

void remove_temp_dir(void)
{
	if (dir[0] && !getenv("TEST_KEEP"))
		shell("rm -rf %s", dir);
	dir[0] = 0;
}

int shell(const char *fmt, ...)
{
	char command[1024], *to = command;
	va_list args;
	int status;

	va_start(args, fmt);
	to += vsnprintf(command, sizeof(command), fmt, args);
	va_end(args);
	if (!getenv("TEST_VERBOSE"))
		snprintf(to, sizeof(command) - (size_t)(to - command), " >/dev/null 2>&1");
	status = system(command);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

bool have_qemu_tools(void)
{
	return shell("qemu-img --version") == 0 && shell("qemu-io --version") == 0;
}

/* --- log --- */

static int saved_stderr = -1;
static int capture_fd = -1;

void capture_log_start(void)
{
	fflush(stderr);
	capture_fd = open(temp_path("log"), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(capture_fd >= 0);
	saved_stderr = dup(2);
	dup2(capture_fd, 2);
}

const char *capture_log_end(void)
{
	static char text[4096];
	ssize_t n;

	fflush(stderr);
	dup2(saved_stderr, 2);
	close(saved_stderr);
	n = pread(capture_fd, text, sizeof(text) - 1, 0);
	close(capture_fd);
	text[n > 0 ? n : 0] = 0;
	if (getenv("TEST_VERBOSE"))
		fputs(text, stderr);
	return text;
}

/* --- chance --- */

uint64_t rnd(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

uint64_t test_seed(uint64_t fallback)
{
	const char *text = getenv("TEST_SEED");
	uint64_t seed = text ? strtoull(text, NULL, 0) : fallback;

	print_message("TEST_SEED=%llu\n", (unsigned long long)seed);
	return seed ? seed : 1;
}
