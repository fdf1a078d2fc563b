/* SPDX-License-Identifier: MIT */
/* Images that libqcow reads, against what qemu-img makes of them. */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/util.h"

#define SECRET "--object secret,id=s,file=%s"

static struct loop *loop;
static uint64_t seed;
static const char *image, *raw, *source, *password;

/* --- images --- */

/* What disks are made of: zeroes, text, noise. */
static void make_source(uint64_t len)
{
	static unsigned char block[4096];
	uint64_t state = 7;
	int fd = open(source, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	for (uint64_t at = 0; at < len; at += sizeof(block)) {
		uint64_t kind = rnd(&state) % 4;

		for (size_t i = 0; i < sizeof(block); i++)
			block[i] = kind == 0 ? 0 : kind == 1 ? (unsigned char)rnd(&state)
					     : (unsigned char)(at >> 12) + i % 9;
		assert_int_equal(pwrite(fd, block, MIN(sizeof(block), len - at), (off_t)at),
				 MIN(sizeof(block), len - at));
	}
	close(fd);
}

static void set_password(const char *text)
{
	int fd = open(password, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

/* An encrypted one from `source`, and what is in it in `raw`. */
static void make_encrypted(const char *format)
{
	assert_int_equal(shell("qemu-img create -q -f %s " SECRET " -o encrypt.format=aes,"
			       "encrypt.key-secret=s %s 5242880", format, password, image), 0);
	assert_int_equal(shell("qemu-img convert -n -f raw " SECRET " --target-image-opts %s "
			       "driver=%s,file.filename=%s,encrypt.format=aes,encrypt.key-secret=s",
			       password, source, format, image), 0);
	assert_int_equal(shell("cp %s %s", source, raw), 0);
}

static struct blk_options options(enum blk_format format)
{
	return (struct blk_options){.path = image, .format = format, .readonly = true,
				    .reader_program = getenv("MINIVMM_QCOW")};
}

/* --- what they must read as --- */

static int open_it(const struct blk_options *opts, struct blk **out)
{
	return blk_open(loop, opts, out);
}

static unsigned char *load(const char *path, uint64_t *len)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	unsigned char *data;
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	*len = align_up((uint64_t)st.st_size, 512);
	data = calloc(1, *len);
	assert_non_null(data);
	assert_int_equal(pread(fd, data, (size_t)st.st_size, 0), st.st_size);
	close(fd);
	return data;
}

static int read_cut(struct blk *blk, unsigned char *buf, uint64_t len, uint64_t at, uint64_t cut)
{
	struct iovec iov[] = {{buf, cut}, {NULL, 0}, {buf + cut, len - cut}};

	return do_iov(loop, blk, BLK_READ, false, at, iov, 3, len);
}

static void compare_some(struct blk *blk, const unsigned char *want, uint64_t len)
{
	static unsigned char got[3 << 20];
	uint64_t state = seed;

	for (int i = 0; i < 100; i++) {
		uint64_t at = align_down(rnd(&state) % len, 512);
		uint64_t max = i % 10 ? 70000 : sizeof(got) - 512;
		uint64_t n = 512 + align_down(rnd(&state) % max, 512);
		uint64_t cut;

		n = MIN(n, len - at);
		cut = rnd(&state) % n;
		memset(got, 0xee, n);
		assert_int_equal(read_cut(blk, got, n, at, cut), 0);
		assert_memory_equal(got, want + at, n);
	}
}

/* By blk_read_sync, as boot code does, and on the loop. */
static void compare_with_raw(const struct blk_options *opts)
{
	uint64_t len;
	unsigned char *want = load(raw, &len), *got = malloc(len);
	struct blk *blk;

	assert_int_equal(open_it(opts, &blk), 0);
	assert_int_equal(blk_info(blk)->size_bytes, len);
	assert_true(blk_info(blk)->readonly);
	assert_int_equal(blk_read_sync(blk, got, len, 0), 0);
	assert_memory_equal(got, want, len);
	assert_int_equal(blk_read_sync(blk, got, 7, 12345), 0);
	assert_memory_equal(got, want + 12345, 7);
	memset(got, 0xee, len);
	assert_int_equal(do_read(loop, blk, got, len, 0), 0);
	assert_memory_equal(got, want, len);
	compare_some(blk, want, len);
	assert_int_equal(do_write(loop, blk, got, 512, 0), -EROFS);
	assert_int_equal(do_op(loop, blk, BLK_FLUSH, 0, 0), 0);
	assert_int_equal(blk_close(blk), 0);
	free(got);
	free(want);
}

static void convert_back(const char *format)
{
	assert_int_equal(shell("qemu-img convert -f %s -O raw %s %s", format, image, raw), 0);
}

static void make_qcow1(uint64_t len, const char *options)
{
	make_source(len);
	/* With -c some versions do it right and say they failed. */
	shell("qemu-img convert -f raw -O qcow %s %s %s", options, source, image);
	assert_int_equal(shell("qemu-img compare -f raw -F qcow %s %s", source, image), 0);
	convert_back("qcow");
}

static void test_qcow1(void **state)
{
	struct blk_options opts = options(BLK_FORMAT_QCOW);

	make_qcow1(5 << 20, "");
	compare_with_raw(&opts);
	make_qcow1(5 << 20, "-c");
	compare_with_raw(&opts);
	make_qcow1((5 << 20) + 1024 + 512, ""); /* no multiple of a cluster */
	compare_with_raw(&opts);
}

static void test_qcow2(void **state)
{
	static const char *const kinds[] = {
		"compat=0.10", "compat=1.1", "compat=1.1,cluster_size=512",
		"compat=0.10,cluster_size=4k", "compat=1.1,cluster_size=2M",
		"compat=1.1,lazy_refcounts=on", "compat=1.1,refcount_bits=1",
		"compat=1.1,preallocation=metadata",
	};
	struct blk_options opts = options(BLK_FORMAT_QCOW2);

	opts.reader = BLK_READER_LIBQCOW;
	make_source(5 << 20);
	for (size_t i = 0; i < 2 * ARRAY_LEN(kinds) - 1; i++) {
		print_message("%s%s\n", kinds[i / 2], i % 2 ? " compressed" : "");
		assert_int_equal(shell("qemu-img convert %s -f raw -O qcow2 -o %s %s %s",
				       i % 2 ? "-c" : "", kinds[i / 2], source, image), 0);
		convert_back("qcow2");
		compare_with_raw(&opts);
	}
}

static void test_aes(void **state)
{
	struct blk_options opts = options(BLK_FORMAT_QCOW2);

	make_source(5 << 20);
	set_password("s3cret");
	opts.password_file = password;
	make_encrypted("qcow2");
	compare_with_raw(&opts);
	set_password("s3cret\n");
	compare_with_raw(&opts);
	opts.format = BLK_FORMAT_QCOW;
	set_password("a longer one than the 16 bytes that count, \xc3\xa4\xc3\xb6\xc3\xbc");
	make_encrypted("qcow");
	compare_with_raw(&opts);
	set_password("a longer one than some other one");
	compare_with_raw(&opts);
}

static void test_password_fd(void **state)
{
	struct blk_options opts = options(BLK_FORMAT_QCOW2);
	int fds[2];

	make_source(5 << 20);
	set_password("\xc3\xa4\xc3\xb6\xc3\xbc");
	make_encrypted("qcow2");
	assert_int_equal(pipe(fds), 0);
	assert_int_equal(write(fds[1], "\xc3\xa4\xc3\xb6\xc3\xbc\n", 7), 7);
	close(fds[1]);
	opts.has_password_fd = true;
	opts.password_fd = fds[0];
	compare_with_raw(&opts);
	close(fds[0]);
}

/* Written to, in a temporary overlay. */
static void test_snapshot(void **state)
{
	struct blk_options opts = options(BLK_FORMAT_QCOW);
	unsigned char *want, got[4096], ours[4096];
	struct blk *blk;
	uint64_t len;

	make_qcow1(5 << 20, "");
	want = load(raw, &len);
	opts.readonly = false;
	opts.snapshot = BLK_SNAPSHOT_ON;
	memset(ours, 0xab, sizeof(ours));
	assert_int_equal(blk_open(loop, &opts, &blk), 0);
	assert_int_equal(blk_read_sync(blk, got, sizeof(got), 8192), 0);
	assert_memory_equal(got, want + 8192, sizeof(got));
	assert_int_equal(do_write(loop, blk, ours, sizeof(ours), 8192), 0);
	assert_int_equal(do_read(loop, blk, got, sizeof(got), 8192), 0);
	assert_memory_equal(got, ours, sizeof(got));
	assert_int_equal(do_read(loop, blk, got, sizeof(got), 12288), 0);
	assert_memory_equal(got, want + 12288, sizeof(got));
	assert_int_equal(blk_close(blk), 0);
	opts = options(BLK_FORMAT_QCOW);
	compare_with_raw(&opts);
	free(want);
}

/* The format has no way to tell. */
static void test_wrong_password(void **state)
{
	struct blk_options opts = options(BLK_FORMAT_QCOW2);
	unsigned char got[4096];
	struct blk *blk;
	uint64_t len;
	unsigned char *want;

	make_source(5 << 20);
	set_password("right");
	make_encrypted("qcow2");
	set_password("wrong");
	opts.password_file = password;
	want = load(raw, &len);
	assert_int_equal(open_it(&opts, &blk), 0);
	assert_int_equal(do_read(loop, blk, got, sizeof(got), 8192), 0);
	assert_memory_not_equal(got, want + 8192, sizeof(got));
	assert_int_equal(blk_close(blk), 0);
	free(want);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_qcow1),
		cmocka_unit_test(test_qcow2),
		cmocka_unit_test(test_aes),
		cmocka_unit_test(test_password_fd),
		cmocka_unit_test(test_snapshot),
		cmocka_unit_test(test_wrong_password),
	};
	int r;

	if (!have_qemu_tools() || loop_create("test", &loop) < 0) {
		print_message("skipped: no qemu-img and qemu-io (apt install qemu-utils)\n");
		return 77;
	}
	image = temp_path("image");
	raw = temp_path("raw");
	source = temp_path("source");
	password = temp_path("password");
	seed = test_seed(11);
	r = cmocka_run_group_tests(tests, NULL, NULL);
	loop_destroy(loop);
	return r;
}
