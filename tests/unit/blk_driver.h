/* SPDX-License-Identifier: MIT */
/*
 * virtio-blk on a loop and a disk that move when they are told to; the test that includes this
 * is the driver.
 */
#pragma once

#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fake_blk.h"
#include "fake_loop.h"
#include "ring.h"
#include "virtio/blk.h"
#include "virtio/device.h"

#define SIZE 256
#define DISK MIB(2)
#define SECTORS (DISK / 512)
#define HEADER 0x8000
#define STATUS 0x9000
#define RANGES 0xa000
#define TABLES 0x10000
#define DATA 0x80000
#define LOW MIB(2)
#define UNTOUCHED 0xee
#define BIT(n) (1ull << (n))
#define QUEUES_MAX 3 /* there is room for in front of HEADER */
#define ALL UINT64_MAX

struct fixture {
	struct loop loop;
	struct mem mem;
	union {
		struct ring ring; /* the first */
		struct ring rings[QUEUES_MAX];
	};
	unsigned int queues;
	struct blk_limit *limit; /* or NULL */
	struct blk blk;
	struct virtio_dev *dev;
	unsigned int irqs, config_irqs;
	unsigned int irqs_of[QUEUES_MAX];
	uint32_t written; /* of the last `request` */
};

static inline void count_irq(void *owner, unsigned int queue)
{
	struct fixture *f = owner;

	f->irqs++;
	f->irqs_of[queue]++;
}

static inline void count_config_irq(void *owner)
{
	struct fixture *f = owner;

	f->config_irqs++;
}

/* The driver's part of 3.1.1, with `features` of those offered. */
static inline void start(struct fixture *f, uint64_t features)
{
	features &= f->dev->offered & ~BIT(VIRTIO_RING_F_EVENT_IDX);
	virtio_set_status(f->dev, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
	virtio_set_driver_features(f->dev, 0, (uint32_t)features);
	virtio_set_driver_features(f->dev, 1, (uint32_t)(features >> 32));
	virtio_set_status(f->dev, VIRTIO_CONFIG_S_FEATURES_OK);
	for (unsigned int i = 0; i < f->queues; i++) {
		ring_init(&f->rings[i], &f->mem, SIZE, 0x1000 + 0x2000 * i);
		f->dev->queues[i].config = ring_config(&f->rings[i]);
		f->dev->queues[i].enabled = true;
	}
	virtio_set_status(f->dev, VIRTIO_CONFIG_S_DRIVER_OK);
	fake_loop_turn(&f->loop);
	assert_true(f->dev->live);
}

static inline struct fixture *create(void)
{
	struct fixture *f = calloc(1, sizeof(*f));

	f->queues = 1;
	fake_loop_init(&f->loop);
	guest_init(&f->mem, LOW, 0);
	fake_blk_init(&f->blk, &f->mem, DISK);
	for (size_t i = 0; i < DISK; i++)
		f->blk.disk[i] = (uint8_t)(i / 512 + i);
	return f;
}

static inline void create_device(struct fixture *f)
{
	const struct virtio_blk_options options = {
		.serial = "serial-number", .queues = f->queues, .limit = f->limit};

	assert_int_equal(virtio_blk_create("blk0", &f->loop, &f->mem, &f->blk, &options, &f->dev),
			 0);
	f->dev->transport = (struct virtio_transport){
		.queue_irq = count_irq,
		.config_irq = count_config_irq,
		.owner = f,
	};
}

static inline int setup(void **state)
{
	struct fixture *f = create();

	create_device(f);
	start(f, ALL);
	*state = f;
	return 0;
}

/* Reset by the driver; what is in flight completes. */
static inline void reset(struct fixture *f)
{
	virtio_set_status(f->dev, 0);
	fake_loop_turn(&f->loop);
	fake_blk_complete_all(&f->blk);
	fake_loop_turn(&f->loop);
	assert_int_equal(virtio_get_status(f->dev), 0);
}

static inline int teardown(void **state)
{
	struct fixture *f = *state;

	reset(f);
	virtio_dev_destroy(f->dev);
	fake_blk_finish(&f->blk);
	guest_finish(&f->mem);
	free(f);
	return 0;
}

static inline uint8_t *at(struct fixture *f, uint64_t gpa)
{
	return mem_at(&f->mem, gpa, 1);
}

static inline void put_header(struct fixture *f, uint64_t gpa, uint32_t type, uint64_t sector)
{
	struct virtio_blk_outhdr header = {.type = type, .sector = sector};

	memcpy(at(f, gpa), &header, sizeof(header));
}

/* Let the device see what was added, and the block layer do it. */
static inline void run(struct fixture *f)
{
	virtio_kick(f->dev, 0);
	fake_loop_turn(&f->loop);
	fake_blk_complete_all(&f->blk);
	fake_loop_turn(&f->loop);
}

static inline bool needs_reset(struct fixture *f)
{
	return virtio_get_status(f->dev) & VIRTIO_CONFIG_S_NEEDS_RESET;
}

/* Run the request that is in the ring; its status is at STATUS. */
static inline uint8_t run_one(struct fixture *f)
{
	struct ring_elem elem = {0};

	*at(f, STATUS) = UNTOUCHED;
	run(f);
	assert_false(needs_reset(f));
	assert_true(ring_used(&f->ring, &elem));
	assert_false(ring_used(&f->ring, &elem));
	f->written = elem.len;
	return *at(f, STATUS);
}

/* A request with its header and its status in descriptors of their own. */
static inline uint8_t request(struct fixture *f, uint32_t type, uint64_t sector,
			      const struct ring_buf *data, unsigned int out_count,
			      unsigned int in_count)
{
	unsigned int count = out_count + in_count;
	struct ring_buf *bufs = calloc(count + 2, sizeof(*bufs));

	put_header(f, HEADER, type, sector);
	bufs[0] = (struct ring_buf){HEADER, 16};
	if (count)
		memcpy(bufs + 1, data, count * sizeof(*bufs));
	bufs[count + 1] = (struct ring_buf){STATUS, 1};
	ring_add_indirect(&f->ring, TABLES, bufs, out_count + 1, in_count + 1);
	free(bufs);
	return run_one(f);
}

static inline uint8_t read_sectors(struct fixture *f, uint64_t sector, uint32_t len)
{
	struct ring_buf data = {DATA, len};

	return request(f, VIRTIO_BLK_T_IN, sector, &data, 0, 1);
}

static inline uint8_t write_sectors(struct fixture *f, uint64_t sector, uint32_t len)
{
	struct ring_buf data = {DATA, len};

	return request(f, VIRTIO_BLK_T_OUT, sector, &data, 1, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, setup, teardown)
