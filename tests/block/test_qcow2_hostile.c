/* SPDX-License-Identifier: MIT */
/* Damage that shows only at run time: EIO, the image marked, no more writes. */
#include "image.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "block/qcow2/format.h"

static const char *image;

/* Operation `op` on the first cluster fails, marks the image, and ends all writing. */
static void bad_entry(const char *options, uint64_t entry, enum blk_op op, const char *says)
{
	static unsigned char buf[65536], l1[512], now[512];
	struct blk *blk;
	int fd;

	image_make(options);
	image_put(image_base(L2), 8, entry);
	fd = open(image, O_RDONLY | O_CLOEXEC);
	assert_int_equal(pread(fd, l1, sizeof(l1), (off_t)image_base(L1)), sizeof(l1));
	capture_log_start();
	assert_int_equal(image_open(false, &blk), 0);
	if (op == BLK_READ)
		assert_int_equal(do_read(image_loop, blk, buf, sizeof(buf), 0), -EIO);
	else if (op == BLK_WRITE)
		assert_int_equal(do_write(image_loop, blk, buf, 512, 0), -EIO);
	else
		assert_int_equal(do_op(image_loop, blk, op, 0, 65536), -EIO);
	assert_int_equal(do_write(image_loop, blk, buf, 512, 32 << 20), -EIO);
	assert_int_equal(do_read(image_loop, blk, buf, 512, 65536), 0);
	assert_int_equal(buf[0], 5);
	blk_close(blk);
	assert_int_equal(pread(fd, now, sizeof(now), (off_t)image_base(L1)), sizeof(now));
	assert_memory_equal(l1, now, sizeof(l1));
	close(fd);
	image_marked(says, capture_log_end());
}

static void test_bad_entries(void **state)
{
	const char *place = "out of place", *meta = "metadata";

	bad_entry("compat=1.1", 0x8000000000050200, BLK_READ, place);
	bad_entry("compat=1.1", 0x8000000000050200, BLK_WRITE, place);
	bad_entry("compat=1.1", 0x8000000000050200, BLK_DISCARD, place);
	bad_entry("compat=1.1", 0x80f0000000050000, BLK_READ, place);
	bad_entry("compat=1.1", 0x80f0000000050000, BLK_WRITE, place);
	bad_entry("compat=1.1", 0x0000000000050200, BLK_WRITE, place);
	bad_entry("compat=1.1", 0x4004000000000000, BLK_READ, place);
	bad_entry("compat=1.1", 0x4004000000000000, BLK_WRITE, place);
	bad_entry("compat=1.1", 0x4004000000000000, BLK_DISCARD, place);
	bad_entry("compat=1.1", 0x4004000000000000, BLK_WRITE_ZEROES, place);
	bad_entry("compat=1.1", 0x4000000000000000, BLK_READ, place);
	bad_entry("compat=1.1", 0x8000000000030000, BLK_WRITE, meta);
	bad_entry("compat=1.1", 0x8000000000030000, BLK_DISCARD, meta);
	bad_entry("compat=1.1", 0x8000000000030001, BLK_WRITE, meta);
	bad_entry("compat=1.1", 0x8000000000010000, BLK_WRITE_ZEROES, meta);
}

/* Version 2 has nowhere to mark it. */
static void test_bad_entry_v2(void **state)
{
	struct blk *blk;
	unsigned char buf[512];

	image_make("compat=0.10");
	image_put(image_base(L2), 8, 0x0000000000030000); /* L1, and shared */
	capture_log_start();
	assert_int_equal(image_open(false, &blk), 0);
	do_op(image_loop, blk, BLK_DISCARD, 0, 65536);
	assert_int_equal(do_write(image_loop, blk, buf, 512, 0), -EIO);
	blk_close(blk);
	assert_non_null(strstr(capture_log_end(), "metadata"));
}

/* An allocating write fails, and the image keeps every byte but for the corrupt bit. */
static void nothing_touched(void)
{
	const char *copy = temp_path("copy.qcow2");
	unsigned char buf[512] = {0};
	struct blk *blk;

	assert_int_equal(shell("cp %s %s", image, copy), 0);
	capture_log_start();
	assert_int_equal(image_open(false, &blk), 0);
	assert_int_equal(do_write(image_loop, blk, buf, 512, 32 << 20), -EIO);
	blk_close(blk);
	image_marked("metadata", capture_log_end());
	image_put(72, 8, 0);
	assert_int_equal(shell("cmp %s %s", image, copy), 0);
}

/* Refcounts that call metadata free must not get it overwritten, nor what lies beside it. */
static void test_refcounts_zero(void **state)
{
	image_make("compat=1.1");
	for (unsigned int i = 0; i < 16; i++)
		image_put(image_base(REFBLOCK) + 2 * i, 2, 0);
	nothing_touched();
	image_make("compat=1.1");
	image_put(image_base(REFTABLE), 8, 0);
	nothing_touched();
}

/* Far behind the end of the file, where nothing was counted yet. */
static void test_cluster_far_away(void **state)
{
	unsigned char buf[512] = {0};
	struct blk *blk;

	image_make("compat=0.10");
	image_put(image_base(L2), 8, 0x8000000040000000);
	capture_log_start();
	assert_int_equal(image_open(false, &blk), 0);
	assert_int_equal(do_op(image_loop, blk, BLK_DISCARD, 0, 65536), 0);
	do_op(image_loop, blk, BLK_FLUSH, 0, 0);
	do_op(image_loop, blk, BLK_FLUSH, 0, 0);
	assert_int_equal(do_write(image_loop, blk, buf, 512, 0), -EIO);
	blk_close(blk);
	assert_non_null(strstr(capture_log_end(), "counted as free"));
}

/* Of clusters that are given up together each is looked at, not the first alone. */
static void second_is_bad(const char *options, uint64_t bits, enum blk_op op)
{
	static unsigned char buf[131072];
	struct blk *blk;

	image_make(options);
	image_put(image_base(L2), 8, bits | (image_base(L2) + 0x10000));
	image_put(image_base(L2) + 8, 8, bits | (image_base(L2) + 0x30200));
	capture_log_start();
	assert_int_equal(image_open(false, &blk), 0);
	assert_int_equal(do_iov(image_loop, blk, op, true, 0, &(struct iovec){buf, sizeof(buf)}, 1,
				sizeof(buf)), -EIO);
	do_op(image_loop, blk, BLK_FLUSH, 0, 0);
	blk_close(blk);
	assert_non_null(strstr(capture_log_end(), "out of place"));
	assert_int_equal(shell("qemu-io -r -f qcow2 -c 'read -P 5 128k 64k' %s", image), 0);
}

static void test_second_is_bad(void **state)
{
	second_is_bad("compat=0.10", QCOW2_COPIED, BLK_DISCARD);
	second_is_bad("compat=1.1", 0, BLK_WRITE);
	second_is_bad("compat=1.1", 0, BLK_WRITE_ZEROES);
}

/* A reference that was never counted is found when it is dropped. */
static void test_refcount_of_used_zero(void **state)
{
	uint64_t data;
	unsigned char buf[512] = {0};
	struct blk *blk;

	image_make("compat=0.10");
	data = image_get(image_base(L2)) & 0x00fffffffffffe00ull;
	image_put(image_base(REFBLOCK) + 2 * (data >> 16), 2, 0);
	capture_log_start();
	assert_int_equal(image_open(false, &blk), 0);
	assert_int_equal(do_op(image_loop, blk, BLK_DISCARD, 0, 65536), 0);
	do_op(image_loop, blk, BLK_FLUSH, 0, 0);
	do_op(image_loop, blk, BLK_FLUSH, 0, 0);
	assert_int_equal(do_write(image_loop, blk, buf, 512, 0), -EIO);
	blk_close(blk);
	assert_non_null(strstr(capture_log_end(), "counted as free"));
}

/* Written to, a truncated image grows again, and nothing of it is cut off at the end. */
static void test_truncated_written(void **state)
{
	unsigned char buf[4096];
	uint64_t data;
	struct blk *blk;

	image_make("compat=1.1");
	data = image_get(image_base(L2) + 8 * 3) & 0x00fffffffffffe00ull;
	assert_int_equal(truncate(image, (off_t)data - 65536), 0);
	assert_int_equal(image_open(false, &blk), 0);
	memset(buf, 'z', sizeof(buf));
	assert_int_equal(do_write(image_loop, blk, buf, 4096, 3 * 65536), 0);
	assert_int_equal(do_write(image_loop, blk, buf, 4096, 40 << 20), 0);
	assert_int_equal(blk_close(blk), 0);
	assert_int_equal(shell("qemu-img check %s", image), 0);
	assert_int_equal(shell("qemu-io -f qcow2 -c 'read -P 0x7a 192k 4k' "
			       "-c 'read -P 0x7a 40M 4k' -c 'read -P 5 0 64k' %s", image), 0);
}

/* The same where the cluster written to is kept below a zero flag, far behind the end. */
static void test_truncated_kept(void **state)
{
	unsigned char buf[4096];
	struct blk *blk;

	image_make("compat=1.1");
	image_put(image_base(REFBLOCK) + 2 * 20, 2, 1);
	image_put(image_base(L2), 8, QCOW2_COPIED | QCOW2_ZERO | 20 << 16);
	assert_int_equal(image_open(false, &blk), 0);
	memset(buf, 'z', sizeof(buf));
	assert_int_equal(do_write(image_loop, blk, buf, 4096, 0), 0);
	assert_int_equal(do_write(image_loop, blk, buf, 4096, 40 << 20), 0);
	assert_int_equal(blk_close(blk), 0);
	assert_int_equal(shell("qemu-img check %s || test $? = 3", image), 0);
	assert_int_equal(shell("qemu-io -f qcow2 -c 'read -P 0x7a 0 4k' "
			       "-c 'read -P 0x7a 40M 4k' %s", image), 0);
}

/* Bitmaps would go stale: QEMU is told before the first write. */
static void test_autoclear(void **state)
{
	struct blk *blk;

	image_make("compat=1.1");
	if (shell("qemu-img bitmap --add -f qcow2 %s b", image))
		return;
	assert_int_equal(image_get(88) & 1, 1);
	assert_int_equal(image_open(true, &blk), 0);
	assert_int_equal(blk_close(blk), 0);
	assert_int_equal(image_get(88) & 1, 1);
	assert_int_equal(image_open(false, &blk), 0);
	assert_int_equal(blk_close(blk), 0);
	assert_int_equal(image_get(88), 0);
	assert_int_equal(shell("qemu-img check %s || test $? = 3", image), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bad_entries),
		cmocka_unit_test(test_bad_entry_v2),
		cmocka_unit_test(test_refcounts_zero),
		cmocka_unit_test(test_refcount_of_used_zero),
		cmocka_unit_test(test_cluster_far_away),
		cmocka_unit_test(test_second_is_bad),
		cmocka_unit_test(test_truncated_written),
		cmocka_unit_test(test_truncated_kept),
		cmocka_unit_test(test_autoclear),
	};
	int r;

	if (!image_begin())
		return 77;
	image = image_path();
	r = cmocka_run_group_tests(tests, NULL, NULL);
	loop_destroy(image_loop);
	return r;
}
