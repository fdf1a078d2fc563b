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

#include <stdio.h>
#include <stdlib.h>

#include "scene.h"
#include "util/util.h"

static unsigned long cuts, closings;

static void set_manners(struct trial *t)
{
	struct sim *sim = t->sim;
	uint64_t *seed = &t->state;

	sim->no_punch = rnd(seed) % 8 == 0;
	sim->no_zero_range = rnd(seed) % 4 == 0;
	sim->no_fallocate = rnd(seed) % 8 == 0;
	sim->short_reads = rnd(seed) % 4 == 0;
	if (sim->data)
		sim->data->no_punch = sim->no_punch;
	trial_set_space(t);
}

/* All is answered and closed: on disk is all of it, though not a bit more was lucky. */
static void close_instead(struct trial *t)
{
	int r;

	sim_run(t->sim);
	assert_int_equal(t->work->in_flight, 0);
	r = blk_close(t->work->blk);
	if (r == 0)
		work_closed(t->work);
	else if (!t->work->may_fail)
		trial_fail(t, "closing failed");
	sim_cut(t->sim, 0);
	closings++;
}

static void cut(struct trial *t)
{
	sim_cut(t->sim, (unsigned int)(1 + rnd(&t->state) % 256));
	/* Only to be free of it. */
	t->work->cut = true;
	sim_run(t->sim);
	blk_close(t->work->blk);
	cuts++;
}

/* Work for a while, then cut. Returns whether it was closed. */
static bool work_and_cut(struct trial *t)
{
	unsigned int steps = (unsigned int)(rnd(&t->state) % 1500);
	unsigned int eager = (unsigned int)(1 + rnd(&t->state) % 8);
	bool closed = rnd(&t->state) % 8 == 0;

	set_manners(t);
	capture_log_start();
	assert_int_equal(trial_open(t, rnd(&t->state) % 3 ? 0
				       : (uint32_t)(1 + rnd(&t->state) % 65536)), 0);
	while (steps--) {
		if (rnd(&t->state) % 8 < eager)
			work_submit(t->work);
		else
			sim_step(t->sim);
	}
	if (closed)
		close_instead(t);
	else
		cut(t);
	capture_log_end();
	assert_int_equal(t->work->wrong, 0);
	return closed;
}

/* Whether it was closed with all there was. */
static void work_and_check(struct trial *t)
{
	bool closed = work_and_cut(t);

	trial_check(t, closed && !t->work->failed);
}

static void crash(uint64_t seed)
{
	const char *only = getenv("SCENE");
	char how[64];
	struct trial t = {.state = seed, .sectors_max = UINT64_MAX, .how = how};

	snprintf(how, sizeof(how), "TEST_SEED=%llu CRASHES=1", (unsigned long long)seed);
	t.scene = &scenes[(only ? strtoull(only, NULL, 0) : rnd(&t.state)) % scene_count];
	trial_begin(&t);
	t.work->discards = (unsigned int)(rnd(&t.state) % 6);
	t.work->flushes = (unsigned int)(rnd(&t.state) % 3);
	work_and_check(&t);
	while (rnd(&t.state) % 4 == 0) {
		work_rebase(t.work, t.sectors);
		sim_power_on(t.sim);
		work_and_check(&t);
	}
	trial_end(&t);
}

static void test_crash(void **state)
{
	const char *crashes = getenv("CRASHES");
	uint64_t seed = test_seed(1000);

	scenes_make();
	for (long n = crashes ? atol(crashes) : 1000; n; n--, seed++)
		crash(seed);
	print_message("%lu cuts and %lu closings, %lu left leaks, qemu-img looked at %lu\n", cuts,
		      closings, trials_leaking, trials_asked);
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
	return cmocka_run_group_tests(tests, NULL, NULL);
}
