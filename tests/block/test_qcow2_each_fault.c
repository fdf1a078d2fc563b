/* SPDX-License-Identifier: MIT */
/*
 * Every operation on the file fails in turn, with EIO or ENOSPC, once or from then on, and so does
 * every one on its data file, and every read of its backing file: the image stays whole, what was
 * answered as flushed is there, and so is everything where closing says so. Then the power is cut,
 * too.
 *
 * FAULT_STRIDE=1 takes every operation, by default some; SCENE=n keeps to one scene.
 */
#include "harness.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scene.h"
#include "util/util.h"

#define REQUESTS 60
#define SECTORS_MAX 4096

struct fault {
	int error;
	bool for_good;
	enum { OF_IMAGE, OF_DATA, OF_BELOW } of;
	long n; /* the operation */
};

static const char *const whose[] = {"", ", of the data file", ", of the backing file"};

static unsigned long failures;

static struct sim *failing_of(struct sim *sim, const struct fault *fault)
{
	struct sim *const sims[] = {sim, sim->data, sim->below};

	return sims[fault->of];
}

/* The backing file is there once the image is open. */
static void set_fault(struct sim *sim, const struct fault *fault)
{
	struct sim *failing = failing_of(sim, fault);

	if (!failing)
		return;
	failing->fail_after = fault->n;
	failing->fail_errno = fault->error;
	failing->fail_from_then_on = fault->for_good;
}

static void work_some(struct trial *t)
{
	for (int i = 0; i < REQUESTS; i++) {
		work_submit(t->work);
		for (uint64_t n = rnd(&t->state) % 12; n; n--)
			sim_step(t->sim);
	}
	sim_run(t->sim);
	work_flush(t->work);
	sim_run(t->sim);
	assert_int_equal(t->work->in_flight, 0);
	assert_int_equal(t->work->wrong, 0);
}

/* Returns whether operation `n` came. */
static bool fail_at(const struct scene *scene, const struct fault *fault)
{
	char how[80];
	struct trial t = {.scene = scene, .sectors_max = SECTORS_MAX, .state = 99, .how = how};
	bool came;

	snprintf(how, sizeof(how), "SCENE=%d, operation %ld, %s%s", (int)(scene - scenes), fault->n,
		 strerror(-fault->error), whose[fault->of]);
	trial_begin(&t);
	t.state = (uint64_t)fault->n + 1; /* in what is done then */
	t.work->max_len = 100;
	t.work->discards = 4;
	t.work->may_fail = true;
	trial_set_space(&t);
	set_fault(t.sim, fault);
	capture_log_start();
	if (trial_open(&t, fault->n & 2 ? 1 : 0) == 0) {
		if (fault->of == OF_BELOW)
			set_fault(t.sim, fault);
		work_some(&t);
		if (blk_close(t.work->blk) == 0)
			work_closed(t.work);
	}
	capture_log_end();
	came = failing_of(t.sim, fault) && failing_of(t.sim, fault)->fail_after < -1;
	failures += came;
	sim_cut(t.sim, fault->n % 3 ? 256 : (unsigned int)(rnd(&t.state) % 256));
	trial_check(&t, false);
	trial_end(&t);
	return came;
}

static void each_fault(const struct scene *scene, struct fault fault, uint64_t *seed)
{
	const char *stride = getenv("FAULT_STRIDE");
	uint64_t step = stride ? strtoull(stride, NULL, 0) : 40;

	fault.n = (long)(rnd(seed) % step);
	while (fail_at(scene, &fault))
		fault.n += (long)(1 + rnd(seed) % (2 * step - 1));
}

static void each_kind(const struct scene *scene, uint64_t *seed)
{
	bool has_below = scene->where == BELOW || scene->where == PACKED_ABOVE;

	for (int kind = 0; kind < (scene->data ? 8 : 4); kind++)
		each_fault(scene, (struct fault){.error = kind & 1 ? -ENOSPC : -EIO,
						 .for_good = kind & 2,
						 .of = kind & 4 ? OF_DATA : OF_IMAGE}, seed);
	for (int for_good = 0; has_below && for_good < 2; for_good++)
		each_fault(scene, (struct fault){.error = -EIO, .for_good = for_good,
						 .of = OF_BELOW}, seed);
}

static void test_each_fault(void **state)
{
	const char *only = getenv("SCENE");
	uint64_t seed = test_seed(5);

	scenes_make();
	for (unsigned int i = 0; i < scene_count; i++) {
		if (only && strtoul(only, NULL, 0) != i)
			continue;
		each_kind(&scenes[i], &seed);
		print_message("%s: %lu failures so far\n", scenes[i].name, failures);
	}
	print_message("%lu failures, %lu left leaks, qemu-img looked at %lu\n", failures,
		      trials_leaking, trials_asked);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_fault),
	};

	if (!have_qemu_tools()) {
		print_message("skipped: no qemu-img and qemu-io (apt install qemu-utils)\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
