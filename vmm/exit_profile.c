/* SPDX-License-Identifier: MIT */
#include "vmm/exit_profile.h"

#include <stdlib.h>

#include "util/counter.h"

const char *exit_kind_name(enum exit_kind kind)
{
	static const char *const names[] = {
		[EXIT_PIO_IN] = "pio-in",	[EXIT_PIO_OUT] = "pio-out",
		[EXIT_MMIO_READ] = "mmio-read", [EXIT_MMIO_WRITE] = "mmio-write",
		[EXIT_OTHER] = "other",
	};

	return names[kind];
}

void exit_profile_add(struct exit_profile *profile, enum exit_kind kind, uint64_t addr,
		      uint64_t ns)
{
	unsigned int hash = (unsigned int)((addr >> 2 ^ addr >> 12 ^ kind) % EXIT_PROFILE_SLOTS);

	for (unsigned int i = 0; i < EXIT_PROFILE_SLOTS; i++) {
		struct exit_slot *slot = &profile->slots[(hash + i) % EXIT_PROFILE_SLOTS];
		uint64_t count = counter_get(&slot->count);

		if (count == 0) {
			slot->kind = kind;
			slot->addr = addr;
		}
		if (slot->kind == kind && slot->addr == addr) {
			counter_add(&slot->ns, ns);
			/* Release, with the acquire in exit_profile_read: the slot is filled in. */
			atomic_store_explicit(&slot->count, count + 1, memory_order_release);
			return;
		}
	}
	counter_add(&profile->lost, 1);
	counter_add(&profile->lost_ns, ns);
}

static int more_frequent(const void *a, const void *b)
{
	const struct exit_count *left = a, *right = b;

	return (left->count < right->count) - (left->count > right->count);
}

unsigned int exit_profile_read(const struct exit_profile *profile,
			       struct exit_count out[EXIT_PROFILE_SLOTS])
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < EXIT_PROFILE_SLOTS; i++) {
		const struct exit_slot *slot = &profile->slots[i];
		/* Pairs with the release in exit_profile_add. */
		uint64_t count = atomic_load_explicit(&slot->count, memory_order_acquire);

		if (count)
			out[n++] = (struct exit_count){
				slot->kind, slot->addr, count, counter_get(&slot->ns)};
	}
	qsort(out, n, sizeof(out[0]), more_frequent);
	return n;
}
