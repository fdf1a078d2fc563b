/* SPDX-License-Identifier: MIT */
/* When something happened first: noted by whoever it happens to, read by others meanwhile. */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#include "util/util.h"

struct moment {
	_Atomic uint64_t ns; /* of monotonic_ns; 0: not yet */
};

static inline uint64_t moment_get(const struct moment *moment)
{
	return atomic_load_explicit(&moment->ns, memory_order_relaxed);
}

/* Of two threads at once either may be kept. */
static inline void moment_note(struct moment *moment)
{
	if (!moment_get(moment))
		atomic_store_explicit(&moment->ns, monotonic_ns(), memory_order_relaxed);
}
