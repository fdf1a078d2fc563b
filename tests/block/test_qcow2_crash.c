/* SPDX-License-Identifier: MIT */
/*
 * Power cuts: random work on a simulated disk, cut at any moment; then the image must be whole
 * (clean or leaks) and every sector must hold what was flushed, or something written after.
 * Some images go on to be used, and cut again; some are closed instead, and then nothing leaks.
 *
 * judge.c looks at each; qemu-img at one of QEMU_EVERY (4), and at each that judge.c dislikes.
 * CRASHES=n sets how often; TEST_SEED which; SCENE=n keeps to one scene.
 */
#include "harness.h"

#include <endian.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "block/qcow2.h"
#include "judge.h"
#include "sim.h"
#include "util/util.h"
#include "work.h"

struct scene {
	const char *name;
	const char *options;
	uint64_t disk_mib;
	uint64_t first, sectors; /* that are worked on */
	uint64_t max_len;
	uint64_t filled;         /* of these, with tag 1 */
	bool snapshot;
	enum { HERE, BELOW, PACKED, PACKED_ABOVE } where; /* the filling: in the image, in a raw
		file below, compressed, or compressed with its second half only below */
	enum { PLENTY, SHORT, DEVICE } space;
	enum { NO_DATA_FILE, DATA_FILE, RAW_DATA_FILE, UNMAPPED } data; /* raw, but not yet said so */
};

static const struct scene scenes[] = {
	{"plain", "compat=1.1", 64, 30000, 16384, 600, 0, false},
	{"version 2", "compat=0.10", 64, 0, 16384, 600, 16384, false},
	{"snapshot", "compat=1.1", 64, 30000, 8192, 300, 8192, true},
	{"snapshot, version 2", "compat=0.10,cluster_size=4k", 64, 0, 8192, 300, 8192, true},
	{"many refcount blocks", "compat=1.1,cluster_size=512", 24, 0, 32768, 1000, 0, false},
	/* 64 entries for 128 KiB each */
	{"the refcount table grows", "compat=1.1,cluster_size=512", 24, 0, 32768, 1000, 15500,
	 false},
	{"small clusters, snapshot", "compat=1.1,cluster_size=512", 16, 0, 16384, 800, 16384,
	 true},
	{"few large clusters", "compat=1.1,cluster_size=2M", 64, 0, 65536, 1000, 0, false},
	{"4k, discards", "compat=1.1,cluster_size=4k", 64, 777, 8192, 200, 8192, false},
	{"backing", "compat=1.1", 64, 1000, 16384, 600, 10000, false, BELOW},
	{"backing, version 2", "compat=0.10,cluster_size=4k", 64, 1000, 8192, 300, 7001, false,
	 BELOW},
	{"backing, snapshot", "compat=1.1,cluster_size=512", 16, 0, 8192, 300, 8192, true, BELOW},
	{"backing, large clusters", "compat=1.1,cluster_size=2M", 64, 0, 65536, 100, 60000, false,
	 BELOW},
	{"compressed", "compat=1.1", 64, 1000, 16384, 600, 16384, false, PACKED},
	{"compressed, version 2", "compat=0.10,cluster_size=4k", 64, 0, 8192, 300, 8192, false,
	 PACKED},
	{"compressed, zstd, snapshot", "compat=1.1,cluster_size=4k,compression_type=zstd", 64, 0,
	 8192, 300, 8192, true, PACKED},
	{"compressed over backing, snapshot", "compat=1.1,cluster_size=4k", 64, 0, 8192, 300,
	 8192, true, PACKED_ABOVE},
	{"no space", "compat=1.1", 64, 0, 16384, 600, 4096, false, HERE, SHORT},
	{"no space, version 2, snapshot", "compat=0.10,cluster_size=4k", 64, 0, 8192, 300, 8192,
	 true, HERE, SHORT},
	{"no space, many refcounts", "compat=0.10,cluster_size=512", 16, 0, 8192, 300, 8192, true,
	 HERE, SHORT},
	{"no space, small clusters, backing", "compat=1.1,cluster_size=512", 16, 0, 8192, 300,
	 6000, false, BELOW, SHORT},
	{"a full device", "compat=1.1", 64, 0, 16384, 600, 0, false, HERE, DEVICE},
	{"a full device, version 2", "compat=0.10,cluster_size=512", 16, 0, 16384, 300, 1000,
	 false, HERE, DEVICE},
	{"data file", "compat=1.1", 64, 1000, 16384, 600, 4000, false, HERE, PLENTY, DATA_FILE},
	{"data file, small clusters", "compat=1.1,cluster_size=512", 24, 0, 16384, 600, 8192, false,
	 HERE, PLENTY, DATA_FILE},
	{"data file, backing", "compat=1.1,cluster_size=4k", 64, 1000, 16384, 300, 10000, false,
	 BELOW, PLENTY, DATA_FILE},
	{"data file, no space", "compat=1.1,cluster_size=512", 16, 0, 16384, 600, 8192, false,
	 HERE, SHORT, DATA_FILE},
	{"raw data file", "compat=1.1", 64, 1000, 16384, 600, 4000, false, HERE, PLENTY,
	 RAW_DATA_FILE},
	{"raw data file, entries to be made", "compat=1.1,cluster_size=4k", 64, 1000, 16384, 600,
	 0, false, HERE, PLENTY, UNMAPPED},
};

static char bases[ARRAY_LEN(scenes)][128];

static const char *image, *raw, *data;
static unsigned long cuts, closings, asked, leaking;

static struct blk *open_sim(struct sim *sim, uint32_t cache_bytes)
{
	struct qcow2_options opts = {.name = "test", .cache_bytes = cache_bytes,
				     .open_backing = sim_open_below,
				     .open_data = sim->data ? sim_open_data : NULL, .arg = sim};
	struct blk *blk;

	sim->in_order = true; /* nothing else to do while opening */
	assert_int_equal(qcow2_create(&sim->bio, &opts, &blk), 0);
	sim->in_order = false;
	return blk;
}

/* --- what there is to begin with --- */

static void filled(struct blk_req *req, int err)
{
	assert_int_equal(err, 0);
}

static void fill(struct sim *sim, struct blk *blk, const struct scene *scene)
{
	static unsigned char buf[65536];

	for (uint64_t i = 0; i < scene->filled; i += sizeof(buf) / 512) {
		struct iovec iov = {buf, MIN(sizeof(buf), (scene->filled - i) * 512)};
		struct blk_req req = {.op = BLK_WRITE, .offset_bytes = (scene->first + i) * 512,
				      .len_bytes = iov.iov_len, .iov = &iov, .iovcnt = 1,
				      .done = filled};

		for (uint64_t k = 0; k < iov.iov_len / 512; k++)
			fill_tag(buf + k * 512, 1, scene->first + i + k);
		blk_submit(blk, &req);
		sim_run(sim);
	}
}

/* A raw file with the filling, as what lies below or as what is compressed. */
static void make_from_raw(const struct scene *scene, const char *path)
{
	struct work *work = work_create(NULL, scene->first, scene->sectors, 1);
	uint64_t end = (scene->first + scene->filled) * 512;
	char filling[160];

	snprintf(filling, sizeof(filling), "%s.raw", path);
	work_assume(work, 1, scene->filled);
	work_save(work, filling, scene->where == PACKED ? scene->disk_mib << 20 : end);
	work_destroy(work);
	if (scene->where == PACKED)
		assert_int_equal(shell("qemu-img convert -f raw -c -O qcow2 -o %s %s %s",
				       scene->options, filling, path), 0);
	else
		assert_int_equal(shell("qemu-img create -f qcow2 -b %s -F raw -o %s%s%s %s %lluM",
				       filling, scene->options, scene->data ? ",data_file=" : "",
				       scene->data ? data : "", path,
				       (unsigned long long)scene->disk_mib), 0);
	if (scene->where == PACKED_ABOVE)
		assert_int_equal(shell("qemu-io -f qcow2 -c 'write -q -c -s %s 0 %llu' %s", filling,
				       (unsigned long long)end / 2, path), 0);
}

static struct sim *sim_of(const struct scene *scene, const char *path, uint64_t seed)
{
	struct sim *sim = sim_create(seed);
	char name[160];

	sim_load(sim, path);
	if (!scene->data)
		return sim;
	snprintf(name, sizeof(name), "%s.data", path);
	sim->data = sim_create(seed + 1);
	sim_load(sim->data, name);
	return sim;
}

/* As QEMU made them before it made all entries at once. */
static void drop_tables(const char *path)
{
	static const unsigned char none[512];
	int fd = open(path, O_RDWR | O_CLOEXEC);
	uint64_t l1;

	assert_int_equal(pread(fd, &l1, 8, 40), 8);
	assert_int_equal(pwrite(fd, none, sizeof(none), (off_t)be64toh(l1)), sizeof(none));
	close(fd);
	assert_int_equal(shell("qemu-img check -r leaks %s", path), 0);
}

/* The image names the data file that qemu-img will be shown after a crash. */
static void make_empty(const struct scene *scene, const char *path)
{
	char more[200] = "";

	if (scene->data)
		snprintf(more, sizeof(more), ",data_file=%s,data_file_raw=%s", data,
			 scene->data == DATA_FILE ? "off" : "on");
	assert_int_equal(shell("qemu-img create -f qcow2 -o %s%s %s %lluM", scene->options, more,
			       path, (unsigned long long)scene->disk_mib), 0);
	if (scene->data == UNMAPPED)
		drop_tables(path);
}

static void fill_base(const struct scene *scene, const char *path)
{
	struct sim *sim = sim_of(scene, path, 1);
	struct blk *blk = open_sim(sim, 0);
	char name[160];

	fill(sim, blk, scene);
	assert_int_equal(blk_close(blk), 0);
	sim_save(sim, path);
	snprintf(name, sizeof(name), "%s.data", path);
	if (sim->data)
		sim_save(sim->data, name);
	sim_destroy(sim);
	if (!scene->data)
		assert_int_equal(shell("qemu-img check %s", path), 0);
}

static void make_base(const struct scene *scene, char *path)
{
	snprintf(path, sizeof(bases[0]), "%s/base%d.qcow2", temp_dir(), (int)(scene - scenes));
	if (scene->where == HERE)
		make_empty(scene, path);
	else
		make_from_raw(scene, path);
	if (scene->data)
		assert_int_equal(shell("mv %s %s.data", data, path), 0);
	if (scene->where == HERE)
		fill_base(scene, path);
	if (scene->snapshot)
		assert_int_equal(shell("qemu-img snapshot -c one %s", path), 0);
}

/* --- one crash --- */

struct crash {
	const struct scene *scene;
	struct sim *sim;
	struct work *work;
	uint64_t seed, state;
	uint64_t leaks;         /* of the cuts before */
	unsigned char *sectors; /* that are worked on, as the image has them */
};

static void fail_crash(const struct crash *c, const char *why)
{
	sim_save_durable(c->sim, image);
	shell("qemu-img check -f qcow2 %s", image);
	fail_msg("%s: %s (TEST_SEED=%llu CRASHES=1; image %s; qemu-img check says %d)",
		 c->scene->name, why, (unsigned long long)c->seed, image,
		 shell("qemu-img check -f qcow2 %s", image));
}

static void set_manners(struct crash *c)
{
	struct sim *sim = c->sim;
	uint64_t *seed = &c->state;

	sim->no_punch = rnd(seed) % 8 == 0;
	sim->no_zero_range = rnd(seed) % 4 == 0;
	sim->no_fallocate = rnd(seed) % 8 == 0;
	sim->short_reads = rnd(seed) % 4 == 0;
	if (sim->data)
		sim->data->no_punch = sim->no_punch;
	sim->limit = 0;
	sim->no_space = 0;
	if (c->scene->space == SHORT) {
		sim->limit = align_up(sim->size, 512) +
			     rnd(seed) % (rnd(seed) % 2 ? 500 : 12000) * 512;
		sim->no_space = rnd(seed) % 4 ? 0 : (unsigned int)(rnd(seed) % 128);
	}
	if (c->scene->space == DEVICE) {
		sim->bio.is_device = true;
		sim->limit = MIB(4) + 17 * KIB(1);
		sim->size = sim->bio.size_bytes = sim->durable_size = sim->limit;
	}
}

/* All is answered and closed: on disk is all of it, though not a bit more was lucky. */
static void close_instead(struct crash *c)
{
	int r;

	sim_run(c->sim);
	assert_int_equal(c->work->in_flight, 0);
	r = blk_close(c->work->blk);
	if (r == 0)
		work_closed(c->work);
	else if (!c->work->may_fail)
		fail_crash(c, "closing failed");
	sim_cut(c->sim, 0);
	closings++;
}

static void cut(struct crash *c)
{
	sim_cut(c->sim, (unsigned int)(1 + rnd(&c->state) % 256));
	/* Only to be free of it. */
	c->work->cut = true;
	sim_run(c->sim);
	blk_close(c->work->blk);
	cuts++;
}

/* Work for a while, then cut. Returns whether it was closed. */
static bool work_and_cut(struct crash *c)
{
	unsigned int steps = (unsigned int)(rnd(&c->state) % 1500);
	unsigned int eager = (unsigned int)(1 + rnd(&c->state) % 8);
	bool closed = rnd(&c->state) % 8 == 0;

	set_manners(c);
	capture_log_start();
	c->work->blk = open_sim(c->sim, rnd(&c->state) % 3 ? 0
				: (uint32_t)(1 + rnd(&c->state) % 65536));
	while (steps--) {
		if (rnd(&c->state) % 8 < eager)
			work_submit(c->work);
		else
			sim_step(c->sim);
	}
	if (closed)
		close_instead(c);
	else
		cut(c);
	capture_log_end();
	assert_int_equal(c->work->wrong, 0);
	return closed;
}

static void ask_qemu(const struct crash *c, const struct judge *judge)
{
	int r;

	asked++;
	sim_save_durable(c->sim, image);
	if (c->sim->data)
		sim_save_durable(c->sim->data, data);
	r = shell("qemu-img check -f qcow2 %s", image);
	if (r != (judge->leaks ? 3 : 0))
		fail_crash(c, "qemu-img has another opinion");
	assert_int_equal(shell("qemu-img convert -f qcow2 -O raw %s %s", image, raw), 0);
	if (work_compare_file(c->work, raw))
		fail_crash(c, "qemu-img finds sectors lost");
}

static void snapshot_intact(struct crash *c, struct judge *judge)
{
	struct work *old = work_create(NULL, c->work->first, c->work->sectors, 1);

	work_assume(old, 1, old->sectors);
	if (!judge_read(judge, true, old->first, old->sectors, c->sectors))
		fail_crash(c, judge->why);
	if (work_compare(old, c->sectors))
		fail_crash(c, "the snapshot changed");
	work_destroy(old);
}

/* Of a file that was cut short, also those behind its end, which come back when it grows. */
static uint64_t all_leaks(const struct crash *c, struct judge judge)
{
	judge.grown_size = c->scene->disk_mib << 21;
	judge_check(&judge);
	return judge.leaks;
}

static void check_image(struct crash *c, bool closed)
{
	uint64_t leaks;
	const char *every = getenv("QEMU_EVERY");
	struct judge judge = {.bytes = c->sim->durable, .size = c->sim->durable_size};

	if (c->sim->below) {
		judge.below = c->sim->below->now;
		judge.below_size = c->sim->below->size;
	}
	if (c->sim->data) {
		judge.data = c->sim->data->durable;
		judge.data_size = c->sim->data->durable_size;
	}
	if (!judge_check(&judge))
		fail_crash(c, judge.why);
	leaks = all_leaks(c, judge);
	if (closed && !c->work->failed && leaks > c->leaks)
		fail_crash(c, "closed, and leaks");
	c->leaks = leaks;
	leaking += judge.leaks != 0;
	if (c->scene->snapshot && rnd(&c->state) % 2)
		snapshot_intact(c, &judge);
	if (!judge_read(&judge, false, c->work->first, c->work->sectors, c->sectors))
		fail_crash(c, judge.why);
	if (work_compare(c->work, c->sectors))
		fail_crash(c, "sectors lost");
	if (c->scene->data > DATA_FILE &&
	    memcmp(c->sectors, judge.data + c->work->first * 512, c->work->sectors * 512) != 0)
		fail_crash(c, "the data file is another disk");
	if (rnd(&c->state) % (every ? strtoull(every, NULL, 0) : 4) == 0)
		ask_qemu(c, &judge);
}

static void crash(uint64_t seed)
{
	const char *only = getenv("SCENE");
	struct crash c = {.seed = seed, .state = seed};
	unsigned int which = (unsigned int)((only ? strtoull(only, NULL, 0) : rnd(&c.state)) %
					    ARRAY_LEN(scenes));

	c.scene = &scenes[which];
	c.sim = sim_of(c.scene, bases[which], rnd(&c.state));
	c.sectors = malloc(c.scene->sectors * 512);
	c.work = work_create(NULL, c.scene->first, c.scene->sectors, rnd(&c.state));
	c.work->max_len = c.scene->max_len;
	c.work->discards = (unsigned int)(rnd(&c.state) % 6);
	c.work->flushes = (unsigned int)(rnd(&c.state) % 3);
	c.work->idle_discards = c.scene->where == BELOW || c.scene->where == PACKED_ABOVE ||
			       c.scene->data > DATA_FILE;
	c.work->may_fail = c.scene->space != PLENTY;
	work_assume(c.work, 1, c.scene->filled);
	check_image(&c, work_and_cut(&c));
	while (rnd(&c.state) % 4 == 0) {
		work_rebase(c.work, c.sectors);
		sim_power_on(c.sim);
		check_image(&c, work_and_cut(&c));
	}
	work_destroy(c.work);
	sim_destroy(c.sim);
	free(c.sectors);
}

static void test_crash(void **state)
{
	const char *crashes = getenv("CRASHES");
	uint64_t seed = test_seed(1000);

	for (size_t i = 0; i < ARRAY_LEN(scenes); i++)
		make_base(&scenes[i], bases[i]);
	for (long n = crashes ? atol(crashes) : 1000; n; n--, seed++)
		crash(seed);
	print_message("%lu cuts and %lu closings, %lu left leaks, qemu-img looked at %lu\n", cuts,
		      closings, leaking, asked);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_crash),
	};

	if (!have_qemu_tools()) {
		print_message("skipped: no qemu-img and qemu-io (apt install qemu-utils)\n");
		return 77;
	}
	image = temp_path("cut.qcow2");
	raw = temp_path("cut.raw");
	data = temp_path("cut.data");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
