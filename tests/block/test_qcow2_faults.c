/* SPDX-License-Identifier: MIT */
/*
 * Every operation on the file fails in turn, once or from then on: the image stays whole, what
 * was answered as flushed is there, and so is everything where closing says so.
 *
 * FAULT_STRIDE=1 takes every operation; by default some.
 */
#include "harness.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/impl.h"
#include "block/qcow2.h"
#include "sim.h"
#include "util/util.h"
#include "work.h"

static const char *image, *raw, *data_file;

static int open_sim(struct sim *sim, uint32_t cache_bytes, struct blk **out)
{
	struct qcow2_options opts = {.name = "test", .cache_bytes = cache_bytes,
				     .open_backing = sim_open_below,
				     .open_data = sim->data ? sim_open_data : NULL, .arg = sim};
	int r;

	sim->in_order = true;
	r = qcow2_create(&sim->bio, &opts, out);
	sim->in_order = false;
	return r;
}

static void work_some(struct work *work, struct sim *sim, int requests)
{
	while (requests--) {
		work_submit(work);
		for (uint64_t n = rnd(&work->seed) % 12; n; n--)
			sim_step(sim);
	}
	sim_run(sim);
	work_flush(work);
	sim_run(sim);
	assert_int_equal(work->in_flight, 0);
	assert_int_equal(work->wrong, 0);
}

struct fault {
	const char *base;
	uint64_t sectors;
	uint64_t filled; /* of these, with tag 1 */
	bool backed;
	const char *data; /* the image's data file, or NULL */
	bool in_data;     /* that is the file which fails */
	int error;
	bool for_good;
};

/* Both files, the one to fail at operation `n`, which comes back. */
static struct sim *load(const struct fault *fault, long n, struct sim *sim)
{
	struct sim *failing = sim;

	sim_load(sim, fault->base);
	if (fault->data) {
		sim->data = sim_create(4);
		sim_load(sim->data, fault->data);
	}
	if (fault->in_data)
		failing = sim->data;
	/* The model has no half sectors, as memory in odd pieces may leave them. */
	failing->short_writes = n % 2 && !fault->in_data;
	failing->fail_after = n;
	failing->fail_errno = fault->error;
	failing->fail_from_then_on = fault->for_good;
	return failing;
}

/* Returns false once the work ends before operation `n`. */
static bool fail_at(const struct fault *fault, long n)
{
	struct sim *sim = sim_create(3), *failing = load(fault, n, sim);
	struct work *work;
	struct blk *blk;
	bool came;
	int r;

	capture_log_start();
	work = work_create(NULL, 0, fault->sectors, 99);
	work->max_len = 100;
	work->discards = 4;
	work->may_fail = true;
	work->idle_discards = fault->backed;
	work_assume(work, 1, fault->filled);
	if (open_sim(sim, n & 2 ? 1 : 0, &blk) == 0) {
		work->blk = blk;
		work_some(work, sim, 60);
		if (blk_close(blk) == 0)
			work_closed(work);
	}
	capture_log_end();
	came = failing->fail_after < -1;
	sim_save(sim, image);
	if (sim->data)
		sim_save(sim->data, data_file);
	r = shell("qemu-img check -f qcow2 %s", image);
	if (r != 0 && r != 3)
		fail_msg("%s, operation %ld, %s: qemu-img check: %d", fault->base, n,
			 strerror(-fault->error), r);
	r = shell("qemu-img convert -f qcow2 -O raw %s %s", image, raw);
	if (r)
		fail_msg("%s, operation %ld, %s: qemu-img convert: %d", fault->base, n,
			 strerror(-fault->error), r);
	if (work_compare_file(work, raw))
		fail_msg("%s, operation %ld, %s: data lost", fault->base, n,
			 strerror(-fault->error));
	work_destroy(work);
	sim_destroy(sim);
	return came;
}

static void every_fault(struct fault fault, const char *options, uint64_t *seed)
{
	const char *stride = getenv("FAULT_STRIDE");
	uint64_t step = stride ? strtoull(stride, NULL, 0) : 6;

	fault.sectors = 4096;
	for (int kind = 0; kind < 4; kind++) {
		long n;

		fault.error = kind & 1 ? -ENOSPC : -EIO;
		fault.for_good = kind & 2;
		n = (long)(rnd(seed) % step);

		while (fail_at(&fault, n))
			n += (long)(1 + rnd(seed) % (2 * step - 1));
		print_message("%s: %s%s up to operation %ld\n", options, strerror(-fault.error),
			      fault.for_good ? " for good" : "", n);
	}
}

static void written_faults(const char *options, const char *name, bool snapshot, uint64_t *seed)
{
	const char *base = temp_path(name);

	assert_int_equal(shell("qemu-img create -f qcow2 -o %s %s 8M", options, base), 0);
	assert_int_equal(shell("qemu-io -f qcow2 -c 'write -P 0 0 1M' %s", base), 0);
	if (snapshot)
		assert_int_equal(shell("qemu-img snapshot -c one %s", base), 0);
	every_fault((struct fault){.base = base}, options, seed);
}

/* Data that is in the file below, or compressed. */
static void source_faults(const char *options, const char *name, bool backed, uint64_t *seed)
{
	const char *base = temp_path(name), *filling = temp_path("filling.raw");
	struct work *work = work_create(NULL, 0, 4096, 1);

	work_assume(work, 1, 3000);
	work_save(work, filling, 8 << 20);
	work_destroy(work);
	if (backed)
		assert_int_equal(shell("qemu-img create -f qcow2 -b %s -F raw -o %s %s 8M", filling,
				       options, base), 0);
	else
		assert_int_equal(shell("qemu-img convert -c -f raw -O qcow2 -o %s %s %s", options,
				       filling, base), 0);
	every_fault((struct fault){.base = base, .filled = 3000, .backed = backed}, options, seed);
}

/* Either of two files fails. */
static void data_file_faults(const char *options, const char *name, uint64_t *seed)
{
	const char *base = temp_path(name), *copy = temp_path("copy.data");

	assert_int_equal(shell("qemu-img create -f qcow2 -o data_file=%s,%s %s 8M", data_file, options,
			       base), 0);
	assert_int_equal(shell("(qemu-io -f qcow2 -c 'write -P 0 0 1M' %s && cp %s %s)", base, data_file,
			       copy), 0);
	for (int in_data = 0; in_data < 2; in_data++)
		every_fault((struct fault){.base = base, .data = copy, .in_data = in_data}, options,
			    seed);
}

static void test_faults(void **state)
{
	uint64_t seed = test_seed(5);

	written_faults("compat=1.1", "v3.qcow2", false, &seed);
	written_faults("compat=0.10,cluster_size=4k", "v2.qcow2", true, &seed);
	written_faults("compat=1.1,cluster_size=512", "small.qcow2", true, &seed);
	source_faults("compat=1.1", "over.qcow2", true, &seed);
	source_faults("compat=0.10,cluster_size=4k", "over2.qcow2", true, &seed);
	source_faults("compat=1.1,cluster_size=4k", "packed.qcow2", false, &seed);
	data_file_faults("cluster_size=4k", "data.qcow2", &seed);
	data_file_faults("data_file_raw=on", "raw.qcow2", &seed);
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
		cmocka_unit_test(test_faults),
	};

	if (!have_qemu_tools()) {
		print_message("skipped: no qemu-img and qemu-io (apt install qemu-utils)\n");
		return 77;
	}
	image = temp_path("fault.qcow2");
	raw = temp_path("fault.raw");
	data_file = temp_path("fault.data");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
