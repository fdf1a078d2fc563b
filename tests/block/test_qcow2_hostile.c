/* SPDX-License-Identifier: MIT */
/* Damaged, hostile and unsupported images: refused by name at open, or EIO and marked. */
#include "harness.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "block/qcow2_format.h"
#include "util/util.h"

static struct loop *loop;
static const char *image;

/* --- images and their bytes --- */

static uint64_t get(uint64_t at)
{
	int fd = open(image, O_RDONLY | O_CLOEXEC);
	uint64_t value = 0;

	assert_int_equal(pread(fd, &value, 8, (off_t)at), 8);
	close(fd);
	return be64toh(value);
}

static void put(uint64_t at, unsigned int bytes, uint64_t value)
{
	uint64_t wire = htobe64(value << (64 - 8 * bytes));
	int fd = open(image, O_WRONLY | O_CLOEXEC);

	assert_int_equal(pwrite(fd, &wire, bytes, (off_t)at), bytes);
	close(fd);
}

enum base {
	HEADER,
	L1,
	L2,       /* the first */
	REFTABLE,
	REFBLOCK, /* the first */
};

static uint64_t base_of(enum base base)
{
	switch (base) {
	case HEADER:
		return 0;
	case L1:
		return get(40);
	case L2:
		return get(get(40)) & 0x00fffffffffffe00ull;
	case REFTABLE:
		return get(48);
	case REFBLOCK:
		return get(get(48));
	}
	return 0;
}

static void make(const char *options)
{
	assert_int_equal(shell("qemu-img create -f qcow2 -o %s %s 64M", options, image), 0);
	assert_int_equal(shell("qemu-io -f qcow2 -c 'write -P 5 0 256k' %s", image), 0);
}

static int open_image(bool readonly, struct blk **out)
{
	struct blk_options opts = {.path = image, .readonly = readonly};

	return blk_open(loop, &opts, out);
}

static void refused(const char *what, bool readonly, const char *says)
{
	struct blk *blk;
	const char *log;
	int r;

	capture_log_start();
	r = open_image(readonly, &blk);
	log = capture_log_end();
	if (r >= 0)
		fail_msg("%s: opened", what);
	if (!strstr(log, says) || strchr(log, '\n') != strrchr(log, '\n'))
		fail_msg("%s: \"%s\" expected in: %s", what, says, log);
}

/* --- at open --- */

static const struct {
	const char *what;
	const char *options;
	enum base base;
	uint64_t at;
	unsigned int bytes;
	uint64_t value;
	const char *says;
} cases[] = {
	{"version 1", "compat=1.1", HEADER, 4, 4, 1, "qcow2"},
	{"cluster bits 8", "compat=1.1", HEADER, 20, 4, 8, "cluster size"},
	{"cluster bits 22", "compat=1.1", HEADER, 20, 4, 22, "cluster size"},
	{"cluster bits 27", "compat=1.1", HEADER, 20, 4, 27, "cluster size"},
	{"cluster bits huge", "compat=0.10", HEADER, 20, 4, 0xffffffff, "cluster size"},
	{"65 TiB", "compat=1.1", HEADER, 24, 8, 65ull << 40, "64 TiB"},
	{"size all ones", "compat=1.1", HEADER, 24, 8, UINT64_MAX, "64 TiB"},
	{"size beyond L1", "compat=1.1", HEADER, 24, 8, 1ull << 40, "too short"},
	{"size 0", "compat=1.1", HEADER, 24, 8, 0, "no size"},
	{"L1 empty", "compat=1.1", HEADER, 36, 4, 0, "too short"},
	{"L1 huge", "compat=1.1", HEADER, 36, 4, 0xffffffff, "L1 table is too large"},
	{"L1 past the end", "compat=1.1", HEADER, 36, 4, 4 << 20, "L1 table"},
	{"L1 unaligned", "compat=1.1", HEADER, 40, 8, 0x30008, "L1 table"},
	{"L1 over the header", "compat=1.1", HEADER, 40, 8, 0, "L1 table"},
	{"L1 far away", "compat=1.1", HEADER, 40, 8, 1ull << 62, "L1 table"},
	{"L1 over the refcount table", "compat=1.1", HEADER, 40, 8, 0x10000, "overlap"},
	{"L1 over a refcount block", "compat=1.1", HEADER, 40, 8, 0x20000, "overlap"},
	{"reftable empty", "compat=1.1", HEADER, 56, 4, 0, "refcount table"},
	{"reftable huge", "compat=1.1", HEADER, 56, 4, 0xffffffff, "refcount table"},
	{"reftable over the header", "compat=1.1", HEADER, 48, 8, 0, "refcount table"},
	{"reftable unaligned", "compat=1.1", HEADER, 48, 8, 0x10200, "refcount table"},
	{"reftable past the end", "compat=1.1", HEADER, 48, 8, 1ull << 40, "refcount table"},
	{"snapshots many", "compat=1.1", HEADER, 60, 4, 65537, "snapshots"},
	{"snapshots nowhere", "compat=1.1", HEADER, 60, 4, 1, "snapshot table"},
	{"encryption unknown", "compat=1.1", HEADER, 32, 4, 77, "encryption"},
	{"encryption AES", "compat=1.1", HEADER, 32, 4, 1, "AES"},
	{"header short", "compat=1.1", HEADER, 100, 4, 96, "header length"},
	{"header odd", "compat=1.1", HEADER, 100, 4, 109, "header length"},
	{"header long", "compat=1.1", HEADER, 100, 4, 1 << 20, "header length"},
	{"refcount width", "compat=1.1", HEADER, 96, 4, 7, "refcount width"},
	{"refcount width 32 bits", "compat=1.1", HEADER, 96, 4, 5, "16 bits"},
	{"unknown feature", "compat=1.1", HEADER, 72, 8, 1ull << 33, "bit 33"},
	{"compression bit", "compat=1.1", HEADER, 72, 8, 1 << 3, "compression"},
	{"extension long", "compat=1.1", HEADER, 116, 4, 1 << 30, "extension"},
	{"L2 unaligned", "compat=1.1", L1, 0, 8, 0x8000000000050200, "L2 table out of place"},
	{"L2 past the end", "compat=1.1", L1, 0, 8, 0x8000010000000000, "L2 table out of place"},
	{"L2 over L1", "compat=1.1", L1, 0, 8, 0x8000000000030000, "overlap"},
	{"L2 over the header's extensions", "compat=1.1,cluster_size=512", L1, 0, 8,
	 0x8000000000000200, "L2 tables overlap"},
	{"refblock unaligned", "compat=1.1", REFTABLE, 0, 8, 0x20400, "refcount block out of"},
	{"refblock past the end", "compat=1.1", REFTABLE, 8, 8, 1ull << 44, "refcount block out"},
	{"refblock twice", "compat=1.1", REFTABLE, 8, 8, 0x20000, "refcount blocks overlap"},
	{"refblock over the header", "compat=1.1", REFTABLE, 8, 8, 0x10000, "overlap"},
};

static void test_refused(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		make(cases[i].options);
		put(base_of(cases[i].base) + cases[i].at, cases[i].bytes, cases[i].value);
		refused(cases[i].what, false, cases[i].says);
	}
}

static void test_backing_name(void **state)
{
	make("compat=1.1");
	put(8, 8, 0x200);
	put(16, 4, 1024);
	refused("backing name long", false, "name is not in the first cluster");
	put(16, 4, 1000);
	put(8, 8, 0xfff0);
	refused("backing name past the cluster", false, "name is not in the first cluster");
	put(8, 8, 1ull << 63);
	refused("backing name far away", false, "name is not in the first cluster");
}

static void test_features(void **state)
{
	const char *raw = temp_path("base.raw");

	assert_int_equal(shell("qemu-img create -f raw %s 1M", raw), 0);
	assert_int_equal(shell("qemu-img create -f qcow2 -b %s -F raw %s", raw, image), 0);
	refused("backing", false, "base.raw");
	assert_int_equal(shell("qemu-img create -f qcow2 -o extended_l2=on %s 1M", image), 0);
	refused("extended_l2", true, "extended_l2");
	assert_int_equal(shell("qemu-img create -f qcow2 -o compression_type=zstd %s 1M", image),
			 0);
	put(104, 1, 2);
	refused("compression type 2", true, "this kind of compression");
	assert_int_equal(shell("qemu-img create -f qcow2 -o data_file=%s %s 1M",
			       temp_path("data.raw"), image), 0);
	refused("data_file", true, "data file");
	assert_int_equal(shell("qemu-img create -f qcow2 --object secret,id=s,data=x -o "
			       "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10 "
			       "%s 1M", image), 0);
	refused("luks", true, "LUKS");
}

static void test_dirty_and_corrupt_bits(void **state)
{
	struct blk *blk;

	make("compat=1.1");
	put(72, 8, 1);
	refused("dirty", false, "qemu-img check");
	assert_int_equal(open_image(true, &blk), 0);
	assert_int_equal(blk_close(blk), 0);
	put(72, 8, 2);
	refused("corrupt", false, "qemu-img check");
	assert_int_equal(open_image(true, &blk), 0);
	assert_int_equal(blk_close(blk), 0);
}

/* Every length: an error or not, but nothing worse. What is cut off reads as zero. */
static void test_truncated(void **state)
{
	static const uint64_t sizes[] = {0, 1, 71, 72, 100, 104, 511, 512, 4096, 65535, 65536,
					 65537, 131072, 196608, 262144, 262145, 300000, 400000};
	unsigned char *buf = malloc(256 << 10);
	struct blk *blk;

	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		make("compat=1.1");
		assert_int_equal(truncate(image, (off_t)sizes[i]), 0);
		capture_log_start();
		if (open_image(true, &blk) == 0) {
			assert_int_equal(do_read(loop, blk, buf, 256 << 10, 0), 0);
			assert_int_equal(blk_close(blk), 0);
		}
		capture_log_end();
	}
	free(buf);
}

/* A file that claims everything and holds nothing must cost next to no memory. */
static void sparse_giant(const char *options)
{
	struct rusage before, after;
	unsigned char buf[512] = {0};
	struct blk *blk;

	make(options);
	assert_int_equal(truncate(image, 1ll << 42), 0);
	getrusage(RUSAGE_SELF, &before);
	capture_log_start();
	assert_int_equal(open_image(false, &blk), 0);
	do_write(loop, blk, buf, 512, 32 << 20);
	getrusage(RUSAGE_SELF, &after);
	assert_true(after.ru_maxrss - before.ru_maxrss < 64 << 10);
	blk_close(blk);
	capture_log_end();
}

static void test_sparse_giant(void **state)
{
	sparse_giant("compat=1.1,cluster_size=2M");
	sparse_giant("compat=1.1,cluster_size=64k");
	sparse_giant("compat=1.1,cluster_size=512");
}

/* --- at run time --- */

static void expect_marked(const char *says, const char *log)
{
	if (!strstr(log, says))
		fail_msg("\"%s\" expected in: %s", says, log);
	assert_int_equal(get(72) & 2, 2);
	refused("marked", false, "marked as corrupt");
	assert_int_not_equal(shell("qemu-io -f qcow2 -c 'write 0 512' %s", image), 0);
}

/* Operation `op` on the first cluster fails, marks the image, and ends all writing. */
static void bad_entry(const char *options, uint64_t entry, enum blk_op op, const char *says)
{
	static unsigned char buf[65536], l1[512], now[512];
	struct blk *blk;
	int fd;

	make(options);
	put(base_of(L2), 8, entry);
	fd = open(image, O_RDONLY | O_CLOEXEC);
	assert_int_equal(pread(fd, l1, sizeof(l1), (off_t)base_of(L1)), sizeof(l1));
	capture_log_start();
	assert_int_equal(open_image(false, &blk), 0);
	if (op == BLK_READ)
		assert_int_equal(do_read(loop, blk, buf, sizeof(buf), 0), -EIO);
	else if (op == BLK_WRITE)
		assert_int_equal(do_write(loop, blk, buf, 512, 0), -EIO);
	else
		assert_int_equal(do_op(loop, blk, op, 0, 65536), -EIO);
	assert_int_equal(do_write(loop, blk, buf, 512, 32 << 20), -EIO);
	assert_int_equal(do_read(loop, blk, buf, 512, 65536), 0);
	assert_int_equal(buf[0], 5);
	blk_close(blk);
	assert_int_equal(pread(fd, now, sizeof(now), (off_t)base_of(L1)), sizeof(now));
	assert_memory_equal(l1, now, sizeof(l1));
	close(fd);
	expect_marked(says, capture_log_end());
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

	make("compat=0.10");
	put(base_of(L2), 8, 0x0000000000030000); /* L1, and shared */
	capture_log_start();
	assert_int_equal(open_image(false, &blk), 0);
	do_op(loop, blk, BLK_DISCARD, 0, 65536);
	assert_int_equal(do_write(loop, blk, buf, 512, 0), -EIO);
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
	assert_int_equal(open_image(false, &blk), 0);
	assert_int_equal(do_write(loop, blk, buf, 512, 32 << 20), -EIO);
	blk_close(blk);
	expect_marked("metadata", capture_log_end());
	put(72, 8, 0);
	assert_int_equal(shell("cmp %s %s", image, copy), 0);
}

/* Refcounts that call metadata free must not get it overwritten, nor what lies beside it. */
static void test_refcounts_zero(void **state)
{
	make("compat=1.1");
	for (unsigned int i = 0; i < 16; i++)
		put(base_of(REFBLOCK) + 2 * i, 2, 0);
	nothing_touched();
	make("compat=1.1");
	put(base_of(REFTABLE), 8, 0);
	nothing_touched();
}

/* Far behind the end of the file, where nothing was counted yet. */
static void test_cluster_far_away(void **state)
{
	unsigned char buf[512] = {0};
	struct blk *blk;

	make("compat=0.10");
	put(base_of(L2), 8, 0x8000000040000000);
	capture_log_start();
	assert_int_equal(open_image(false, &blk), 0);
	assert_int_equal(do_op(loop, blk, BLK_DISCARD, 0, 65536), 0);
	do_op(loop, blk, BLK_FLUSH, 0, 0);
	do_op(loop, blk, BLK_FLUSH, 0, 0);
	assert_int_equal(do_write(loop, blk, buf, 512, 0), -EIO);
	blk_close(blk);
	assert_non_null(strstr(capture_log_end(), "counted as free"));
}

/* Of clusters that are given up together each is looked at, not the first alone. */
static void second_is_bad(const char *options, uint64_t bits, enum blk_op op)
{
	static unsigned char buf[131072];
	struct blk *blk;

	make(options);
	put(base_of(L2), 8, bits | (base_of(L2) + 0x10000));
	put(base_of(L2) + 8, 8, bits | (base_of(L2) + 0x30200));
	capture_log_start();
	assert_int_equal(open_image(false, &blk), 0);
	assert_int_equal(do_iov(loop, blk, op, true, 0, &(struct iovec){buf, sizeof(buf)}, 1,
				sizeof(buf)), -EIO);
	do_op(loop, blk, BLK_FLUSH, 0, 0);
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

	make("compat=0.10");
	data = get(base_of(L2)) & 0x00fffffffffffe00ull;
	put(base_of(REFBLOCK) + 2 * (data >> 16), 2, 0);
	capture_log_start();
	assert_int_equal(open_image(false, &blk), 0);
	assert_int_equal(do_op(loop, blk, BLK_DISCARD, 0, 65536), 0);
	do_op(loop, blk, BLK_FLUSH, 0, 0);
	do_op(loop, blk, BLK_FLUSH, 0, 0);
	assert_int_equal(do_write(loop, blk, buf, 512, 0), -EIO);
	blk_close(blk);
	assert_non_null(strstr(capture_log_end(), "counted as free"));
}

/* Written to, a truncated image grows again, and nothing of it is cut off at the end. */
static void test_truncated_written(void **state)
{
	unsigned char buf[4096];
	uint64_t data;
	struct blk *blk;

	make("compat=1.1");
	data = get(base_of(L2) + 8 * 3) & 0x00fffffffffffe00ull;
	assert_int_equal(truncate(image, (off_t)data - 65536), 0);
	assert_int_equal(open_image(false, &blk), 0);
	memset(buf, 'z', sizeof(buf));
	assert_int_equal(do_write(loop, blk, buf, 4096, 3 * 65536), 0);
	assert_int_equal(do_write(loop, blk, buf, 4096, 40 << 20), 0);
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

	make("compat=1.1");
	put(base_of(REFBLOCK) + 2 * 20, 2, 1);
	put(base_of(L2), 8, QCOW2_COPIED | QCOW2_ZERO | 20 << 16);
	assert_int_equal(open_image(false, &blk), 0);
	memset(buf, 'z', sizeof(buf));
	assert_int_equal(do_write(loop, blk, buf, 4096, 0), 0);
	assert_int_equal(do_write(loop, blk, buf, 4096, 40 << 20), 0);
	assert_int_equal(blk_close(blk), 0);
	assert_int_equal(shell("qemu-img check %s || test $? = 3", image), 0);
	assert_int_equal(shell("qemu-io -f qcow2 -c 'read -P 0x7a 0 4k' "
			       "-c 'read -P 0x7a 40M 4k' %s", image), 0);
}

/* Bitmaps would go stale: QEMU is told before the first write. */
static void test_autoclear(void **state)
{
	struct blk *blk;

	make("compat=1.1");
	if (shell("qemu-img bitmap --add -f qcow2 %s b", image))
		return;
	assert_int_equal(get(88) & 1, 1);
	assert_int_equal(open_image(true, &blk), 0);
	assert_int_equal(blk_close(blk), 0);
	assert_int_equal(get(88) & 1, 1);
	assert_int_equal(open_image(false, &blk), 0);
	assert_int_equal(blk_close(blk), 0);
	assert_int_equal(get(88), 0);
	assert_int_equal(shell("qemu-img check %s || test $? = 3", image), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_backing_name),
		cmocka_unit_test(test_features),
		cmocka_unit_test(test_dirty_and_corrupt_bits),
		cmocka_unit_test(test_truncated),
		cmocka_unit_test(test_sparse_giant),
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

	if (!have_qemu_tools() || loop_create("test", &loop) < 0) {
		print_message("skipped: no qemu-img and qemu-io (apt install qemu-utils)\n");
		return 77;
	}
	image = temp_path("hostile.qcow2");
	r = cmocka_run_group_tests(tests, NULL, NULL);
	loop_destroy(loop);
	return r;
}
