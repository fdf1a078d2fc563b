/* SPDX-License-Identifier: MIT */
#include "stats.h"

#include <inttypes.h>

#include "machine_impl.h"
#include "util/histogram.h"
#include "util/run_live.h"
#include "virtio/device.h"
#include "virtio/stats.h"
#include "vmm/exit_profile.h"
#include "vmm/kvm_stats.h"
#include "vmm/vm.h"

static void print_exits(const struct vcpu *vcpu, FILE *to)
{
	struct exit_count exits[EXIT_PROFILE_SLOTS];
	unsigned int count = exit_profile_read(vcpu->profile, exits);
	uint64_t lost = counter_get(&vcpu->profile->lost);

	for (unsigned int i = 0; i < count; i++)
		fprintf(to, "%-8u %-10s %#14" PRIx64 " %12" PRIu64 " %12" PRIu64 "\n", vcpu->index,
			exit_kind_name(exits[i].kind), exits[i].addr, exits[i].count,
			exits[i].ns / 1000);
	if (lost)
		fprintf(to, "%-8u %-10s %14s %12" PRIu64 " %12" PRIu64 "\n", vcpu->index,
			"elsewhere", "", lost, counter_get(&vcpu->profile->lost_ns) / 1000);
}

struct counter_list {
	FILE *to;
	unsigned int vcpu;
};

static void print_counter(void *arg, const char *name, uint64_t value)
{
	struct counter_list *list = arg;

	fprintf(list->to, "%-8u %-38s %20" PRIu64 "\n", list->vcpu, name, value);
}

static void print_vcpus(const struct vm *vm, FILE *to)
{
	fprintf(to, "%-8s %-10s %14s %12s %12s\n", "vcpu", "exit", "address", "count", "us");
	for (unsigned int i = 0; i < vm->ncpus; i++)
		print_exits(&vm->vcpus[i], to);
	if (vm->vcpus[0].stats_fd < 0) {
		fprintf(to, "This kernel's KVM shows no counters (Linux 5.14 or later does).\n");
		return;
	}
	fprintf(to, "%-8s %-38s %20s\n", "vcpu", "KVM counter", "value");
	for (unsigned int i = 0; i < vm->ncpus; i++) {
		struct counter_list list = {to, i};

		if (kvm_stats_read(vm->vcpus[i].stats_fd, print_counter, &list) < 0)
			fprintf(to, "%-8u KVM's counters cannot be read\n", i);
	}
}

static void print_queue(const struct virtio_dev *dev, unsigned int index, FILE *to)
{
	const struct vq_stats *queue = &dev->stats->queues[index];

	if (!counter_get(&queue->requests) && !counter_get(&queue->doorbells))
		return;
	fprintf(to, "%-8s %5u %10" PRIu64 " %13" PRIu64 " %13" PRIu64 " %9" PRIu64 " %9" PRIu64
		" %9" PRIu64 " %5" PRIu64 " %5" PRIu64 "\n", dev->name, index,
		counter_get(&queue->requests), counter_get(&queue->bytes_out), counter_get(&queue->bytes_in),
		counter_get(&queue->doorbells), counter_get(&queue->found), counter_get(&queue->irqs),
		histogram_mean(&queue->batches), histogram_percentile(&queue->batches, 99));
}

static void print_queues(const struct board *board, FILE *to)
{
	fprintf(to, "%-8s %5s %10s %13s %13s %9s %9s %9s %5s %5s\n", "device", "queue",
		"requests", "from-guest", "to-guest", "doorbells", "found", "irqs", "batch", "p99");
	for (unsigned int i = 0; i < board->dev_count; i++)
		for (unsigned int q = 0; q < board->devs[i]->nqueues; q++)
			print_queue(board->devs[i], q, to);
}

static void print_op(const char *device, const struct virtio_op_stats *op, FILE *to)
{
	const struct histogram *latency = &op->latency_ns;
	uint64_t count = histogram_count(latency);

	if (count)
		fprintf(to, "%-8s %-12s %10" PRIu64 " %14" PRIu64 " %7" PRIu64 " %10.1f %10.1f"
			" %10.1f\n", device, op->name, count, counter_get(&op->bytes),
			counter_get(&op->errors), (double)histogram_mean(latency) / 1000,
			(double)histogram_percentile(latency, 50) / 1000,
			(double)histogram_percentile(latency, 99) / 1000);
}

static void print_ops(const struct board *board, FILE *to)
{
	fprintf(to, "%-8s %-12s %10s %14s %7s %10s %10s %10s\n", "device", "request", "count",
		"bytes", "errors", "mean-us", "p50-us", "p99-us");
	for (unsigned int i = 0; i < board->dev_count; i++)
		for (unsigned int op = 0; op < VIRTIO_STATS_OPS; op++)
			print_op(board->devs[i]->name, &board->devs[i]->stats->ops[op], to);
}

static void print_frames(const struct virtio_dev *dev, FILE *to)
{
	const struct run_nic_live *live = dev->stats->frames;

	if (!live)
		return;
	if (dev->stats->by_kernel)
		fprintf(to, "%s: what vhost-net moves is not counted here; see minivmm net\n",
			dev->name);
	fprintf(to, "%s: to the guest %" PRIu64 " frames, %" PRIu64 " bytes, %" PRIu64
		" dropped; from it %" PRIu64 ", %" PRIu64 ", %" PRIu64 "\n", dev->name,
		counter_get(&live->rx.frames), counter_get(&live->rx.bytes), counter_get(&live->rx.dropped),
		counter_get(&live->tx.frames), counter_get(&live->tx.bytes), counter_get(&live->tx.dropped));
}

void stats_print(const struct board *board, FILE *to)
{
	print_vcpus(board->vm, to);
	print_queues(board, to);
	print_ops(board, to);
	for (unsigned int i = 0; i < board->dev_count; i++)
		print_frames(board->devs[i], to);
}
