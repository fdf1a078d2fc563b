/* SPDX-License-Identifier: MIT */
/* Opening and refusing disks, raw requests, image locks. */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/impl.h"
#include "sim.h"
#include "util/util.h"

static struct loop *loop;

static int open_path(const char *path, enum blk_format format, bool readonly, bool direct,
		     struct blk **out)
{
	struct blk_options opts = {
		.path = path, .format = format, .readonly = readonly, .direct = direct};

	return blk_open(loop, &opts, out);
}

static void make_file(const char *path, const void *bytes, size_t len, uint64_t size)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, bytes, len, 0), len);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	close(fd);
}

static void expect_refused(const char *path, enum blk_format format, bool readonly,
			   const char *says)
{
	struct blk *blk = NULL;
	const char *log;
	int r;

	capture_log_start();
	r = open_path(path, format, readonly, false, &blk);
	log = capture_log_end();
	assert_true(r < 0);
	if (!strstr(log, says) || !strstr(log, path) || strchr(log, '\n') != strrchr(log, '\n'))
		fail_msg("\"%s\" expected in: %s", says, log);
}

static void test_refused(void **state)
{
	static const struct {
		const char *bytes;
		size_t len;
		const char *says;
	} formats[] = {
		{"QFI\xfb\0\0\0\3", 8, "format=qcow2"},
		{"QFI\xfb\0\0\0\1", 8, "qcow image"},
		{"KDMV", 4, "qemu-img convert"},
		{"vhdxfile", 8, "vhdx"},
		{"LUKS\xba\xbe\0\1", 8, "luks"},
		{"conectix", 8, "vpc"},
	};
	const char *path = temp_path("disk.img"), *named = temp_path("x.qcow2");
	struct blk *blk;

	expect_refused(temp_path("none"), BLK_FORMAT_BY_NAME, false, "no such file");
	expect_refused(temp_dir(), BLK_FORMAT_BY_NAME, false, "directory");
	expect_refused(temp_dir(), BLK_FORMAT_BY_NAME, true, "directory");
	expect_refused("/dev/null", BLK_FORMAT_BY_NAME, false, "neither a file");
	for (size_t i = 0; i < ARRAY_LEN(formats); i++) {
		make_file(path, formats[i].bytes, formats[i].len, 65536);
		expect_refused(path, BLK_FORMAT_BY_NAME, false, formats[i].says);
		assert_int_equal(open_path(path, BLK_FORMAT_RAW, false, false, &blk), 0);
		assert_int_equal(blk_close(blk), 0);
	}
	make_file(named, "hello", 5, 65536);
	expect_refused(named, BLK_FORMAT_BY_NAME, false, "format=raw");
	make_file(path, "", 0, 0);
	expect_refused(path, BLK_FORMAT_BY_NAME, false, "truncate");
	assert_int_equal(mkfifo(temp_path("fifo"), 0600), 0);
	expect_refused(temp_path("fifo"), BLK_FORMAT_BY_NAME, true, "neither a file");
	if (getuid() == 0)
		return; /* root may write everything */
	make_file(path, "", 0, 65536);
	chmod(path, 0400);
	expect_refused(path, BLK_FORMAT_BY_NAME, false, "not writable");
	chmod(path, 0600);
}

static void test_locks(void **state)
{
	const char *path = temp_path("lock.img");
	struct blk *a, *b;

	make_file(path, "", 0, 65536);
	assert_int_equal(open_path(path, BLK_FORMAT_BY_NAME, false, false, &a), 0);
	expect_refused(path, BLK_FORMAT_BY_NAME, false, "in use");
	expect_refused(path, BLK_FORMAT_BY_NAME, true, "in use");
	if (have_qemu_tools()) {
		assert_int_not_equal(shell("qemu-io -f raw -c 'read 0 512' %s", path), 0);
	}
	assert_int_equal(blk_close(a), 0);

	assert_int_equal(open_path(path, BLK_FORMAT_BY_NAME, true, false, &a), 0);
	assert_int_equal(open_path(path, BLK_FORMAT_BY_NAME, true, false, &b), 0);
	expect_refused(path, BLK_FORMAT_BY_NAME, false, "in use");
	if (have_qemu_tools()) {
		assert_int_equal(shell("qemu-img compare -f raw %s %s", path, path), 0);
		assert_int_not_equal(shell("qemu-io -f raw -c 'write 0 512' %s", path), 0);
	}
	assert_int_equal(blk_close(a), 0);
	assert_int_equal(blk_close(b), 0);
	assert_int_equal(open_path(path, BLK_FORMAT_BY_NAME, false, false, &a), 0);
	assert_int_equal(blk_close(a), 0);
}

static void *close_after_a_while(void *arg)
{
	usleep(60000);
	close(*(int *)arg);
	return NULL;
}

/* Whoever had it is on his way out, as after a kill: it is worth a moment. */
static void test_lock_let_go(void **state)
{
	/* "Nobody else may write", as QEMU says it. */
	struct flock deny = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 201, .l_len = 1};
	const char *path = temp_path("lock.img");
	pthread_t thread;
	struct blk *blk;
	int fd;

	make_file(path, "", 0, 65536);
	fd = open(path, O_RDWR | O_CLOEXEC);
	assert_int_equal(fcntl(fd, F_OFD_SETLK, &deny), 0);
	assert_int_equal(pthread_create(&thread, NULL, close_after_a_while, &fd), 0);
	assert_int_equal(open_path(path, BLK_FORMAT_BY_NAME, false, false, &blk), 0);
	pthread_join(thread, NULL);
	assert_int_equal(blk_close(blk), 0);
}

static void test_bad_requests(void **state)
{
	const char *path = temp_path("bad.img");
	unsigned char buf[1024];
	struct blk *blk;

	make_file(path, "", 0, 65536);
	assert_int_equal(open_path(path, BLK_FORMAT_BY_NAME, false, false, &blk), 0);
	assert_int_equal(do_read(loop, blk, buf, 512, 65536), -EINVAL);
	assert_int_equal(do_read(loop, blk, buf, 1024, 65536 - 512), -EINVAL);
	assert_int_equal(do_read(loop, blk, buf, 1024, UINT64_MAX - 511), -EINVAL);
	assert_int_equal(do_read(loop, blk, buf, 512, 1), -EINVAL);
	assert_int_equal(do_read(loop, blk, buf, 100, 0), -EINVAL);
	assert_int_equal(do_write(loop, blk, buf, 512, 65536), -EINVAL);
	assert_int_equal(do_op(loop, blk, BLK_DISCARD, 65536, 512), -EINVAL);
	assert_int_equal(do_op(loop, blk, BLK_DISCARD, 512, UINT64_MAX & ~511ull), -EINVAL);
	assert_int_equal(do_read(loop, blk, buf, 0, 0), 0);
	assert_int_equal(do_op(loop, blk, BLK_FLUSH, 0, 0), 0);
	assert_int_equal(blk_close(blk), 0);

	assert_int_equal(open_path(path, BLK_FORMAT_BY_NAME, true, false, &blk), 0);
	assert_int_equal(do_write(loop, blk, buf, 512, 0), -EROFS);
	assert_int_equal(do_op(loop, blk, BLK_DISCARD, 0, 512), -EROFS);
	assert_int_equal(do_op(loop, blk, BLK_FLUSH, 0, 0), 0);
	assert_int_equal(blk_close(blk), 0);
}

/* A file that ends within a sector reads as zero after its end, and grows when written. */
static void test_odd_size(void **state)
{
	const char *path = temp_path("odd.img");
	unsigned char buf[1024];
	struct blk *blk;

	for (int direct = 0; direct < 2; direct++) {
		memset(buf, 'x', sizeof(buf));
		make_file(path, buf, 700, 700);
		if (open_path(path, BLK_FORMAT_RAW, false, direct, &blk) < 0)
			continue; /* no O_DIRECT here */
		assert_int_equal(blk_info(blk)->size_bytes, 1024);
		assert_int_equal(do_read(loop, blk, buf, 1024, 0), 0);
		assert_int_equal(buf[699], 'x');
		for (int i = 700; i < 1024; i++)
			assert_int_equal(buf[i], 0);
		memset(buf, 'y', 512);
		assert_int_equal(do_write(loop, blk, buf, 512, 512), 0);
		assert_int_equal(blk_read_sync(blk, buf, 100, 900), 0);
		assert_int_equal(buf[0], 'y');
		assert_int_equal(blk_close(blk), 0);
	}
}

/* Split `len` bytes into elements of any size and alignment. */
static unsigned int cut(uint64_t *seed, unsigned char *buf, size_t len, bool aligned,
			struct iovec *iov, unsigned int max)
{
	unsigned int n = 0;

	while (len) {
		size_t step = 1 + rnd(seed) % 5000;

		if (aligned)
			step = align_up(step, 512);
		if (step > len || n == max - 1)
			step = len;
		iov[n++] = (struct iovec){buf, step};
		buf += step;
		len -= step;
	}
	return n;
}

static void random_ops(bool direct, uint64_t *seed)
{
	enum { SIZE = 1 << 20 };
	char here[32]; /* of this process: the same test may run twice at a time */
	const char *path = direct ? here : temp_path("rnd.img");
	unsigned char *model = calloc(1, SIZE), *buf = aligned_alloc(4096, SIZE + 4096);
	struct iovec iov[64];
	struct blk *blk;

	snprintf(here, sizeof(here), "direct-%d.img", getpid());
	make_file(path, "", 0, SIZE);
	if (open_path(path, BLK_FORMAT_RAW, false, direct, &blk) < 0) {
		print_message("no O_DIRECT here\n");
		goto out;
	}
	for (int i = 0; i < 600; i++) {
		uint64_t off = rnd(seed) % (SIZE / 512) * 512, kind = rnd(seed) % 10;
		uint64_t len = 512 + rnd(seed) % MIN((SIZE - off) / 512, 256) * 512;
		unsigned char *at = buf + (rnd(seed) % 4 ? 0 : rnd(seed) % 4096);
		unsigned int n = cut(seed, at, len, rnd(seed) % 2, iov, 64);

		if (kind < 4) {
			for (uint64_t k = 0; k < len; k++)
				at[k] = (unsigned char)(rnd(seed) >> 32);
			assert_int_equal(do_iov(loop, blk, BLK_WRITE, false, off, iov, n, len), 0);
			memcpy(model + off, at, len);
		} else if (kind < 8) {
			assert_int_equal(do_iov(loop, blk, BLK_READ, false, off, iov, n, len), 0);
			assert_memory_equal(at, model + off, len);
		} else if (kind < 9) {
			assert_int_equal(do_iov(loop, blk, BLK_WRITE_ZEROES, rnd(seed) % 2, off,
						NULL, 0, len), 0);
			memset(model + off, 0, len);
		} else {
			assert_int_equal(do_op(loop, blk, BLK_FLUSH, 0, 0), 0);
		}
	}
	assert_int_equal(do_op(loop, blk, BLK_DISCARD, 0, 4096), 0);
	assert_int_equal(blk_close(blk), 0);
out:
	unlink(path);
	free(model);
	free(buf);
}

static void test_random(void **state)
{
	uint64_t seed = test_seed(42);

	random_ops(false, &seed);
	random_ops(true, &seed); /* in the build directory: /dev/shm has no O_DIRECT everywhere */
}

static void count_done(struct blk_req *req, int err)
{
	assert_int_equal(err, 0);
	req->done = NULL;
}

/* How many operations on the file a request takes, whose first ends with `err`. */
static unsigned long ops_of(struct sim *sim, struct blk *blk, enum blk_op op, bool unmap, int err)
{
	struct blk_req req = {.op = op, .unmap = unmap, .len_bytes = MIB(1), .done = count_done};
	unsigned long before = sim->ops;

	sim->fail_after = err ? 0 : -1;
	sim->fail_errno = err;
	blk_submit(blk, &req);
	while (req.done)
		assert_true(sim_step(sim));
	return sim->ops - before;
}

/* A range that does not suit the device is no reason to write all zeroes from then on. */
static void test_zeroes_refused(void **state)
{
	struct sim *sim = sim_create(1);
	struct blk *blk;

	sim->bio.size_bytes = sim->size = MIB(1);
	assert_int_equal(raw_create(&sim->bio, "sim", false, &blk), 0);
	for (unsigned int unmap = 0; unmap < 2; unmap++) {
		assert_int_equal(ops_of(sim, blk, BLK_WRITE_ZEROES, unmap, 0), 1);
		assert_int_equal(ops_of(sim, blk, BLK_WRITE_ZEROES, unmap, -EINVAL), 17);
		assert_int_equal(ops_of(sim, blk, BLK_WRITE_ZEROES, unmap, 0), 1);
	}
	assert_int_equal(ops_of(sim, blk, BLK_DISCARD, false, -EINVAL), 1);
	assert_int_equal(ops_of(sim, blk, BLK_DISCARD, false, 0), 1);
	assert_int_equal(ops_of(sim, blk, BLK_DISCARD, false, -EOPNOTSUPP), 1);
	assert_int_equal(ops_of(sim, blk, BLK_DISCARD, false, 0), 0);
	assert_int_equal(ops_of(sim, blk, BLK_WRITE_ZEROES, true, 0), 16);
	assert_int_equal(ops_of(sim, blk, BLK_WRITE_ZEROES, false, -EOPNOTSUPP), 17);
	assert_int_equal(ops_of(sim, blk, BLK_WRITE_ZEROES, false, 0), 16);
	assert_int_equal(blk_close(blk), 0);
	sim_destroy(sim);
}

/* More elements than one system call takes. */
static void test_many_elements(void **state)
{
	enum { N = 3000 };
	const char *path = temp_path("many.img");
	unsigned char *a = malloc(N * 512), *b = calloc(1, N * 512);
	struct iovec *iov = calloc(N, sizeof(*iov));
	struct blk *blk;

	make_file(path, "", 0, N * 512);
	assert_int_equal(open_path(path, BLK_FORMAT_RAW, false, false, &blk), 0);
	for (int i = 0; i < N * 512; i++)
		a[i] = (unsigned char)(i * 7 >> 3);
	for (int i = 0; i < N; i++)
		iov[i] = (struct iovec){a + 512 * i, 512};
	assert_int_equal(do_iov(loop, blk, BLK_WRITE, false, 0, iov, N, N * 512), 0);
	for (int i = 0; i < N; i++)
		iov[i].iov_base = b + 512 * i;
	assert_int_equal(do_iov(loop, blk, BLK_READ, false, 0, iov, N, N * 512), 0);
	assert_memory_equal(a, b, N * 512);
	assert_int_equal(blk_close(blk), 0);
	free(a);
	free(b);
	free(iov);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_locks),
		cmocka_unit_test(test_lock_let_go),
		cmocka_unit_test(test_bad_requests),
		cmocka_unit_test(test_odd_size),
		cmocka_unit_test(test_random),
		cmocka_unit_test(test_zeroes_refused),
		cmocka_unit_test(test_many_elements),
	};
	int r;

	if (loop_create("test", &loop) < 0)
		return 77;
	r = cmocka_run_group_tests(tests, NULL, NULL);
	loop_destroy(loop);
	return r;
}
