/* SPDX-License-Identifier: MIT */
/*
 * `minivmm bench`: what a machine costs on this host, measured by small guests of its own.
 *
 * A guest does jobs, a line from the console each, and answers how often it did one in how many
 * cycles of the TSC. A job is done in many short slices, in several machines one after the other;
 * each slice is a sample.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bench_options {
	unsigned int rounds; /* machines of each kind */
	double seconds;      /* of each job, in each of them */
	const char *only;    /* a part of the names of jobs to do, or NULL: all */
	const char *dir;     /* where disk images are made, and used with O_DIRECT; NULL: in memory */
	const char *json;    /* a file to write, or NULL */
};

/* --- guests: ELF files by PVH, part of this program --- */

enum bench_guest {
	BENCH_GUEST_BLK,
	BENCH_GUEST_EXITS,
	BENCH_GUEST_IRQ,
	BENCH_GUEST_NET,
	BENCH_GUEST_RAM,
	BENCH_GUEST_COUNT,
};

/* A file in memory with it, or -errno; logs. */
int bench_guest_open(enum bench_guest guest);
/* Write all of them into folder `dir`. 0 or -errno; logs. */
int bench_guests_write(const char *dir);

/* --- a machine --- */

struct bench_vm;

struct bench_answer {
	uint64_t cycles, requests;
};

/* minivmm with the guest and `options`, NULL behind the last; it waits for jobs when this
 * returns. 0 or -errno; logged by minivmm itself, or here. */
int bench_vm_start(enum bench_guest guest, const char *const *options, struct bench_vm **out);
int bench_vm_do(struct bench_vm *vm, const char *job, uint64_t cycles, struct bench_answer *out);
/* See it end. 0 or -errno; logs. */
int bench_vm_end(struct bench_vm *vm);
/* What minivmm has in memory besides a guest of `mem_bytes`: KiB, or 0 if that cannot be told. */
uint64_t bench_vm_extra_kib(const struct bench_vm *vm, uint64_t mem_bytes);
/* It need not end by itself. Accepts NULL. */
void bench_vm_kill(struct bench_vm *vm);

/* --- what is measured --- */

enum bench_unit {
	BENCH_NS,    /* each takes so long: less is better */
	BENCH_US,
	BENCH_MS,
	BENCH_KIB,   /* less is better */
	BENCH_RATE,  /* so many a second: more is better */
	BENCH_GIB_S, /* requests are pages of 4 KiB */
};

struct bench_job {
	const char *name;
	const char *words; /* for the guest */
	enum bench_unit unit;
	bool once; /* the guest can do so much and no more */
};

#define BENCH_SKIP 1
#define BENCH_OPTIONS_MAX 16

/* What one kind of machine is started with. */
struct bench_setup {
	const char *options[BENCH_OPTIONS_MAX + 1]; /* NULL behind the last */
	char why[128]; /* with BENCH_SKIP */
};

struct bench_result {
	const char *name;
	enum bench_unit unit;
	char why[128]; /* not measured, or "" */
	double *samples;
	size_t count, room;
};

struct bench_results {
	struct bench_result *list;
	size_t count, room;
};

/* One kind of machine and its jobs. The functions may be NULL: 0, BENCH_SKIP or -errno; log. */
struct bench_group {
	enum bench_guest guest;
	const struct bench_job *jobs;
	size_t job_count;
	const char *const *options; /* of minivmm, NULL behind the last */
	/* Before each machine; adds to the options. */
	int (*prepare)(const struct bench_options *opts, struct bench_setup *setup);
	/* The guest waits for jobs. */
	int (*started)(struct bench_vm *vm, struct bench_setup *setup);
	/* After each machine. */
	void (*finish)(void);
	/* Instead of all that. */
	int (*measure)(const struct bench_options *opts, struct bench_results *results);
};

extern const struct bench_group bench_groups[];
extern const size_t bench_group_count;

/* Of the groups that need more. */
int bench_start_measure(const struct bench_options *opts, struct bench_results *results);
int bench_thp_prepare(const struct bench_options *opts, struct bench_setup *setup);
int bench_huge_prepare(const struct bench_options *opts, struct bench_setup *setup);
int bench_raw_prepare(const struct bench_options *opts, struct bench_setup *setup);
int bench_qcow2_prepare(const struct bench_options *opts, struct bench_setup *setup);
int bench_disk_started(struct bench_vm *vm, struct bench_setup *setup);
void bench_disk_finish(void);
int bench_net_prepare(const struct bench_options *opts, struct bench_setup *setup);
int bench_vhost_prepare(const struct bench_options *opts, struct bench_setup *setup);
int bench_net_started(struct bench_vm *vm, struct bench_setup *setup);

/* All that `opts` asks for. 0 or -errno; logs. */
int bench_measure(const struct bench_options *opts, struct bench_results *results);
/* Is it asked for? */
bool bench_wanted(const struct bench_options *opts, const char *name);
/* The result of this name, made if it is not there. */
struct bench_result *bench_result(struct bench_results *results, const char *name,
				  enum bench_unit unit);
void bench_sample(struct bench_result *result, double value);
void bench_results_free(struct bench_results *results);

/* Cycles of the TSC in a second. */
double bench_tsc_hz(void);
