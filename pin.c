/* SPDX-License-Identifier: MIT */
#include "pin.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/cpus.h"
#include "util/log.h"
#include "util/util.h"

/* A list of the user's, in its order, of processors that we may use. How many, or -errno. */
static int user_list(const char *text, const cpu_set_t *allowed, unsigned int *cpus)
{
	int count = cpus_parse(text, cpus, CPU_SETSIZE);

	if (count <= 0) {
		log_error("--pin %s: not a list of processors (write 0-3 or 0+2+4)", text);
		return -EINVAL;
	}
	for (int i = 0; i < count; i++) {
		if (CPU_ISSET(cpus[i], allowed))
			continue;
		log_error("--pin %s: processor %u is not there, or not ours to use (see taskset -cp $$)",
			  text, cpus[i]);
		return -EINVAL;
	}
	return count;
}

struct candidate {
	unsigned int cpu, rank;
};

static int by_rank(const void *a, const void *b)
{
	const struct candidate *left = a, *right = b;

	if (left->rank != right->rank)
		return left->rank < right->rank ? -1 : 1;
	return left->cpu < right->cpu ? -1 : 1;
}

/*
 * A core for each vCPU, as long as there are any, and then the cores' other threads; but where
 * the guest's cores have threads, the host's cores one after the other.
 */
static unsigned int rank_of(unsigned int cpu, bool threads, const cpu_set_t *allowed)
{
	unsigned int siblings[64], before = 0;
	int count = cpus_siblings(cpu, siblings, ARRAY_LEN(siblings));

	if (threads)
		return count > 0 ? siblings[0] : cpu;
	for (int i = 0; i < count; i++)
		before += siblings[i] < cpu && CPU_ISSET(siblings[i], allowed);
	return before;
}

static int auto_list(const cpu_set_t *allowed, bool threads, unsigned int *cpus)
{
	struct candidate candidates[CPU_SETSIZE];
	unsigned int count = 0;

	for (unsigned int cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, allowed))
			candidates[count++] = (struct candidate){
				cpu, rank_of(cpu, threads, allowed)};
	qsort(candidates, count, sizeof(candidates[0]), by_rank);
	for (unsigned int i = 0; i < count; i++)
		cpus[i] = candidates[i].cpu;
	return (int)count;
}

static int vcpu_list(const struct pin_options *options, unsigned int count, bool threads,
		     const cpu_set_t *allowed, unsigned int *cpus)
{
	int found = strcmp(options->vcpus, "auto") == 0 ? auto_list(allowed, threads, cpus)
							: user_list(options->vcpus, allowed, cpus);

	if (found < 0 || (unsigned int)found >= count)
		return found;
	log_error("--pin %s: %d processors for %u vCPUs; each needs its own (fewer --cpus?)",
		  options->vcpus, found, count);
	return -EINVAL;
}

static int pin_io(const struct pin_options *options, const unsigned int *vcpus, unsigned int count,
		  const cpu_set_t *allowed)
{
	unsigned int cpus[CPU_SETSIZE];
	cpu_set_t set = *allowed;
	int found;

	if (options->io) {
		found = user_list(options->io, allowed, cpus);
		if (found < 0)
			return found;
		CPU_ZERO(&set);
		for (int i = 0; i < found; i++)
			CPU_SET(cpus[i], &set);
	} else if (options->vcpus && strcmp(options->vcpus, "auto") == 0) {
		for (unsigned int i = 0; i < count; i++)
			CPU_CLR(vcpus[i], &set);
		if (CPU_COUNT(&set) == 0)
			return 0;
	} else {
		return 0;
	}
	return sched_setaffinity(0, sizeof(set), &set) < 0 ? -errno : 0;
}

/* Without a list they stay where we were started: this thread, which makes theirs, may move. */
static cpu_set_t *vcpu_sets(const unsigned int *vcpus, unsigned int count,
			    const cpu_set_t *allowed)
{
	cpu_set_t *sets = calloc(count, sizeof(*sets));

	for (unsigned int i = 0; sets && i < count; i++) {
		if (vcpus)
			CPU_SET(vcpus[i], &sets[i]);
		else
			sets[i] = *allowed;
	}
	return sets;
}

int pin_threads(const struct pin_options *options, unsigned int count, unsigned int threads,
		cpu_set_t **out)
{
	unsigned int cpus[CPU_SETSIZE];
	cpu_set_t allowed, *sets;
	int r = 0;

	*out = NULL;
	if (!options->vcpus && !options->io)
		return 0;
	if (sched_getaffinity(0, sizeof(allowed), &allowed) < 0) {
		r = -errno;
		log_error("--pin: cannot tell which processors are ours: %s", strerror(-r));
		return r;
	}
	if (options->vcpus)
		r = vcpu_list(options, count, threads > 1, &allowed, cpus);
	if (r < 0)
		return r;
	sets = vcpu_sets(options->vcpus ? cpus : NULL, count, &allowed);
	if (!sets)
		return -ENOMEM;
	r = pin_io(options, cpus, count, &allowed);
	if (r < 0) {
		free(sets);
		return r;
	}
	*out = sets;
	return 0;
}
