/* SPDX-License-Identifier: MIT */
/* Damaged, hostile and unsupported images: refused by name at open. */
#include "image.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "util/util.h"

static const char *image;

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
		image_make(cases[i].options);
		image_put(image_base(cases[i].base) + cases[i].at, cases[i].bytes, cases[i].value);
		image_refused(cases[i].what, false, cases[i].says);
	}
}

static void test_backing_name(void **state)
{
	image_make("compat=1.1");
	image_put(8, 8, 0x200);
	image_put(16, 4, 1024);
	image_refused("backing name long", false, "name is not in the first cluster");
	image_put(16, 4, 1000);
	image_put(8, 8, 0xfff0);
	image_refused("backing name past the cluster", false, "name is not in the first cluster");
	image_put(8, 8, 1ull << 63);
	image_refused("backing name far away", false, "name is not in the first cluster");
}

static void test_features(void **state)
{
	const char *raw = temp_path("base.raw");

	assert_int_equal(shell("qemu-img create -f raw %s 1M", raw), 0);
	assert_int_equal(shell("qemu-img create -f qcow2 -b %s -F raw %s", raw, image), 0);
	image_refused("backing", false, "base.raw");
	assert_int_equal(shell("qemu-img create -f qcow2 -o extended_l2=on %s 1M", image), 0);
	image_refused("extended_l2", true, "extended_l2");
	assert_int_equal(shell("qemu-img create -f qcow2 -o compression_type=zstd %s 1M", image),
			 0);
	image_put(104, 1, 2);
	image_refused("compression type 2", true, "this kind of compression");
	assert_int_equal(shell("qemu-img create -f qcow2 -o data_file=%s %s 1M",
			       temp_path("data.raw"), image), 0);
	image_refused("data_file", true, "data file");
	image_make("compat=1.1"); /* qemu-img times its hash first, and on a busy machine fails */
	image_put(32, 4, 2);
	image_refused("luks", true, "LUKS");
}

static void test_dirty_and_corrupt_bits(void **state)
{
	struct blk *blk;

	image_make("compat=1.1");
	image_put(72, 8, 1);
	image_refused("dirty", false, "disk check --repair");
	assert_int_equal(image_open(true, &blk), 0);
	assert_int_equal(blk_close(blk), 0);
	image_put(72, 8, 2);
	image_refused("corrupt", false, "disk check --repair");
	assert_int_equal(image_open(true, &blk), 0);
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
		image_make("compat=1.1");
		assert_int_equal(truncate(image, (off_t)sizes[i]), 0);
		capture_log_start();
		if (image_open(true, &blk) == 0) {
			assert_int_equal(do_read(image_loop, blk, buf, 256 << 10, 0), 0);
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

	image_make(options);
	assert_int_equal(truncate(image, 1ll << 42), 0);
	getrusage(RUSAGE_SELF, &before);
	capture_log_start();
	assert_int_equal(image_open(false, &blk), 0);
	do_write(image_loop, blk, buf, 512, 32 << 20);
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

static long peak_kib(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_maxrss;
}

/* L2 tables, and nothing in them, so far apart that each needs some memory of its own. */
static void test_scattered(void **state)
{
	const uint64_t entries = 1 << 19, apart = 16 << 20;
	uint64_t *l1 = malloc(entries * 8), size = htobe64(entries << 21), at = htobe64(64 << 10);
	uint64_t reftable_at = htobe64(6 << 20);
	uint32_t count = htobe32((uint32_t)entries), reftable_clusters = htobe32(160);
	long before = peak_kib();
	struct blk *blk;
	const char *log;
	int fd, r;

	shell("qemu-img create -q -f qcow2 -o cluster_size=4k,refcount_bits=1 %s 1M", image);
	fd = open(image, O_RDWR | O_CLOEXEC);
	for (uint64_t i = 0; i < entries; i++)
		l1[i] = htobe64((8 << 20) + i * apart);
	assert_int_equal(pwrite(fd, &size, 8, 24), 8);
	assert_int_equal(pwrite(fd, &count, 4, 36), 4);
	assert_int_equal(pwrite(fd, &at, 8, 40), 8);
	assert_int_equal(pwrite(fd, &reftable_at, 8, 48), 8);
	assert_int_equal(pwrite(fd, &reftable_clusters, 4, 56), 4);
	assert_int_equal(pwrite(fd, l1, entries * 8, 64 << 10), (ssize_t)(entries * 8));
	assert_int_equal(ftruncate(fd, (off_t)((entries + 1) * apart)), 0);
	close(fd);
	free(l1);
	capture_log_start();
	r = image_open(true, &blk);
	log = capture_log_end();
	if (r != -EFBIG || !strstr(log, "too far apart"))
		fail_msg("%d: %s", r, log);
	assert_true(peak_kib() - before < 256 << 10);
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
		cmocka_unit_test(test_scattered),
	};
	int r;

	if (!image_begin())
		return 77;
	image = image_path();
	r = cmocka_run_group_tests(tests, NULL, NULL);
	loop_destroy(image_loop);
	return r;
}
