/* SPDX-License-Identifier: MIT */
#include "scene.h"

#include <endian.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "block/qcow2/qcow2.h"
#include "harness.h"
#include "judge.h"
#include "util/util.h"

const struct scene scenes[] = {
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

const unsigned int scene_count = ARRAY_LEN(scenes);
unsigned long trials_checked, trials_asked, trials_leaking;

static char bases[ARRAY_LEN(scenes)][128];
static const char *image, *raw, *data;

static int open_sim(struct sim *sim, uint32_t cache_bytes, struct blk **out)
{
	struct qcow2_options opts = {.name = "test", .cache_bytes = cache_bytes,
				     .open_backing = sim_open_below,
				     .open_data = sim->data ? sim_open_data : NULL, .arg = sim};
	int r;

	sim->in_order = true; /* nothing else to do while opening */
	r = qcow2_create(&sim->bio, &opts, out);
	sim->in_order = false;
	return r;
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
	struct blk *blk;
	char name[160];

	assert_int_equal(open_sim(sim, 0, &blk), 0);
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

void scenes_make(void)
{
	image = temp_path("trial.qcow2");
	raw = temp_path("trial.raw");
	data = temp_path("trial.data");
	for (unsigned int i = 0; i < scene_count; i++)
		make_base(&scenes[i], bases[i]);
}

/* --- trials --- */

void trial_begin(struct trial *t)
{
	const struct scene *scene = t->scene;
	uint64_t sectors = MIN(scene->sectors, t->sectors_max);

	t->sim = sim_of(scene, bases[scene - scenes], rnd(&t->state));
	t->sectors = malloc(sectors * 512);
	t->work = work_create(NULL, scene->first, sectors, rnd(&t->state));
	t->work->max_len = scene->max_len;
	t->work->idle_discards = scene->where == BELOW || scene->where == PACKED_ABOVE ||
				 scene->data > DATA_FILE;
	t->work->may_fail = scene->space != PLENTY;
	work_assume(t->work, 1, scene->filled);
}

void trial_end(struct trial *t)
{
	work_destroy(t->work);
	sim_destroy(t->sim);
	free(t->sectors);
}

void trial_set_space(struct trial *t)
{
	struct sim *sim = t->sim;

	sim->limit = 0;
	sim->no_space = 0;
	if (t->scene->space == SHORT) {
		sim->limit = align_up(sim->size, 512) +
			     rnd(&t->state) % (rnd(&t->state) % 2 ? 500 : 12000) * 512;
		sim->no_space = rnd(&t->state) % 4 ? 0 : (unsigned int)(rnd(&t->state) % 128);
	}
	if (t->scene->space == DEVICE) {
		sim->bio.is_device = true;
		sim->limit = MIB(4) + 17 * KIB(1);
		sim->size = sim->bio.size_bytes = sim->durable_size = sim->limit;
	}
}

int trial_open(struct trial *t, uint32_t cache_bytes)
{
	return open_sim(t->sim, cache_bytes, &t->work->blk);
}

void trial_fail(const struct trial *t, const char *why)
{
	sim_save_durable(t->sim, image);
	if (t->sim->data)
		sim_save_durable(t->sim->data, data);
	fail_msg("%s: %s (%s; image %s; qemu-img check says %d)", t->scene->name, why, t->how,
		 image, shell("qemu-img check -f qcow2 %s", image));
}

static void ask_qemu(const struct trial *t, const struct judge *judge)
{
	int r;

	trials_asked++;
	sim_save_durable(t->sim, image);
	if (t->sim->data)
		sim_save_durable(t->sim->data, data);
	r = shell("qemu-img check -f qcow2 %s", image);
	if (r != (judge->leaks ? 3 : 0))
		trial_fail(t, "qemu-img has another opinion");
	assert_int_equal(shell("qemu-img convert -f qcow2 -O raw %s %s", image, raw), 0);
	if (work_compare_file(t->work, raw))
		trial_fail(t, "qemu-img finds sectors lost");
}

static void snapshot_intact(struct trial *t, struct judge *judge)
{
	struct work *old = work_create(NULL, t->work->first, t->work->sectors, 1);

	work_assume(old, 1, old->sectors);
	if (!judge_read(judge, true, old->first, old->sectors, t->sectors))
		trial_fail(t, judge->why);
	if (work_compare(old, t->sectors))
		trial_fail(t, "the snapshot changed");
	work_destroy(old);
}

/* Where opening failed, so that nobody has loaded it. */
static void load_below(const struct trial *t)
{
	char name[160];

	snprintf(name, sizeof(name), "%s.raw", bases[t->scene - scenes]);
	t->sim->below = sim_create(1);
	sim_load(t->sim->below, name);
}

static struct judge judge_of(const struct trial *t)
{
	const struct sim *sim = t->sim;
	struct judge judge = {.bytes = sim->durable, .size = sim->durable_size};

	if (t->scene->where == BELOW || t->scene->where == PACKED_ABOVE) {
		if (!sim->below)
			load_below(t);
		judge.below = sim->below->now;
		judge.below_size = sim->below->size;
	}
	if (sim->data) {
		judge.data = sim->data->durable;
		judge.data_size = sim->data->durable_size;
	}
	return judge;
}

/* Of a file that was cut short, also those behind its end, which come back when it grows. */
static uint64_t all_leaks(const struct trial *t, struct judge judge)
{
	judge.grown_size = t->scene->disk_mib << 21;
	judge_check(&judge);
	return judge.leaks;
}

void trial_check(struct trial *t, bool closed)
{
	const char *every = getenv("QEMU_EVERY");
	struct judge judge = judge_of(t);
	uint64_t leaks;

	trials_checked++;
	if (!judge_check(&judge))
		trial_fail(t, judge.why);
	leaks = all_leaks(t, judge);
	if (closed && leaks > t->leaks)
		trial_fail(t, "closed, and leaks");
	t->leaks = leaks;
	trials_leaking += judge.leaks != 0;
	if (t->scene->snapshot && rnd(&t->state) % 2)
		snapshot_intact(t, &judge);
	if (!judge_read(&judge, false, t->work->first, t->work->sectors, t->sectors))
		trial_fail(t, judge.why);
	if (work_compare(t->work, t->sectors))
		trial_fail(t, "sectors lost");
	if (t->scene->data > DATA_FILE &&
	    memcmp(t->sectors, judge.data + t->work->first * 512, t->work->sectors * 512) != 0)
		trial_fail(t, "the data file is another disk");
	if (rnd(&t->state) % (every ? strtoull(every, NULL, 0) : 4) == 0)
		ask_qemu(t, &judge);
}
