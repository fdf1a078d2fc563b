/* SPDX-License-Identifier: MIT */
/*
 * Power cuts: random work on a simulated disk, cut at any moment; then the image must be whole
 * (qemu-img check: clean or leaks) and every sector must hold what was flushed, or something
 * written after. Some images go on to be used, and cut again.
 *
 * CRASHES=n sets how often; TEST_SEED which; SCENE=n keeps to one scene.
 */
#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "block/qcow2.h"
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
	enum { HERE, BELOW, PACKED } where; /* that is: in a raw backing file, compressed */
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
	{"compressed", "compat=1.1", 64, 1000, 16384, 600, 16384, false, PACKED},
	{"compressed, version 2", "compat=0.10,cluster_size=4k", 64, 0, 8192, 300, 8192, false,
	 PACKED},
	{"compressed, zstd, snapshot", "compat=1.1,cluster_size=4k,compression_type=zstd", 64, 0,
	 8192, 300, 8192, true, PACKED},
};

static char bases[ARRAY_LEN(scenes)][128];

static const char *image, *raw;

static struct blk *open_sim(struct sim *sim, uint32_t cache_bytes)
{
	struct qcow2_options opts = {.name = "test", .cache_bytes = cache_bytes,
				     .open_backing = sim_open_below, .arg = sim};
	struct blk *blk;

	sim->in_order = true; /* nothing else to do while opening */
	assert_int_equal(qcow2_create(&sim->bio, &opts, &blk), 0);
	sim->in_order = false;
	return blk;
}

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
	work_save(work, filling, scene->where == BELOW ? end : scene->disk_mib << 20);
	work_destroy(work);
	if (scene->where == BELOW)
		assert_int_equal(shell("qemu-img create -f qcow2 -b %s -F raw -o %s %s %lluM",
				       filling, scene->options, path,
				       (unsigned long long)scene->disk_mib), 0);
	else
		assert_int_equal(shell("qemu-img convert -f raw -c -O qcow2 -o %s %s %s",
				       scene->options, filling, path), 0);
}

static void make_base(const struct scene *scene, char *path)
{
	struct sim *sim;
	struct blk *blk;

	snprintf(path, sizeof(bases[0]), "%s/base%d.qcow2", temp_dir(), (int)(scene - scenes));
	if (scene->where != HERE) {
		make_from_raw(scene, path);
		goto snapshot;
	}
	assert_int_equal(shell("qemu-img create -f qcow2 -o %s %s %lluM", scene->options, path,
			       (unsigned long long)scene->disk_mib), 0);
	if (!scene->filled)
		return;
	sim = sim_create(1);
	sim_load(sim, path);
	blk = open_sim(sim, 0);
	fill(sim, blk, scene);
	assert_int_equal(blk_close(blk), 0);
	sim_save(sim, path);
	sim_destroy(sim);
	assert_int_equal(shell("qemu-img check %s", path), 0);
snapshot:
	if (scene->snapshot)
		assert_int_equal(shell("qemu-img snapshot -c one %s", path), 0);
}

/* Work for a while, then cut: what the disk holds goes to `image`. */
static void work_and_cut(struct work *work, const char *from, uint64_t *seed)
{
	struct sim *sim = sim_create(rnd(seed));
	unsigned int steps = (unsigned int)(rnd(seed) % 1500);
	unsigned int eager = (unsigned int)(1 + rnd(seed) % 8);

	sim_load(sim, from);
	sim->no_punch = rnd(seed) % 8 == 0;
	sim->no_zero_range = rnd(seed) % 4 == 0;
	sim->no_fallocate = rnd(seed) % 8 == 0;
	sim->short_reads = rnd(seed) % 4 == 0;
	work->blk = open_sim(sim, rnd(seed) % 3 ? 0 : 1 + rnd(seed) % 65536);
	while (steps--) {
		if (rnd(seed) % 8 < eager)
			work_submit(work);
		else
			sim_step(sim);
	}
	assert_int_equal(work->wrong, 0);
	sim_cut(sim, image, (unsigned int)(1 + rnd(seed) % 256));

	/* Only to be free of it: the disk was cut off. */
	work->cut = true;
	sim_run(sim);
	blk_close(work->blk);
	sim_destroy(sim);
}

static void check_image(const struct work *work, const struct scene *scene, uint64_t seed)
{
	int r = shell("qemu-img check -f qcow2 %s", image);
	unsigned long wrong;

	if (r != 0 && r != 3)
		fail_msg("%s: qemu-img check: %d (TEST_SEED=%llu CRASHES=1; image %s)",
			 scene->name, r, (unsigned long long)seed, image);
	assert_int_equal(shell("qemu-img convert -f qcow2 -O raw %s %s", image, raw), 0);
	wrong = work_compare(work, raw);
	if (wrong)
		fail_msg("%s: %lu sectors lost (TEST_SEED=%llu CRASHES=1; image %s)", scene->name,
			 wrong, (unsigned long long)seed, image);
}

static void snapshot_intact(struct work *work, const struct scene *scene)
{
	struct work *old = work_create(NULL, work->first, work->sectors, 1);

	if (scene->snapshot) {
		work_assume(old, 1, old->sectors);
		assert_int_equal(shell("qemu-img convert -f qcow2 -l one -O raw %s %s", image,
				       raw), 0);
		assert_int_equal(work_compare(old, raw), 0);
	}
	work_destroy(old);
}

static void crash(uint64_t seed)
{
	uint64_t state = seed;
	const char *only = getenv("SCENE");
	unsigned int which = (unsigned int)((only ? strtoull(only, NULL, 0) : rnd(&state)) %
					    ARRAY_LEN(scenes));
	const struct scene *scene = &scenes[which];
	struct work *work = work_create(NULL, scene->first, scene->sectors, rnd(&state));

	work->max_len = scene->max_len;
	work->discards = (unsigned int)(rnd(&state) % 6);
	work->flushes = (unsigned int)(rnd(&state) % 3);
	work->idle_discards = scene->where == BELOW;
	work_assume(work, 1, scene->filled);
	work_and_cut(work, bases[which], &state);
	check_image(work, scene, seed);
	while (rnd(&state) % 4 == 0) {
		work_rebase(work, raw);
		work_and_cut(work, image, &state);
		check_image(work, scene, seed);
	}
	snapshot_intact(work, scene);
	work_destroy(work);
}

static void test_crash(void **state)
{
	const char *crashes = getenv("CRASHES");
	uint64_t seed = test_seed(1000);

	for (size_t i = 0; i < ARRAY_LEN(scenes); i++)
		make_base(&scenes[i], bases[i]);
	for (long n = crashes ? atol(crashes) : 160; n; n--, seed++)
		crash(seed);
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
	return cmocka_run_group_tests(tests, NULL, NULL);
}
