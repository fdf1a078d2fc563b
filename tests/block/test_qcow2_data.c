/* SPDX-License-Identifier: MIT */
/*
 * External data files: QEMU makes the image, both write to it, and both read the same; of a raw
 * one the file alone is the disk. Which files are opened at all, and images that contradict
 * themselves.
 */
#include "image.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/qcow2/format.h"
#include "util/util.h"
#include "work.h"

#define DISK_BYTES (24ull << 20)
#define SECTORS (DISK_BYTES / 512)

static const char *image, *data;

static int try_open(struct blk_options opts, struct blk **out)
{
	opts.path = opts.path ? opts.path : image;
	return blk_open(image_loop, &opts, out);
}

static void make(const char *options)
{
	unlink(data);
	assert_int_equal(shell("qemu-img create -f qcow2 -o data_file=%s%s%s %s %llu", data,
			       *options ? "," : "", options, image, DISK_BYTES), 0);
}

/* --- both write, both read --- */

static void same_for_qemu(struct work *work, bool is_raw)
{
	const char *raw = temp_path("result.raw");

	assert_int_equal(shell("qemu-img check -f qcow2 %s", image), 0);
	assert_int_equal(shell("qemu-img convert -f qcow2 -O raw %s %s", image, raw), 0);
	assert_int_equal(work_compare_file(work, raw), 0);
	if (is_raw)
		assert_int_equal(shell("cmp %s %s", raw, data), 0);
}

/* QEMU writes over all kinds of what we left. */
static void qemu_writes(void)
{
	assert_int_equal(shell("qemu-io -f qcow2 -d unmap -c 'write -P 7 0 100k' "
			       "-c 'write -z 3M 2M' -c 'discard 7M 1M' -c 'write -P 8 7500k 3k' "
			       "-c 'write -P 9 20M 3M' -c 'write -z -u 21M 64k' %s", image), 0);
}

static void we_read(struct blk *blk)
{
	unsigned char *want = malloc(DISK_BYTES), *got = malloc(DISK_BYTES);
	const char *raw = temp_path("qemu.raw");
	int fd;

	assert_int_equal(shell("qemu-img convert -U -f qcow2 -O raw %s %s", image, raw), 0);
	fd = open(raw, O_RDONLY | O_CLOEXEC);
	assert_int_equal(pread(fd, want, DISK_BYTES, 0), DISK_BYTES);
	close(fd);
	assert_int_equal(do_read(image_loop, blk, got, DISK_BYTES, 0), 0);
	assert_memory_equal(want, got, DISK_BYTES);
	free(want);
	free(got);
}

static void both(const char *options, bool is_raw, bool is_backed, uint64_t seed)
{
	struct blk_options opts = {.data_file = data, .direct = seed % 2,
				   .backing = is_backed ? BLK_BACKING_ON : BLK_BACKING_OFF};
	struct work *work = work_create(NULL, 0, SECTORS, seed);
	const char *base = temp_path("base.raw");
	struct blk *blk;

	print_message("data file, %s\n", options);
	if (is_backed) {
		work_assume(work, 1, SECTORS / 2);
		work_save(work, base, DISK_BYTES / 2);
	}
	work->idle_discards = is_backed;
	make(options);
	for (int round = 0; round < 2; round++) {
		assert_int_equal(try_open(opts, &blk), 0);
		work->blk = blk;
		work_run(work, image_loop, 40);
		assert_int_equal(blk_close(blk), 0);
		work_closed(work);
		same_for_qemu(work, is_raw);
	}
	qemu_writes();
	assert_int_equal(try_open(opts, &blk), 0);
	we_read(blk);
	assert_int_equal(do_op(image_loop, blk, BLK_WRITE_ZEROES, 512, DISK_BYTES - 1024), 0);
	assert_int_equal(do_op(image_loop, blk, BLK_FLUSH, 0, 0), 0);
	we_read(blk);
	assert_int_equal(blk_close(blk), 0);
	assert_int_equal(shell("qemu-img check -f qcow2 %s", image), 0);
	work_destroy(work);
}

static void test_both(void **state)
{
	char backed[200];
	uint64_t seed = test_seed(31);

	snprintf(backed, sizeof(backed), "cluster_size=4k,backing_file=%s,backing_fmt=raw",
		 temp_path("base.raw"));
	both("cluster_size=64k", false, false, rnd(&seed));
	both("cluster_size=512", false, false, rnd(&seed));
	both("cluster_size=2M", false, false, rnd(&seed));
	both(backed, false, true, rnd(&seed));
	both("data_file_raw=on", true, false, rnd(&seed));
	both("data_file_raw=on,cluster_size=4k", true, false, rnd(&seed));
	both("data_file_raw=on,cluster_size=2M", true, false, rnd(&seed));
}

/* What the data file holds elsewhere, from before, is not to be seen. */
static void test_stale(void **state)
{
	static unsigned char buf[131072];
	struct blk *blk;

	make("");
	assert_int_equal(shell("(yes stale | head -c 24M >%s)", data), 0);
	assert_int_equal(try_open((struct blk_options){.data_file = data}, &blk), 0);
	assert_int_equal(do_write(image_loop, blk, buf, 512, 70000 / 512 * 512), 0);
	assert_int_equal(do_write(image_loop, blk, buf, 512, 512), 0);
	assert_int_equal(do_op(image_loop, blk, BLK_DISCARD, 65536, 65536), 0);
	assert_int_equal(do_write(image_loop, blk, buf, 4096, 65536 + 8192), 0);
	assert_int_equal(do_read(image_loop, blk, buf, sizeof(buf), 0), 0);
	for (size_t i = 0; i < sizeof(buf); i++)
		assert_int_equal(buf[i], 0);
	assert_int_equal(blk_close(blk), 0);
	assert_int_equal(shell("qemu-io -f qcow2 -c 'read -P 0 0 24M' %s", image), 0);
}

/* --- which files --- */

static void refused(struct blk_options opts, const char *says)
{
	struct blk *blk;
	const char *log;
	int r;

	capture_log_start();
	r = try_open(opts, &blk);
	log = capture_log_end();
	if (r >= 0)
		fail_msg("opened, not \"%s\"", says);
	if (!strstr(log, says) || strchr(log, '\n') != strrchr(log, '\n'))
		fail_msg("\"%s\" expected in: %s", says, log);
}

static void opens(struct blk_options opts)
{
	struct blk *blk;

	assert_int_equal(try_open(opts, &blk), 0);
	assert_int_equal(blk_close(blk), 0);
}

#define WITH(...) ((struct blk_options){__VA_ARGS__})

static void test_policy(void **state)
{
	const char *elsewhere = temp_path("inside"), *plain = temp_path("plain.qcow2");

	make("");
	assert_int_equal(shell("mkdir -p %s && qemu-img create -f qcow2 %s 1M", elsewhere, plain),
			 0);
	refused(WITH(.backing = BLK_BACKING_OFF), "data-file=FILE");
	opens(WITH(.backing = BLK_BACKING_ON));
	opens(WITH(.backing = BLK_BACKING_ON, .backing_dir = temp_dir()));
	refused(WITH(.backing = BLK_BACKING_ON, .backing_dir = elsewhere), "does not lie below");
	opens(WITH(.data_file = data));
	opens(WITH(.data_file = data, .readonly = true));
	refused(WITH(.data_file = temp_path("none.data")), "no such file");
	refused(WITH(.data_file = temp_dir()), "directory");
	refused(WITH(.data_file = image), "in use already");
	refused(WITH(.data_file = image, .readonly = true), "one of the disk's other files");
	refused(WITH(.path = plain, .data_file = data), "has no data file");
	refused(WITH(.path = data, .data_file = data), "has no data file");
}

/* Two that write to one file, of whatever images. */
static void test_locks(void **state)
{
	const char *other = temp_path("other.qcow2");
	struct blk *blk;

	make("");
	assert_int_equal(shell("cp %s %s", image, other), 0);
	assert_int_equal(try_open(WITH(.data_file = data), &blk), 0);
	refused(WITH(.path = other, .data_file = data), "in use already");
	assert_int_not_equal(shell("qemu-io -f raw -c 'write 0 512' %s", data), 0);
	assert_int_equal(blk_close(blk), 0);
	assert_int_equal(shell("qemu-io -f raw -c 'write 0 512' %s", data), 0);
}

/* The data file's name, at 120, becomes what `bytes` are; it is the last extension then. */
static void rename_data(const char *bytes, size_t len)
{
	int fd = open(image, O_RDWR | O_CLOEXEC);
	char name[64] = "";

	memcpy(name, bytes, len);
	assert_int_equal(pwrite(fd, name, sizeof(name), 120), sizeof(name));
	close(fd);
	image_put(116, 4, len);
}

static void test_names(void **state)
{
	make("");
	rename_data("nbd:x:10", 8);
	refused(WITH(.backing = BLK_BACKING_ON), "not a plain file");
	opens(WITH(.data_file = data)); /* whatever the image says */
	rename_data("/dev/null", 9);
	refused(WITH(.backing = BLK_BACKING_ON), "neither a file");
	rename_data("a\0b", 3);
	refused(WITH(.data_file = data), "bad name of the data file");
	image_put(116, 4, 65536);
	refused(WITH(.data_file = data), "extension exceeds");
	image_put(116, 4, 2000);
	refused(WITH(.data_file = data), "bad name of the data file");
	make("");
	image_put(112, 4, 0x12345678); /* not said */
	refused(WITH(.backing = BLK_BACKING_ON), "does not say which");
	opens(WITH(.data_file = data));
	make("");
	image_put(72, 8, 0); /* a name without the feature means nothing */
	opens(WITH(.backing = BLK_BACKING_OFF));
	refused(WITH(.data_file = data), "has no data file");
}

/* --- contradictions --- */

static void test_excluded(void **state)
{
	make("data_file_raw=on");
	image_put(60, 4, 1);
	image_put(64, 8, 65536);
	refused(WITH(.data_file = data), "snapshots beside");
	make("data_file_raw=on");
	image_put(8, 8, 0x400);
	image_put(16, 4, 4);
	refused(WITH(.data_file = data, .backing = BLK_BACKING_ON), "below a raw data file");
	make("data_file_raw=on");
	assert_int_equal(truncate(data, 1 << 20), 0);
	refused(WITH(.data_file = data), "shorter than the disk");
	assert_int_equal(truncate(data, 0), 0);
	refused(WITH(.data_file = data), "empty");
	make("");
	assert_int_equal(truncate(data, 4096), 0);
	opens(WITH(.data_file = data));
}

/* The first cluster's entry is `entry`: what is done there fails, and marks the image. */
static void bad_entry(const char *options, uint64_t at, uint64_t entry, enum blk_op op)
{
	static unsigned char buf[65536];
	struct blk *blk;

	make(options);
	assert_int_equal(shell("qemu-io -f qcow2 -c 'write -P 5 0 256k' %s", image), 0);
	image_put(image_base(L2) + 8 * at, 8, entry);
	capture_log_start();
	assert_int_equal(try_open(WITH(.data_file = data), &blk), 0);
	if (op == BLK_READ)
		assert_int_equal(do_read(image_loop, blk, buf, 512, at << 16), -EIO);
	else if (op == BLK_WRITE)
		assert_int_equal(do_write(image_loop, blk, buf, 512, at << 16), -EIO);
	else
		assert_int_equal(do_op(image_loop, blk, op, at << 16, 65536), -EIO);
	blk_close(blk);
	assert_non_null(strstr(capture_log_end(), "out of place"));
	assert_int_equal(image_get(72) & 2, 2);
	assert_int_equal(shell("test $(od -An -tx1 -N1 -j %llu %s) = 05",
			       (unsigned long long)(at + 1) << 16, data), 0);
}

static void test_bad_entries(void **state)
{
	static const uint64_t entries[] = {
		QCOW2_COPIED | 0x20000,        /* another's place */
		QCOW2_COPIED | 0x20000 | QCOW2_ZERO,
		QCOW2_COPIED | 0x10200,
		QCOW2_COMPRESSED | 0x10000,
		0x20000,
	};

	for (size_t i = 0; i < ARRAY_LEN(entries); i++) {
		if (!(entries[i] & QCOW2_ZERO)) {
			bad_entry("", 1, entries[i], BLK_READ);
			bad_entry("", 1, entries[i], BLK_DISCARD);
			bad_entry("", 1, entries[i], BLK_WRITE_ZEROES);
		}
		bad_entry("", 1, entries[i], BLK_WRITE);
		bad_entry("data_file_raw=on", 1, entries[i], BLK_WRITE);
	}
	bad_entry("", 1, QCOW2_COPIED, BLK_READ); /* at 0, which is the first one's */
	bad_entry("", 1, QCOW2_COPIED, BLK_WRITE);
	bad_entry("", 0, QCOW2_COPIED | 0x10000, BLK_WRITE);
}

/* Of an entry that is not marked as ours: nobody else can be there. */
static void test_not_copied(void **state)
{
	static unsigned char buf[512];
	struct blk *blk;

	make("");
	assert_int_equal(shell("qemu-io -f qcow2 -c 'write -P 5 0 256k' %s", image), 0);
	image_put(image_base(L2) + 8, 8, 0x10000);
	image_put(image_base(L2) + 16, 8, 0x20000);
	assert_int_equal(try_open(WITH(.data_file = data), &blk), 0);
	assert_int_equal(do_write(image_loop, blk, buf, 512, 65536), 0);
	assert_int_equal(do_op(image_loop, blk, BLK_DISCARD, 131072, 65536), 0);
	assert_int_equal(blk_close(blk), 0);
	assert_int_equal(shell("qemu-io -f qcow2 -c 'read -P 0 64k 512' -c 'read -P 0 128k 64k' "
			       "-c 'read -P 5 66048 65024' -c 'read -P 5 0 64k' %s", image), 0);
}

/* Bitmaps go, the mark of a raw data file stays. */
static void test_autoclear(void **state)
{
	make("data_file_raw=on");
	image_put(88, 8, image_get(88) | 1);
	opens(WITH(.data_file = data));
	assert_int_equal(image_get(88), QCOW2_AUTOCLEAR_DATA_RAW);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_both),
		cmocka_unit_test(test_stale),
		cmocka_unit_test(test_policy),
		cmocka_unit_test(test_locks),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_excluded),
		cmocka_unit_test(test_bad_entries),
		cmocka_unit_test(test_not_copied),
		cmocka_unit_test(test_autoclear),
	};
	int r;

	if (!image_begin())
		return 77;
	image = image_path();
	data = temp_path("disk.data");
	r = cmocka_run_group_tests(tests, NULL, NULL);
	loop_destroy(image_loop);
	return r;
}
