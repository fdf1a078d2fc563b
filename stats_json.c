/* SPDX-License-Identifier: MIT */
/* As JSON. Keys are as in the tables; histograms are lists of [smallest number, how many]. */
#include "machine_impl.h"
#include "stats.h"
#include "util/histogram.h"
#include "util/json_out.h"
#include "util/run_live.h"
#include "virtio/device.h"
#include "virtio/stats.h"
#include "vmm/exit_profile.h"
#include "vmm/kvm_stats.h"
#include "vmm/vm.h"

static void put_histogram(struct json_out *out, const char *key, const struct histogram *histogram)
{
	json_out_open(out, key, '{');
	json_out_number(out, "count", histogram_count(histogram));
	json_out_number(out, "sum", counter_get(&histogram->sum));
	json_out_number(out, "p50", histogram_percentile(histogram, 50));
	json_out_number(out, "p99", histogram_percentile(histogram, 99));
	json_out_open(out, "buckets", '[');
	for (unsigned int i = 0; i < HISTOGRAM_BUCKETS; i++) {
		uint64_t count = counter_get(&histogram->buckets[i]);

		if (!count)
			continue;
		json_out_open(out, NULL, '[');
		json_out_number(out, NULL, histogram_floor(i));
		json_out_number(out, NULL, count);
		json_out_close(out, ']');
	}
	json_out_close(out, ']');
	json_out_close(out, '}');
}

static void put_counter(void *arg, const char *name, uint64_t value)
{
	json_out_number(arg, name, value);
}

static void put_exits(struct json_out *out, const struct exit_profile *profile)
{
	struct exit_count exits[EXIT_PROFILE_SLOTS];
	unsigned int count = exit_profile_read(profile, exits);

	json_out_open(out, "exits", '[');
	for (unsigned int i = 0; i < count; i++) {
		json_out_open(out, NULL, '{');
		json_out_text(out, "exit", exit_kind_name(exits[i].kind));
		json_out_number(out, "address", exits[i].addr);
		json_out_number(out, "count", exits[i].count);
		json_out_number(out, "ns", exits[i].ns);
		json_out_close(out, '}');
	}
	json_out_close(out, ']');
	json_out_number(out, "exits-elsewhere", counter_get(&profile->lost));
	json_out_number(out, "exits-elsewhere-ns", counter_get(&profile->lost_ns));
}

static void put_vcpu(struct json_out *out, const struct vcpu *vcpu)
{
	json_out_open(out, NULL, '{');
	json_out_number(out, "vcpu", vcpu->index);
	put_exits(out, vcpu->profile);
	if (vcpu->stats_fd >= 0) {
		json_out_open(out, "kvm", '{');
		kvm_stats_read(vcpu->stats_fd, put_counter, out);
		json_out_close(out, '}');
	}
	json_out_close(out, '}');
}

static void put_queue(struct json_out *out, const struct vq_stats *queue)
{
	json_out_open(out, NULL, '{');
	json_out_number(out, "requests", counter_get(&queue->requests));
	json_out_number(out, "bytes-from-guest", counter_get(&queue->bytes_out));
	json_out_number(out, "bytes-to-guest", counter_get(&queue->bytes_in));
	json_out_number(out, "doorbells", counter_get(&queue->doorbells));
	json_out_number(out, "found", counter_get(&queue->found));
	json_out_number(out, "irqs", counter_get(&queue->irqs));
	put_histogram(out, "batches", &queue->batches);
	json_out_close(out, '}');
}

static void put_op(struct json_out *out, const struct virtio_op_stats *op)
{
	json_out_open(out, op->name, '{');
	json_out_number(out, "bytes", counter_get(&op->bytes));
	json_out_number(out, "errors", counter_get(&op->errors));
	put_histogram(out, "latency-ns", &op->latency_ns);
	json_out_close(out, '}');
}

static void put_frames(struct json_out *out, const char *key, const struct run_frames *frames)
{
	json_out_open(out, key, '{');
	json_out_number(out, "packets", counter_get(&frames->frames));
	json_out_number(out, "bytes", counter_get(&frames->bytes));
	json_out_number(out, "dropped", counter_get(&frames->dropped));
	json_out_close(out, '}');
}

static void put_device(struct json_out *out, const struct virtio_dev *dev)
{
	const struct virtio_stats *stats = dev->stats;

	json_out_open(out, NULL, '{');
	json_out_text(out, "device", dev->name);
	json_out_open(out, "queues", '[');
	for (unsigned int i = 0; i < dev->nqueues; i++)
		put_queue(out, &stats->queues[i]);
	json_out_close(out, ']');
	if (stats->ops[0].name) {
		json_out_open(out, "requests", '{');
		for (unsigned int i = 0; i < VIRTIO_STATS_OPS && stats->ops[i].name; i++)
			put_op(out, &stats->ops[i]);
		json_out_close(out, '}');
	}
	if (stats->frames) {
		json_out_bool(out, "vhost", stats->by_kernel);
		put_frames(out, "rx", &stats->frames->rx);
		put_frames(out, "tx", &stats->frames->tx);
	}
	json_out_close(out, '}');
}

void stats_print_json(const struct board *board, FILE *to)
{
	struct json_out out = {.to = to};

	json_out_open(&out, NULL, '{');
	json_out_open(&out, "vcpus", '[');
	for (unsigned int i = 0; i < board->vm->ncpus; i++)
		put_vcpu(&out, &board->vm->vcpus[i]);
	json_out_close(&out, ']');
	json_out_open(&out, "devices", '[');
	for (unsigned int i = 0; i < board->dev_count; i++)
		put_device(&out, board->devs[i]);
	json_out_close(&out, ']');
	json_out_close(&out, '}');
	putc('\n', to);
}
