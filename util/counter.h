/* SPDX-License-Identifier: MIT */
/*
 * Numbers that one thread counts, so that counting is a plain add, and others read meanwhile: each
 * is seen whole, and no two of them at one instant.
 */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

/* By its one writer. */
static inline void counter_add(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
			      memory_order_relaxed);
}

static inline void counter_set(_Atomic uint64_t *value, uint64_t n)
{
	atomic_store_explicit(value, n, memory_order_relaxed);
}

static inline uint64_t counter_get(const _Atomic uint64_t *value)
{
	return atomic_load_explicit(value, memory_order_relaxed);
}
