/* SPDX-License-Identifier: MIT */
/* Operations on the file that fail, wait, or find no space, in the places that matter. */
#include "harness.h"

#include <errno.h>
#include <string.h>

#include "block/impl.h"
#include "block/qcow2/qcow2.h"
#include "sim.h"
#include "util/util.h"

static const char *image;

static int open_sim(struct sim *sim, uint32_t cache_bytes, struct blk **out)
{
	struct qcow2_options opts = {.name = "test", .cache_bytes = cache_bytes};
	int r;

	sim->in_order = true;
	r = qcow2_create(&sim->bio, &opts, out);
	sim->in_order = false;
	return r;
}

static void note_result(struct blk_req *req, int err)
{
	*(int *)req->iov[1].iov_base = err;
}

struct held_read {
	struct blk_req req;
	struct iovec iov[2];
	int result;
	unsigned char buf[512];
};

static int run_req(struct sim *sim, struct blk *blk, enum blk_op op, uint64_t offset, void *buf,
		   uint64_t len)
{
	int result = 1;
	struct iovec iov[2] = {{buf, len}, {&result, 0}};
	struct blk_req req = {.op = op, .offset_bytes = offset, .len_bytes = len, .iov = iov,
			      .iovcnt = 1, .unmap = true, .done = note_result};

	blk_submit(blk, &req);
	sim_run(sim);
	return result;
}

/*
 * A read that is under way while its cluster is given up must not see what others write there
 * later: the cluster is not taken anew before the read ends.
 */
static void test_held_read(void **state)
{
	static unsigned char data[65536];
	const char *base = temp_path("held.qcow2");
	struct held_read read = {.result = 1};
	struct sim *sim = sim_create(1);
	struct blk *blk;

	assert_int_equal(shell("qemu-img create -f qcow2 -o compat=0.10 %s 64M", base), 0);
	sim_load(sim, base);
	assert_int_equal(open_sim(sim, 0, &blk), 0);
	memset(data, 'a', sizeof(data));
	assert_int_equal(run_req(sim, blk, BLK_WRITE, 0, data, sizeof(data)), 0);
	assert_int_equal(run_req(sim, blk, BLK_WRITE, 65536, data, sizeof(data)), 0);

	sim->hold_reads = true;
	read.iov[0] = (struct iovec){read.buf, sizeof(read.buf)};
	read.iov[1].iov_base = &read.result;
	read.req = (struct blk_req){.op = BLK_READ, .len_bytes = 512, .iov = read.iov, .iovcnt = 1,
				    .done = note_result};
	blk_submit(blk, &read.req);
	assert_int_equal(run_req(sim, blk, BLK_DISCARD, 0, NULL, 65536), 0);
	assert_int_equal(run_req(sim, blk, BLK_FLUSH, 0, NULL, 0), 0);
	memset(data, 'b', sizeof(data));
	for (int i = 2; i < 200; i++)
		assert_int_equal(run_req(sim, blk, BLK_WRITE, 65536ull * (unsigned int)i, data,
					 sizeof(data)), 0);
	sim->hold_reads = false;
	sim_run(sim);
	assert_int_equal(read.result, 0);
	assert_true(read.buf[0] == 'a' || read.buf[0] == 0);
	assert_int_equal(blk_close(blk), 0);
	sim_save(sim, image);
	assert_int_equal(shell("qemu-img check -f qcow2 %s", image), 0);
	sim_destroy(sim);
}

/* Where zeroes can be had only as a hole, a hole has no space, and gets some before use. */
static void test_reserve(void **state)
{
	static unsigned char data[65536];
	const char *base = temp_path("reserve.qcow2");
	struct sim *sim = sim_create(1);
	struct blk *blk;

	assert_int_equal(shell("qemu-img create -f qcow2 -o compat=0.10 %s 64M", base), 0);
	sim_load(sim, base);
	sim->no_zero_range = true;
	assert_int_equal(open_sim(sim, 0, &blk), 0);
	assert_int_equal(run_req(sim, blk, BLK_WRITE, 0, data, sizeof(data)), 0);
	assert_int_equal(run_req(sim, blk, BLK_DISCARD, 0, NULL, 65536), 0);
	assert_int_equal(run_req(sim, blk, BLK_FLUSH, 0, NULL, 0), 0);
	assert_int_equal(sim->reserved, 0);
	for (uint64_t i = 1; i < 200; i++)
		assert_int_equal(run_req(sim, blk, BLK_WRITE, 65536 * i, data, 512), 0);
	assert_int_equal(sim->reserved, 1);
	assert_int_equal(blk_close(blk), 0);
	sim_save(sim, image);
	assert_int_equal(shell("qemu-img check -f qcow2 %s", image), 0);
	sim_destroy(sim);
}

/* An image on a device of `bytes`; how many clusters in a row can be written to. */
static uint64_t fill_device(const char *options, uint64_t bytes, struct sim **sim,
			    struct blk **blk)
{
	static unsigned char data[512];
	const char *base = temp_path("device.qcow2");
	uint64_t i = 0;

	assert_int_equal(shell("qemu-img create -f qcow2 -o %s %s 64M", options, base), 0);
	*sim = sim_create(1);
	sim_load(*sim, base);
	(*sim)->size = (*sim)->bio.size_bytes = bytes;
	(*sim)->bio.is_device = true;
	assert_int_equal(open_sim(*sim, 0, blk), 0);
	while (run_req(*sim, *blk, BLK_WRITE, 65536 * i, data, 512) == 0)
		i++;
	return i;
}

/* Clusters behind the end of a file that could not grow: no table is left there unwritten. */
static void test_behind_the_end(void **state)
{
	static unsigned char buf[512];
	const char *base = temp_path("short.qcow2");
	struct sim *sim = sim_create(1);
	struct blk *blk;

	assert_int_equal(shell("qemu-img create -f qcow2 %s 64M", base), 0);
	sim_load(sim, base);
	sim->no_fallocate = true;
	sim->limit = sim->size;
	assert_int_equal(open_sim(sim, 0, &blk), 0);
	for (int i = 0; i < 64; i++)
		assert_int_equal(run_req(sim, blk, BLK_WRITE, 0, buf, sizeof(buf)), -ENOSPC);
	assert_int_equal(run_req(sim, blk, BLK_FLUSH, 0, NULL, 0), 0);
	assert_int_equal(blk_close(blk), 0);
	sim_save(sim, image);
	assert_int_equal(shell("qemu-img check -f qcow2 %s", image), 0);
	sim_destroy(sim);
}

/* A device does not grow: its end that is less than a cluster is no cluster. */
static void test_device_end(void **state)
{
	static unsigned char data[65536];
	uint64_t size = (4 << 20) + 17 * 1024, i;
	struct sim *sim;
	struct blk *blk;

	i = fill_device("compat=1.1", size, &sim, &blk);
	assert_int_equal(i, 64 - 5); /* all but header, tables, and what counts them */
	while (i--)
		assert_int_equal(run_req(sim, blk, BLK_WRITE, 65536 * i, data, 65536), 0);
	assert_int_equal(run_req(sim, blk, BLK_FLUSH, 0, NULL, 0), 0);
	assert_int_equal(sim->size, size);
	assert_int_equal(blk_close(blk), 0);
	sim_destroy(sim);
}

/* A full device, and clusters that were given up since the last commit. */
static void test_full_device(void **state)
{
	static unsigned char data[512];
	struct sim *sim;
	struct blk *blk;
	uint64_t i;

	i = fill_device("compat=0.10", 4 << 20, &sim, &blk);
	assert_int_equal(run_req(sim, blk, BLK_DISCARD, 0, NULL, 5 * 65536), 0);
	for (int n = 0; n < 5; n++, i++)
		assert_int_equal(run_req(sim, blk, BLK_WRITE, 65536 * i, data, 512), 0);
	assert_int_equal(run_req(sim, blk, BLK_WRITE, 65536 * i, data, 512), -ENOSPC);
	assert_int_equal(run_req(sim, blk, BLK_DISCARD, 65536 * 8, NULL, 65536), 0);
	assert_int_equal(run_req(sim, blk, BLK_WRITE, 65536 * i, data, 512), 0);
	assert_int_equal(blk_close(blk), 0);
	sim_save(sim, image);
	assert_int_equal(shell("qemu-img check -f qcow2 %s", image), 0);
	sim_destroy(sim);
}

/* Raw: what the file system can not do is done by writing; a failed sync ends writing. */
static void test_raw(void **state)
{
	static unsigned char data[8192], got[8192];
	struct sim *sim = sim_create(2);
	struct blk *blk;

	memset(sim->now, 'r', 1 << 20);
	sim->size = 1 << 20;
	sim->bio.size_bytes = sim->size;
	sim->no_punch = true;
	sim->no_zero_range = true;
	sim->short_reads = true;
	sim->short_writes = true;
	assert_int_equal(raw_create(&sim->bio, "test", false, &blk), 0);
	assert_int_equal(run_req(sim, blk, BLK_DISCARD, 0, NULL, 8192), 0);
	assert_int_equal(run_req(sim, blk, BLK_DISCARD, 0, NULL, 8192), 0);
	assert_int_equal(sim->now[0], 'r');
	assert_int_equal(run_req(sim, blk, BLK_WRITE_ZEROES, 512, NULL, 299520), 0);
	for (int i = 512; i < 299520; i++)
		assert_int_equal(sim->now[i], 0);
	memset(data, 'w', sizeof(data));
	assert_int_equal(run_req(sim, blk, BLK_WRITE, 4096, data, sizeof(data)), 0);
	assert_int_equal(run_req(sim, blk, BLK_READ, 4096, got, sizeof(got)), 0);
	assert_memory_equal(data, got, sizeof(data));

	capture_log_start();
	sim->fail_after = 0;
	sim->fail_errno = -EIO;
	assert_int_equal(run_req(sim, blk, BLK_FLUSH, 0, NULL, 0), -EIO);
	assert_int_equal(run_req(sim, blk, BLK_FLUSH, 0, NULL, 0), -EIO);
	assert_int_equal(run_req(sim, blk, BLK_WRITE, 0, data, sizeof(data)), -EIO);
	assert_int_equal(run_req(sim, blk, BLK_READ, 4096, got, sizeof(got)), 0);
	assert_int_equal(blk_close(blk), -EIO);
	assert_non_null(strstr(capture_log_end(), "sync failed"));
	sim_destroy(sim);
}

/* The kernel tells of lost data once: of two flushes at a time both must hear of it. */
static void two_flushes(struct sim *sim, struct blk *blk)
{
	static unsigned char data[4096];
	int results[2] = {1, 1};
	struct iovec iov[2][2] = {{{0}, {&results[0], 0}}, {{0}, {&results[1], 0}}};
	struct blk_req req[2];

	assert_int_equal(run_req(sim, blk, BLK_WRITE, 0, data, sizeof(data)), 0);
	assert_int_equal(run_req(sim, blk, BLK_FLUSH, 0, NULL, 0), 0);
	assert_int_equal(run_req(sim, blk, BLK_WRITE, 0, data, sizeof(data)), 0);
	capture_log_start();
	sim->fail_after = 0;
	sim->fail_errno = -EIO;
	for (int i = 0; i < 2; i++) {
		req[i] = (struct blk_req){.op = BLK_FLUSH, .iov = iov[i], .done = note_result};
		blk_submit(blk, &req[i]);
	}
	sim_run(sim);
	assert_int_equal(results[0], -EIO);
	assert_int_equal(results[1], -EIO);
	assert_int_equal(run_req(sim, blk, BLK_WRITE, 0, data, sizeof(data)), -EIO);
	assert_int_equal(blk_close(blk), -EIO);
	capture_log_end();
}

static void test_two_flushes(void **state)
{
	const char *base = temp_path("flushes.qcow2");
	struct sim *sim;
	struct blk *blk;

	for (uint64_t seed = 1; seed <= 8; seed++) {
		sim = sim_create(seed);
		sim->size = sim->bio.size_bytes = 1 << 20;
		assert_int_equal(raw_create(&sim->bio, "test", false, &blk), 0);
		two_flushes(sim, blk);
		sim_destroy(sim);
	}
	assert_int_equal(shell("qemu-img create -f qcow2 %s 8M", base), 0);
	for (uint64_t seed = 1; seed <= 8; seed++) {
		sim = sim_create(seed);
		sim_load(sim, base);
		assert_int_equal(open_sim(sim, 0, &blk), 0);
		two_flushes(sim, blk);
		sim_destroy(sim);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_raw),
		cmocka_unit_test(test_two_flushes),
		cmocka_unit_test(test_held_read),
		cmocka_unit_test(test_reserve),
		cmocka_unit_test(test_behind_the_end),
		cmocka_unit_test(test_device_end),
		cmocka_unit_test(test_full_device),
	};

	if (!have_qemu_tools()) {
		print_message("skipped: no qemu-img and qemu-io (apt install qemu-utils)\n");
		return 77;
	}
	image = temp_path("fault.qcow2");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
