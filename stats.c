/* SPDX-License-Identifier: MIT */
#include "stats.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/vm.h"

static const char *const kind_names[] = {
	[VCPU_EXIT_PIO_IN] = "pio-in",	       [VCPU_EXIT_PIO_OUT] = "pio-out",
	[VCPU_EXIT_MMIO_READ] = "mmio-read",   [VCPU_EXIT_MMIO_WRITE] = "mmio-write",
	[VCPU_EXIT_OTHER] = "other",
};

static int more_frequent(const void *a, const void *b)
{
	const struct vcpu_stat *left = a, *right = b;

	return (left->count < right->count) - (left->count > right->count);
}

static void print_vcpu(const struct vcpu *vcpu)
{
	struct vcpu_stat stats[VCPU_STAT_SLOTS];

	memcpy(stats, vcpu->stats, sizeof(stats));
	qsort(stats, VCPU_STAT_SLOTS, sizeof(stats[0]), more_frequent);
	for (unsigned int i = 0; i < VCPU_STAT_SLOTS && stats[i].count; i++)
		fprintf(stderr, "%-8u %-10s %#14" PRIx64 " %12" PRIu64 "\n", vcpu->index,
			kind_names[stats[i].kind], stats[i].addr, stats[i].count);
	if (vcpu->stats_lost)
		fprintf(stderr, "%-8u %-10s %14s %12" PRIu64 "\n", vcpu->index, "elsewhere", "",
			vcpu->stats_lost);
}

void stats_print(const struct vm *vm)
{
	fprintf(stderr, "%-8s %-10s %14s %12s\n", "vcpu", "exit", "address", "count");
	for (unsigned int i = 0; i < vm->ncpus; i++)
		print_vcpu(&vm->vcpus[i]);
}
