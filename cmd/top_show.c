/* SPDX-License-Identifier: MIT */
/* Reports come from other processes: what is missing or odd counts as 0. */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "cmd/print.h"
#include "cmd/top.h"
#include "util/histogram.h"
#include "util/util.h"

#define EXITS_SHOWN 4

static uint64_t number(const json_t *object, const char *key)
{
	json_int_t value = json_integer_value(json_object_get(object, key));

	return value > 0 ? (uint64_t)value : 0;
}

static uint64_t gained(const json_t *before, const json_t *after, const char *key)
{
	uint64_t a = number(before, key), b = number(after, key);

	return b > a ? b - a : 0;
}

static const char *text_of(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text ? text : "";
}

/* Counts that no machine reaches are cut off. */
static uint64_t per_second(uint64_t count, double seconds)
{
	double rate = (double)count / seconds + 0.5;

	return rate < 1e18 ? (uint64_t)rate : (uint64_t)1e18;
}

static const char *rate(uint64_t count, double seconds, char *out, size_t len)
{
	return count_text(per_second(count, seconds), out, len);
}

/* --- vCPUs --- */

struct exit_rate {
	const json_t *exit;
	uint64_t count, ns;
};

/* The same exit in the earlier report; NULL: there was none yet. */
static const json_t *same_exit(const json_t *list, const json_t *exit)
{
	const json_t *other;
	size_t i;

	json_array_foreach(list, i, other)
		if (number(other, "address") == number(exit, "address") &&
		    strcmp(text_of(other, "exit"), text_of(exit, "exit")) == 0)
			return other;
	return NULL;
}

/* Into its place among the most frequent. */
static void rank(struct exit_rate *top, struct exit_rate item)
{
	for (unsigned int i = 0; i < EXITS_SHOWN; i++) {
		struct exit_rate lower = top[i];

		if (item.count <= lower.count)
			continue;
		top[i] = item;
		item = lower;
	}
}

static void show_vcpu(const json_t *before, const json_t *after, double seconds)
{
	const json_t *old = json_object_get(before, "exits");
	const json_t *old_kvm = json_object_get(before, "kvm"), *kvm = json_object_get(after, "kvm");
	struct exit_rate top[EXITS_SHOWN] = {{NULL, 0, 0}};
	uint64_t count = 0, ns = 0;
	char a[16], b[16], c[16];
	const json_t *exit;
	size_t i;

	json_array_foreach(json_object_get(after, "exits"), i, exit) {
		const json_t *same = same_exit(old, exit);
		struct exit_rate item = {exit, gained(same, exit, "count"), gained(same, exit, "ns")};

		count += item.count;
		ns += item.ns;
		rank(top, item);
	}
	printf("  vcpu%-3u %9s %9s %9s %7.1f  ", (unsigned int)number(after, "vcpu"),
	       rate(gained(old_kvm, kvm, "exits"), seconds, a, sizeof(a)),
	       rate(gained(old_kvm, kvm, "halt_exits"), seconds, b, sizeof(b)),
	       rate(count, seconds, c, sizeof(c)), (double)ns / seconds / 1e7);
	for (i = 0; i < EXITS_SHOWN && top[i].count; i++) {
		printf("%s", i ? ", " : "");
		print_clean(text_of(top[i].exit, "exit"));
		printf(" %#llx %s", (unsigned long long)number(top[i].exit, "address"),
		       rate(top[i].count, seconds, a, sizeof(a)));
	}
	putchar('\n');
}

/* --- devices --- */

static void add_buckets(struct histogram *histogram, const json_t *latency, bool take_away)
{
	const json_t *pair;
	size_t i;

	json_array_foreach(json_object_get(latency, "buckets"), i, pair) {
		json_int_t floor = json_integer_value(json_array_get(pair, 0));
		json_int_t count = json_integer_value(json_array_get(pair, 1));
		unsigned int bucket =
			floor > 0 ? 64 - (unsigned int)__builtin_clzll((uint64_t)floor) : 0;

		if (count <= 0 || bucket >= HISTOGRAM_BUCKETS)
			continue;
		if (!take_away)
			counter_add(&histogram->buckets[bucket], (uint64_t)count);
		else if (counter_get(&histogram->buckets[bucket]) >= (uint64_t)count)
			counter_add(&histogram->buckets[bucket], -(uint64_t)count);
	}
}

static void show_op(const char *name, const json_t *before, const json_t *after, double seconds)
{
	struct histogram latency = {0};
	char count[16], bytes[32];
	uint64_t done;

	add_buckets(&latency, json_object_get(after, "latency-ns"), false);
	add_buckets(&latency, json_object_get(before, "latency-ns"), true);
	done = histogram_count(&latency);
	if (!done)
		return;
	printf("  %-7s %9s/s %12s/s  p50 %8.1f us  p99 %8.1f us", name,
	       rate(done, seconds, count, sizeof(count)),
	       size_text(per_second(gained(before, after, "bytes"), seconds), bytes,
			 sizeof(bytes)),
	       (double)histogram_percentile(&latency, 50) / 1000,
	       (double)histogram_percentile(&latency, 99) / 1000);
	if (gained(before, after, "errors"))
		printf("  %llu errors", (unsigned long long)gained(before, after, "errors"));
	putchar('\n');
}

static void show_queues(const json_t *before, const json_t *after, double seconds)
{
	uint64_t requests = 0, doorbells = 0, irqs = 0;
	const json_t *queue;
	char a[16], b[16], c[16];
	size_t i;

	json_array_foreach(json_object_get(after, "queues"), i, queue) {
		const json_t *old = json_array_get(json_object_get(before, "queues"), i);

		requests += gained(old, queue, "requests");
		doorbells += gained(old, queue, "doorbells");
		irqs += gained(old, queue, "irqs");
	}
	printf("%9s requests/s, %s doorbells/s, %s interrupts/s\n",
	       rate(requests, seconds, a, sizeof(a)), rate(doorbells, seconds, b, sizeof(b)),
	       rate(irqs, seconds, c, sizeof(c)));
}

static void show_frames(const char *name, const json_t *before, const json_t *after,
			double seconds)
{
	char packets[16], bytes[32];

	if (!gained(before, after, "packets"))
		return;
	printf("  %-7s %9s/s %12s/s  %llu dropped\n", name,
	       rate(gained(before, after, "packets"), seconds, packets, sizeof(packets)),
	       size_text(per_second(gained(before, after, "bytes"), seconds), bytes,
			 sizeof(bytes)),
	       (unsigned long long)gained(before, after, "dropped"));
}

static void show_device(const json_t *before, const json_t *after, double seconds)
{
	static const char *const ops[] = {"read", "write", "flush", "discard", "write-zeroes"};
	const json_t *old = json_object_get(before, "requests");
	const json_t *now = json_object_get(after, "requests");

	printf("  ");
	print_padded(text_of(after, "device"), 8);
	show_queues(before, after, seconds);
	for (size_t i = 0; i < ARRAY_LEN(ops); i++)
		show_op(ops[i], json_object_get(old, ops[i]), json_object_get(now, ops[i]), seconds);
	show_frames("to it", json_object_get(before, "rx"), json_object_get(after, "rx"), seconds);
	show_frames("from it", json_object_get(before, "tx"), json_object_get(after, "tx"), seconds);
}

void top_show(const json_t *before, const json_t *after, double seconds)
{
	const json_t *item, *old = json_object_get(before, "vcpus");
	size_t i;

	printf("  %-7s %9s %9s %9s %7s  %s\n", "", "to KVM/s", "halts/s", "to us/s", "time %",
	       "most often");
	json_array_foreach(json_object_get(after, "vcpus"), i, item)
		show_vcpu(json_array_get(old, i), item, seconds);
	old = json_object_get(before, "devices");
	json_array_foreach(json_object_get(after, "devices"), i, item)
		show_device(json_array_get(old, i), item, seconds);
}
