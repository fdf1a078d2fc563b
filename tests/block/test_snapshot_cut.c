/* SPDX-License-Identifier: MIT */
/*
 * Wherever the merge of a temporary overlay is cut off, disk and overlay together have what the
 * guest wrote.
 *
 * CUT_STRIDE=1 cuts at every operation; by default at some.
 */
#include "harness.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/impl.h"
#include "block/qcow2/qcow2.h"
#include "sim.h"
#include "snapshot_scene.h"
#include "util/util.h"

struct merge {
	struct sim *disk, *overlay;
	struct blk *blk;
	struct work *work;
};

static int open_disk(void *arg, const char *file, const char *format, struct blk **out)
{
	struct sim *sim = arg;
	struct qcow2_options opts = {.name = "disk"};
	bool is_raw = strcmp(format, "raw") == 0;
	int r;

	sim->below->in_order = true;
	r = is_raw ? raw_create(&sim->below->bio, "disk", false, out)
		   : qcow2_create(&sim->below->bio, &opts, out);
	sim->below->in_order = false;
	return r;
}

static void open_both(struct merge *m, uint64_t seed)
{
	struct qcow2_options opts = {.name = "overlay", .open_backing = open_disk};

	m->disk = sim_create(seed);
	m->overlay = sim_create(seed + 1);
	m->overlay->below = m->disk;
	opts.arg = m->overlay;
	sim_load(m->disk, disk);
	sim_load(m->overlay, left);
	m->overlay->in_order = true;
	assert_int_equal(qcow2_create(&m->overlay->bio, &opts, &m->blk), 0);
	m->overlay->in_order = false;
}

static void check_joined(struct work *work, const char *file, const char *format, long at)
{
	const char *raw = temp_path("joined.raw");

	assert_int_equal(shell("qemu-img convert -f %s -O raw %s %s", format, file, raw), 0);
	if (work_compare_file(work, raw))
		fail_msg("cut off at operation %ld: sectors of %s lost", at, file);
}

/* The power goes at operation `n` of the disk: returns false if the merge ended before. */
static bool cut_at(const struct kind *kind, struct work *work, long n, uint64_t seed)
{
	struct merge m;
	bool came;
	int r;

	open_both(&m, seed);
	m.disk->fail_after = n;
	m.disk->fail_errno = -EIO;
	m.disk->fail_from_then_on = true;
	capture_log_start();
	r = qcow2_merge(m.blk);
	came = m.disk->fail_after < -1;
	assert_int_equal(r != 0, came);
	sim_cut(m.disk, (unsigned int)(rnd(&seed) % 257));
	sim_save_durable(m.disk, disk);
	blk_close(m.blk);
	capture_log_end();
	sim_destroy(m.overlay); /* and the disk */

	if (strcmp(kind->format, "qcow2") == 0) {
		r = shell("qemu-img check -f qcow2 %s", disk);
		assert_true(r == 0 || r == 3);
	}
	if (!came) {
		check_joined(work, disk, kind->format, n);
		return false;
	}
	check_joined(work, left, "qcow2", n);
	if (rnd(&seed) % 4 == 0) {
		assert_int_equal(shell("qemu-img commit -f qcow2 -d %s", left), 0);
		check_joined(work, disk, kind->format, n);
	}
	return true;
}

/* An overlay with some work in it; as after blk_commit gave it a name. */
static void make_overlay(const struct kind *kind, struct work *work)
{
	struct merge m;

	assert_int_equal(shell("qemu-img create -f qcow2 -b %s -F %s %s", disk, kind->format, left),
			 0);
	open_both(&m, 7);
	work->blk = m.blk;
	for (int i = 0; i < 60; i++) {
		work_submit(work);
		sim_run(m.overlay);
	}
	assert_int_equal(blk_close(m.blk), 0);
	work_closed(work);
	sim_save(m.overlay, left);
	sim_destroy(m.overlay);
}

static void cut_everywhere(const struct kind *kind, uint64_t seed)
{
	const char *stride = getenv("CUT_STRIDE");
	uint64_t step = stride ? strtoull(stride, NULL, 0) : 12;
	struct work *work = filled_work(seed);
	long n = (long)(rnd(&seed) % step);

	make(kind, work);
	work->max_len = 300;
	make_overlay(kind, work);
	while (cut_at(kind, work, n, rnd(&seed))) {
		n += (long)(1 + rnd(&seed) % (2 * step - 1));
		assert_int_equal(shell("cp %s %s", copy, disk), 0);
	}
	print_message("%s, cut off up to operation %ld\n", kind->name, n);
	work_destroy(work);
}

static void test_cut(void **state)
{
	uint64_t seed = test_seed(44);

	cut_everywhere(&kinds[0], rnd(&seed));
	cut_everywhere(&kinds[1], rnd(&seed));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cut),
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
