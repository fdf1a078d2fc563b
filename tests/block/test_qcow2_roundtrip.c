/* SPDX-License-Identifier: MIT */
/*
 * Random work on images that QEMU made, on a real loop; then QEMU checks and reads them. And
 * the other way round: what QEMU wrote reads right.
 */
#include "harness.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "util/util.h"
#include "work.h"

#define DISK_BYTES (48ull << 20)

static struct loop *loop;

static void quit_loop(void *arg)
{
	loop_quit(arg);
}

static bool direct; /* for open_image */

static struct blk *open_image(const char *path, bool readonly)
{
	struct blk_options opts = {.path = path, .readonly = readonly, .direct = direct};
	struct blk *blk;

	assert_int_equal(blk_open(loop, &opts, &blk), 0);
	assert_string_equal(blk_info(blk)->format, "qcow2");
	return blk;
}

/* What `work` left, as QEMU sees it. */
static void qemu_agrees(const struct work *work, const char *image)
{
	const char *model = temp_path("model.raw");

	work_save(work, model, DISK_BYTES);
	assert_int_equal(shell("qemu-img check -f qcow2 %s", image), 0);
	assert_int_equal(shell("qemu-img compare -f qcow2 -F raw %s %s", image, model), 0);
}

static void round_trip(const char *compat, const char *cluster, const char *more, uint64_t seed)
{
	/* /dev/shm has no O_DIRECT everywhere: where the test runs there may be. */
	const char *image = direct ? "direct.qcow2" : temp_path("rt.qcow2");
	struct work *work;
	struct blk *blk;

	print_message("compat=%s cluster_size=%s %s\n", compat, cluster, more);
	assert_int_equal(shell("qemu-img create -f qcow2 -o compat=%s,cluster_size=%s%s %s %llu",
			       compat, cluster, more, image, DISK_BYTES), 0);
	blk = open_image(image, false);
	assert_int_equal(blk_info(blk)->size_bytes, DISK_BYTES);
	work = work_create(blk, 0, DISK_BYTES / 512, seed);
	work_run(work, loop, 60);
	assert_int_equal(blk_close(blk), 0);
	qemu_agrees(work, image);

	/* Again, on what is there now. */
	blk = open_image(image, false);
	work->blk = blk;
	work_run(work, loop, 30);
	assert_int_equal(blk_close(blk), 0);
	qemu_agrees(work, image);
	work_destroy(work);
	unlink(image);
}

static void test_round_trip(void **state)
{
	static const char *const clusters[] = {"512", "4k", "64k", "2M"};
	uint64_t seed = test_seed(7);

	for (size_t i = 0; i < ARRAY_LEN(clusters); i++) {
		round_trip("0.10", clusters[i], "", rnd(&seed));
		round_trip("1.1", clusters[i], "", rnd(&seed));
	}
	round_trip("1.1", "64k", ",preallocation=metadata", rnd(&seed));
	round_trip("1.1", "64k", ",lazy_refcounts=on", rnd(&seed));
}

static bool can_direct(void)
{
	int fd = open("direct.qcow2", O_RDWR | O_CREAT | O_DIRECT | O_CLOEXEC, 0600);

	unlink("direct.qcow2");
	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

static void test_direct(void **state)
{
	uint64_t seed = test_seed(9);

	if (!can_direct())
		skip();
	direct = true;
	round_trip("1.1", "64k", "", rnd(&seed));
	round_trip("0.10", "512", "", rnd(&seed));
	direct = false;
}

/* An internal snapshot is as it was after all kinds of writes over it. */
static void snapshot(const char *compat, const char *cluster, uint64_t seed)
{
	const char *image = temp_path("snap.qcow2"), *before = temp_path("before.raw");
	struct work *work;
	struct blk *blk;

	print_message("snapshot compat=%s cluster_size=%s\n", compat, cluster);
	assert_int_equal(shell("qemu-img create -f qcow2 -o compat=%s,cluster_size=%s %s %llu",
			       compat, cluster, image, DISK_BYTES), 0);
	blk = open_image(image, false);
	work = work_create(blk, 0, DISK_BYTES / 512, seed);
	work_run(work, loop, 20);
	assert_int_equal(blk_close(blk), 0);
	work_save(work, before, DISK_BYTES);
	assert_int_equal(shell("qemu-img snapshot -c one %s", image), 0);

	for (int i = 0; i < 2; i++) {
		work->blk = blk = open_image(image, false);
		work_run(work, loop, 30);
		assert_int_equal(blk_close(blk), 0);
		qemu_agrees(work, image);
		assert_int_equal(shell("qemu-img snapshot -c two%d %s", i, image), 0);
	}
	assert_int_equal(shell("qemu-img snapshot -a one %s", image), 0);
	assert_int_equal(shell("qemu-img check %s", image), 0);
	assert_int_equal(shell("qemu-img compare -f qcow2 -F raw %s %s", image, before), 0);
	work_destroy(work);
	unlink(image);
}

/* What was written is on disk some seconds later without a flush. */
static void test_timer(void **state)
{
	const char *image = temp_path("timer.qcow2");
	unsigned char buf[4096];
	struct loop_watch *watch;
	struct blk *blk;

	assert_int_equal(shell("qemu-img create -f qcow2 %s 8M", image), 0);
	blk = open_image(image, false);
	memset(buf, 'T', sizeof(buf));
	assert_int_equal(do_write(loop, blk, buf, sizeof(buf), 1 << 20), 0);
	assert_int_not_equal(shell("qemu-io -U -r -f qcow2 -c 'read -P 0x54 1M 4k' %s", image),
			     0);
	watch = loop_watch_timer(loop, 11000, quit_loop, loop);
	assert_int_equal(loop_run(loop), 0);
	loop_unwatch(loop, watch);
	assert_int_equal(shell("qemu-io -U -r -f qcow2 -c 'read -P 0x54 1M 4k' %s", image), 0);
	assert_int_equal(shell("qemu-img check -U %s", image), 0);
	assert_int_equal(blk_close(blk), 0);
}

static void test_snapshot(void **state)
{
	uint64_t seed = test_seed(8);

	snapshot("1.1", "64k", rnd(&seed));
	snapshot("0.10", "4k", rnd(&seed));
	snapshot("1.1", "512", rnd(&seed));
	snapshot("1.1", "2M", rnd(&seed));
}

/* What QEMU writes, discards and zeroes, read by us. */
static void qemu_wrote(const char *compat, const char *cluster)
{
	const char *image = temp_path("qemu.qcow2"), *raw = temp_path("qemu.raw");
	unsigned char *want = malloc(1 << 20), *got = malloc(1 << 20);
	struct blk *blk;
	FILE *f;

	assert_int_equal(shell("qemu-img create -f qcow2 -o compat=%s,cluster_size=%s %s %llu",
			       compat, cluster, image, DISK_BYTES), 0);
	assert_int_equal(shell("qemu-io -f qcow2 -c 'write -P 1 0 3M' -c 'write -P 2 1000k 5k' "
			       "-c 'write -z 256k 300k' -c 'discard 2M 1M' -c 'write -P 3 40M 8M' "
			       "-c 'write -z -u 41M 1M' -c 'write -P 9 2500k 512' "
			       "-c 'write -P 7 10000k 1M' %s", image), 0);
	assert_int_equal(shell("qemu-img convert -f qcow2 -O raw %s %s", image, raw), 0);
	blk = open_image(image, true);
	f = fopen(raw, "r");
	assert_non_null(f);
	for (uint64_t at = 0; at < DISK_BYTES; at += 1 << 20) {
		assert_int_equal(fread(want, 1, 1 << 20, f), 1 << 20);
		assert_int_equal(do_read(loop, blk, got, 1 << 20, at), 0);
		assert_memory_equal(want, got, 1 << 20);
		assert_int_equal(blk_read_sync(blk, got, 70000, at + 12345), 0);
		assert_memory_equal(want + 12345, got, 70000);
	}
	fclose(f);
	assert_int_equal(blk_close(blk), 0);
	unlink(image);
	free(want);
	free(got);
}

static void test_qemu_wrote(void **state)
{
	static const char *const clusters[] = {"512", "4k", "64k", "2M"};

	for (size_t i = 0; i < ARRAY_LEN(clusters); i++) {
		qemu_wrote("0.10", clusters[i]);
		qemu_wrote("1.1", clusters[i]);
	}
}

/* QEMU's tools keep off an image that is open, and we of one that QEMU has. */
static void test_live_image(void **state)
{
	const char *image = temp_path("live.qcow2");
	struct blk *blk;

	assert_int_equal(shell("qemu-img create -f qcow2 %s 8M", image), 0);
	blk = open_image(image, false);
	assert_int_not_equal(shell("qemu-img check %s", image), 0);
	assert_int_not_equal(shell("qemu-io -c 'write 0 512' %s", image), 0);
	assert_int_not_equal(shell("qemu-img info %s", image), 0);
	assert_int_equal(blk_close(blk), 0);
	assert_int_equal(shell("qemu-io -c 'write 0 512' %s", image), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_qemu_wrote),
		cmocka_unit_test(test_live_image),
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_timer),
		cmocka_unit_test(test_direct),
		cmocka_unit_test(test_snapshot),
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
