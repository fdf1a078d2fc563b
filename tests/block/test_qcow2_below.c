/* SPDX-License-Identifier: MIT */
/*
 * What an image has compressed, or from the files below it: read, written over, zeroed; QEMU
 * made it, and reads the result. And which files below are followed at all.
 */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/util.h"
#include "work.h"

#define DISK_BYTES (24ull << 20)
#define SECTORS (DISK_BYTES / 512)

static struct loop *loop;

static int try_open(const char *path, const char *dir, enum blk_backing backing, struct blk **out)
{
	struct blk_options opts = {.path = path, .backing = backing, .backing_dir = dir};

	return blk_open(loop, &opts, out);
}

/* All of it at once, and in odd pieces, as the raw file has it. */
static void reads_as(struct blk *blk, const char *raw)
{
	unsigned char *want = calloc(1, DISK_BYTES), *got = malloc(DISK_BYTES);
	int fd = open(raw, O_RDONLY | O_CLOEXEC);

	assert_true(pread(fd, want, DISK_BYTES, 0) > 0);
	close(fd);
	assert_int_equal(do_read(loop, blk, got, DISK_BYTES, 0), 0);
	assert_memory_equal(want, got, DISK_BYTES);
	memset(got, 0xee, DISK_BYTES);
	for (uint64_t at = 0; at < DISK_BYTES; at += 70 * 512)
		assert_int_equal(do_read(loop, blk, got + at, MIN(70 * 512, DISK_BYTES - at), at),
				 0);
	assert_memory_equal(want, got, DISK_BYTES);
	assert_int_equal(blk_read_sync(blk, got, 300001, 12345), 0);
	assert_memory_equal(want + 12345, got, 300001);
	free(want);
	free(got);
}

static void used_and_checked(const char *image, struct work *work)
{
	const char *raw = temp_path("result.raw");
	struct blk *blk;

	for (int round = 0; round < 2; round++) {
		assert_int_equal(try_open(image, NULL, BLK_BACKING_ON, &blk), 0);
		work->blk = blk;
		work_run(work, loop, 40);
		assert_int_equal(blk_close(blk), 0);
		work_closed(work);
		assert_int_equal(shell("qemu-img check -f qcow2 %s", image), 0);
		assert_int_equal(shell("qemu-img convert -f qcow2 -O raw %s %s", image, raw), 0);
		assert_int_equal(work_compare_file(work, raw), 0);
	}
}

/* --- compressed --- */

/* Noise, text and zeroes: data that does not shrink, and data that does. */
static void make_mixed(const char *raw)
{
	assert_int_equal(shell("((head -c 5M /dev/urandom; yes 'one line of many' | head -c 7M; "
			       "head -c 3M /dev/zero; head -c 1M /dev/urandom | od -x) >%s)", raw),
			 0);
	assert_int_equal(truncate(raw, DISK_BYTES), 0);
}

static void compressed(const char *options, uint64_t seed)
{
	const char *raw = temp_path("plain.raw"), *image = temp_path("packed.qcow2");
	struct work *work;
	struct blk *blk;

	print_message("compressed %s\n", options);
	make_mixed(raw);
	assert_int_equal(shell("qemu-img convert -f raw -c -O qcow2 -o %s %s %s", options, raw,
			       image), 0);
	assert_int_equal(try_open(image, NULL, BLK_BACKING_OFF, &blk), 0);
	reads_as(blk, raw);
	assert_int_equal(blk_close(blk), 0);

	work = work_create(NULL, 0, SECTORS, seed);
	work_assume(work, 1, SECTORS);
	work_save(work, raw, DISK_BYTES);
	assert_int_equal(shell("qemu-img convert -f raw -c -O qcow2 -o %s %s %s", options, raw,
			       image), 0);
	used_and_checked(image, work);
	work_destroy(work);
}

static void test_compressed(void **state)
{
	uint64_t seed = test_seed(21);

	compressed("compat=0.10,cluster_size=4k", rnd(&seed));
	compressed("compat=0.10", rnd(&seed));
	compressed("compat=1.1,cluster_size=512", rnd(&seed));
	compressed("compat=1.1", rnd(&seed));
	compressed("compat=1.1,cluster_size=2M", rnd(&seed));
	compressed("compat=1.1,cluster_size=4k,compression_type=zstd", rnd(&seed));
	compressed("compat=1.1,compression_type=zstd", rnd(&seed));
	compressed("compat=1.1,cluster_size=2M,compression_type=zstd", rnd(&seed));
}

/* Damaged: an error for who reads that cluster, and for nobody else. */
static void test_compressed_damaged(void **state)
{
	const char *raw = temp_path("plain.raw"), *image = temp_path("packed.qcow2");
	unsigned char *buf = malloc(4 << 20);
	struct blk *blk;
	int fd;

	make_mixed(raw);
	assert_int_equal(shell("qemu-img convert -f raw -c -O qcow2 %s %s", raw, image), 0);
	fd = open(image, O_RDWR | O_CLOEXEC);
	memset(buf, 0xff, 4096);
	/* Near the end are the numbers that noise became, packed. */
	assert_int_equal(pwrite(fd, buf, 4096, lseek(fd, 0, SEEK_END) - (300 << 10)), 4096);
	close(fd);
	assert_int_equal(try_open(image, NULL, BLK_BACKING_OFF, &blk), 0);
	capture_log_start();
	assert_int_equal(do_read(loop, blk, buf, 4 << 20, 15 << 20), -EIO);
	assert_non_null(strstr(capture_log_end(), "damaged"));
	assert_int_equal(do_read(loop, blk, buf, 4 << 20, 8 << 20), 0);
	assert_int_equal(blk_close(blk), 0);
	free(buf);
}

/* --- files below --- */

static void fill_raw(const char *path, uint64_t tag, uint64_t first, uint64_t count, uint64_t size)
{
	struct work *work = work_create(NULL, first, SECTORS - first, 1);

	work_assume(work, tag, count);
	work_save(work, path, size);
	work_destroy(work);
}

/* Three of them: raw, then qcow2, compressed, and an overlay that is worked on. */
static void chain(const char *options, const char *below, uint64_t base_sectors, uint64_t seed)
{
	const char *raw = temp_path("base.raw"), *middle = temp_path("middle.qcow2");
	const char *image = temp_path("top.qcow2");
	struct work *work = work_create(NULL, 0, SECTORS, seed);
	struct blk *blk;

	print_message("chain %s over %s\n", options, below);
	fill_raw(raw, 1, 0, base_sectors, base_sectors * 512);
	assert_int_equal(shell("qemu-img convert -f raw -O qcow2 %s %s %s", below, raw, middle), 0);
	assert_int_equal(shell("qemu-img create -f qcow2 -b middle.qcow2 -F qcow2 -o %s %s %llu",
			       options, image, DISK_BYTES), 0);
	assert_int_equal(try_open(image, NULL, BLK_BACKING_ON, &blk), 0);
	reads_as(blk, raw);
	assert_int_equal(blk_close(blk), 0);
	work_assume(work, 1, base_sectors);
	work->idle_discards = true;
	used_and_checked(image, work);
	assert_int_equal(shell("qemu-img compare -f raw -F qcow2 %s %s", raw, middle), 0);
	work_destroy(work);
}

static void test_chain(void **state)
{
	uint64_t seed = test_seed(22);

	chain("compat=1.1", "-o cluster_size=4k", SECTORS, rnd(&seed));
	chain("compat=1.1,cluster_size=4k", "-c", SECTORS / 2 + 1, rnd(&seed));
	chain("compat=0.10", "-o compat=0.10", SECTORS / 3, rnd(&seed));
	chain("compat=0.10,cluster_size=512", "-c -o cluster_size=512", SECTORS, rnd(&seed));
	chain("compat=1.1,cluster_size=2M", "-c -o compression_type=zstd", SECTORS - 7, rnd(&seed));
}

/* Open image `path` over another; how it is refused, in one line. */
static void refused(const char *path, const char *dir, enum blk_backing backing, const char *says)
{
	struct blk *blk;
	const char *log;
	int r;

	capture_log_start();
	r = try_open(path, dir, backing, &blk);
	log = capture_log_end();
	if (r >= 0)
		fail_msg("%s: opened, not \"%s\"", path, says);
	if (!strstr(log, says) || strchr(log, '\n') != strrchr(log, '\n'))
		fail_msg("\"%s\" expected in: %s", says, log);
}

static void test_policy(void **state)
{
	const char *top = temp_path("policy.qcow2"), *dir = temp_path("inside");
	struct blk *blk;
	char sub[160];

	snprintf(sub, sizeof(sub), "%s/sub", dir);
	assert_int_equal(shell("mkdir -p %s && truncate -s 1M %s/in.raw %s", sub, sub,
			       temp_path("out.raw")), 0);
	assert_int_equal(shell("cd %s && qemu-img create -f qcow2 -b inside/sub/in.raw -F raw %s 1M",
			       temp_dir(), top), 0);
	refused(top, NULL, BLK_BACKING_OFF, "backing=on");
	assert_int_equal(try_open(top, NULL, BLK_BACKING_ON, &blk), 0);
	assert_int_equal(blk_close(blk), 0);
	assert_int_equal(try_open(top, dir, BLK_BACKING_ON, &blk), 0);
	assert_int_equal(blk_close(blk), 0);
	assert_int_equal(shell("ln -sf ../../out.raw %s/in.raw", sub), 0);
	refused(top, dir, BLK_BACKING_ON, "does not lie below");
	assert_int_equal(shell("qemu-img rebase -u -b inside/../out.raw -F raw %s", top), 0);
	refused(top, dir, BLK_BACKING_ON, "does not lie below");
	refused(top, temp_path("nowhere"), BLK_BACKING_ON, "No such file");
	assert_int_equal(shell("qemu-img rebase -u -b gone.raw -F raw %s", top), 0);
	refused(top, NULL, BLK_BACKING_ON, "gone.raw: no such file");
	assert_int_equal(shell("qemu-img rebase -u -b inside -F raw %s", top), 0);
	refused(top, NULL, BLK_BACKING_ON, "directory");
	assert_int_equal(shell("qemu-img rebase -u -b /dev/zero -F raw %s", top), 0);
	refused(top, NULL, BLK_BACKING_ON, "neither a file");
	assert_int_equal(shell("qemu-img rebase -u -b nbd:localhost -F raw %s", top), 0);
	refused(top, NULL, BLK_BACKING_ON, "not a plain file");
	assert_int_equal(shell("qemu-img rebase -u -b 'json:{}' -F raw %s", top), 0);
	refused(top, NULL, BLK_BACKING_ON, "not a plain file");
	assert_int_equal(shell("qemu-img rebase -u -b out.raw -F vmdk %s", top), 0);
	refused(top, NULL, BLK_BACKING_ON, "not raw or qcow2");
}

static void test_depth_and_cycles(void **state)
{
	const char *first = temp_path("d0.qcow2");
	struct blk *blk;

	assert_int_equal(shell("qemu-img create -f qcow2 %s 1M", first), 0);
	for (int i = 1; i <= 9; i++)
		assert_int_equal(shell("cd %s && qemu-img create -f qcow2 -b d%d.qcow2 -F qcow2 "
				       "d%d.qcow2 1M", temp_dir(), i - 1, i), 0);
	assert_int_equal(try_open(temp_path("d8.qcow2"), NULL, BLK_BACKING_ON, &blk), 0);
	assert_int_equal(blk_close(blk), 0);
	refused(temp_path("d9.qcow2"), NULL, BLK_BACKING_ON, "more than 8");
	assert_int_equal(shell("qemu-img rebase -u -b d2.qcow2 -F qcow2 %s", first), 0);
	refused(temp_path("d2.qcow2"), NULL, BLK_BACKING_ON, "");
}

/* The format of what lies below is said by the image or not at all. */
static void test_format_not_said(void **state)
{
	const char *top = temp_path("unsaid.qcow2");
	static const unsigned char none[4];
	int fd;

	assert_int_equal(shell("truncate -s 1M %s && qemu-img create -f qcow2 -b %s -F raw %s 1M",
			       temp_path("u.raw"), temp_path("u.raw"), top), 0);
	fd = open(top, O_RDWR | O_CLOEXEC);
	assert_int_equal(pwrite(fd, none, 4, 112), 4); /* the extension becomes the end */
	close(fd);
	refused(top, NULL, BLK_BACKING_ON, "not guessed");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_compressed),
		cmocka_unit_test(test_compressed_damaged),
		cmocka_unit_test(test_chain),
		cmocka_unit_test(test_policy),
		cmocka_unit_test(test_depth_and_cycles),
		cmocka_unit_test(test_format_not_said),
	};
	int r;

	if (!have_qemu_tools() || loop_create("test", &loop) < 0) {
		print_message("skipped: no qemu-img and qemu-io (apt install qemu-utils)\n");
		return 77;
	}
	r = cmocka_run_group_tests(tests, NULL, NULL);
	loop_destroy(loop);
	return r;
}
