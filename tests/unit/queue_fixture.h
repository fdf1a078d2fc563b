/* SPDX-License-Identifier: MIT */
/* For tests of virtqueues: one with its ring in guest memory, and nobody else at either end. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ring.h"

#define SIZE 8
#define BUF 0x4000 /* buffers for anybody */
#define TABLE 0x8000 /* indirect tables */
#define LOW KIB(64)

struct fixture {
	struct mem mem;
	struct ring ring;
	struct virtqueue *vq;
};

static inline void start(struct fixture *f, uint16_t size, bool event_idx, bool indirect)
{
	struct vq_config config;

	guest_init(&f->mem, LOW, KIB(4));
	ring_init(&f->ring, &f->mem, size, 0x1000);
	f->ring.event_idx = event_idx;
	f->ring.indirect = indirect;
	config = ring_config(&f->ring);
	assert_int_equal(vq_create(&f->mem, &config, &f->vq), 0);
}

static inline int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	start(f, SIZE, false, true);
	*state = f;
	return 0;
}

static inline int setup_event_idx(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	start(f, SIZE, true, true);
	*state = f;
	return 0;
}

static inline int teardown(void **state)
{
	struct fixture *f = *state;

	vq_destroy(f->vq);
	guest_finish(&f->mem);
	free(f);
	return 0;
}

static inline void *at(struct fixture *f, uint64_t gpa)
{
	return mem_at(&f->mem, gpa, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, setup, teardown)
#define TEST_EVENT_IDX(name) \
	cmocka_unit_test_setup_teardown(test_##name, setup_event_idx, teardown)
