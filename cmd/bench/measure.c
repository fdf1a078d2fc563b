/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/bench/bench.h"
#include "util/log.h"
#include "util/util.h"

#define SLICE_S 0.005
#define WARM_UP 5 /* slices, until memory and tables have been touched */
#define STARTS 10 /* in a round */
#define START_MEM "64M"
#define START_MEM_BYTES MIB(64)
#define CALIBRATE_NS 50000000

static uint64_t tsc(void)
{
	return __builtin_ia32_rdtsc();
}

/* The guests' TSC runs as this host's does, unless KVM scales it, which minivmm never asks for. */
double bench_tsc_hz(void)
{
	static double hz;
	uint64_t start_ns, start, ns;

	if (hz)
		return hz;
	start_ns = monotonic_ns();
	start = tsc();
	do
		ns = monotonic_ns() - start_ns;
	while (ns < CALIBRATE_NS);
	hz = (double)(tsc() - start) * 1e9 / (double)ns;
	return hz;
}

bool bench_wanted(const struct bench_options *opts, const char *name)
{
	return !opts->only || strcasestr(name, opts->only);
}

static double figure(enum bench_unit unit, const struct bench_answer *answer)
{
	double seconds = (double)answer->cycles / bench_tsc_hz();
	double each = seconds / (double)answer->requests;

	switch (unit) {
	case BENCH_NS:
		return each * 1e9;
	case BENCH_US:
		return each * 1e6;
	case BENCH_MS:
		return each * 1e3;
	case BENCH_RATE:
		return 1 / each;
	case BENCH_GIB_S:
		return 4096 / each / (double)GIB(1);
	case BENCH_KIB:
		break; /* no guest's */
	}
	return 0;
}

static void skip(struct bench_result *result, const char *why)
{
	if (!result->count)
		snprintf(result->why, sizeof(result->why), "%s", why);
}

static int do_job(const struct bench_options *opts, struct bench_vm *vm,
		  const struct bench_job *job, struct bench_result *result)
{
	unsigned int slices = (unsigned int)MAX(opts->seconds / SLICE_S, 1);
	unsigned int warm_up = job->once ? 0 : WARM_UP;
	uint64_t cycles = (uint64_t)(SLICE_S * bench_tsc_hz());
	struct bench_answer answer;
	int r;

	for (unsigned int i = 0; i < warm_up + slices; i++) {
		r = bench_vm_do(vm, job->words, cycles, &answer);
		if (r)
			return r;
		if (!answer.requests) {
			skip(result, "this machine cannot do it");
			return 0;
		}
		if (i >= warm_up)
			bench_sample(result, figure(job->unit, &answer));
	}
	return 0;
}

static int do_jobs(const struct bench_group *group, const struct bench_options *opts,
		   struct bench_vm *vm, struct bench_results *results)
{
	int r = 0;

	for (size_t i = 0; i < group->job_count && !r; i++) {
		const struct bench_job *job = &group->jobs[i];

		if (bench_wanted(opts, job->name))
			r = do_job(opts, vm, job, bench_result(results, job->name, job->unit));
	}
	return r;
}

static void skip_all(const struct bench_group *group, const struct bench_options *opts,
		     const char *why, struct bench_results *results)
{
	for (size_t i = 0; i < group->job_count; i++) {
		const struct bench_job *job = &group->jobs[i];

		if (bench_wanted(opts, job->name))
			skip(bench_result(results, job->name, job->unit), why);
	}
}

static bool any_wanted(const struct bench_group *group, const struct bench_options *opts)
{
	for (size_t i = 0; i < group->job_count; i++)
		if (bench_wanted(opts, group->jobs[i].name))
			return true;
	return false;
}

static int use_machine(const struct bench_group *group, const struct bench_options *opts,
		       struct bench_setup *setup, struct bench_results *results)
{
	struct bench_vm *vm;
	int r = bench_vm_start(group->guest, setup->options, &vm);

	if (r)
		return r;
	if (group->started)
		r = group->started(vm, setup);
	if (r == 0)
		r = do_jobs(group, opts, vm, results);
	if (r < 0) {
		bench_vm_kill(vm);
		return r;
	}
	return bench_vm_end(vm) < 0 ? -EIO : r;
}

static int do_group(const struct bench_group *group, const struct bench_options *opts,
		    struct bench_results *results)
{
	struct bench_setup setup = {.why = ""};
	unsigned int n = 0;
	int r;

	if (group->measure)
		return group->measure(opts, results);
	if (!any_wanted(group, opts))
		return 0;
	for (const char *const *option = group->options; *option; option++)
		setup.options[n++] = *option;
	r = group->prepare ? group->prepare(opts, &setup) : 0;
	if (!r)
		r = use_machine(group, opts, &setup, results);
	if (group->finish)
		group->finish();
	if (r == BENCH_SKIP)
		skip_all(group, opts, setup.why, results);
	return r == BENCH_SKIP ? 0 : r;
}

int bench_measure(const struct bench_options *opts, struct bench_results *results)
{
	int r = 0;

	bench_tsc_hz();
	for (unsigned int round = 0; round < opts->rounds && !r; round++)
		for (size_t i = 0; i < bench_group_count && !r; i++)
			r = do_group(&bench_groups[i], opts, results);
	return r;
}

/* --- start and end --- */

static const char *const start_names[] = {
	"start: to the guest's first line",
	"end: from the guest's last line",
	"memory besides the guest's 64 MiB",
};

int bench_start_measure(const struct bench_options *opts, struct bench_results *results)
{
	static const char *const options[] = {"--mem", START_MEM, NULL};
	static const enum bench_unit units[] = {BENCH_MS, BENCH_MS, BENCH_KIB};
	bool any = false;
	int r = 0;

	for (size_t i = 0; i < ARRAY_LEN(start_names); i++)
		any |= bench_wanted(opts, start_names[i]);
	for (unsigned int n = 0; n < STARTS && any && !r; n++) {
		uint64_t start = monotonic_ns(), ready, end, kib;
		struct bench_vm *vm;

		r = bench_vm_start(BENCH_GUEST_EXITS, options, &vm);
		if (r)
			break;
		ready = monotonic_ns();
		kib = bench_vm_extra_kib(vm, START_MEM_BYTES);
		end = monotonic_ns();
		r = bench_vm_end(vm);
		if (!r) {
			double values[] = {(double)(ready - start) / 1e6,
					   (double)(monotonic_ns() - end) / 1e6, (double)kib};

			for (size_t i = 0; i < ARRAY_LEN(values); i++)
				if (bench_wanted(opts, start_names[i]))
					bench_sample(bench_result(results, start_names[i],
								  units[i]), values[i]);
		}
	}
	return r;
}
