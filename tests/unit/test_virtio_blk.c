/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <pthread.h>

#include "fake_blk.h"
#include "fake_loop.h"
#include "ring.h"
#include "virtio/blk.h"
#include "virtio/device.h"

#define SIZE 256
#define SEG_MAX 254
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
#define ALL UINT64_MAX

struct fixture {
	struct loop loop;
	struct mem mem;
	struct ring ring;
	struct blk blk;
	struct virtio_dev *dev;
	unsigned int irqs, config_irqs;
	uint32_t written; /* of the last `request` */
};

static void count_irq(void *owner, unsigned int queue)
{
	struct fixture *f = owner;

	f->irqs++;
}

static void count_config_irq(void *owner)
{
	struct fixture *f = owner;

	f->config_irqs++;
}

/* The driver's part of 3.1.1, with `features` of those offered. */
static void start(struct fixture *f, uint64_t features)
{
	features &= f->dev->offered & ~BIT(VIRTIO_RING_F_EVENT_IDX);
	virtio_set_status(f->dev, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
	virtio_set_driver_features(f->dev, 0, (uint32_t)features);
	virtio_set_driver_features(f->dev, 1, (uint32_t)(features >> 32));
	virtio_set_status(f->dev, VIRTIO_CONFIG_S_FEATURES_OK);
	ring_init(&f->ring, &f->mem, SIZE, 0x1000);
	f->dev->queues[0].config = ring_config(&f->ring);
	f->dev->queues[0].enabled = true;
	virtio_set_status(f->dev, VIRTIO_CONFIG_S_DRIVER_OK);
	fake_loop_turn(&f->loop);
	assert_true(f->dev->live);
}

static struct fixture *create(void)
{
	struct fixture *f = calloc(1, sizeof(*f));

	fake_loop_init(&f->loop);
	guest_init(&f->mem, LOW, 0);
	fake_blk_init(&f->blk, &f->mem, DISK);
	for (size_t i = 0; i < DISK; i++)
		f->blk.disk[i] = (uint8_t)(i / 512 + i);
	return f;
}

static void create_device(struct fixture *f)
{
	assert_int_equal(virtio_blk_create("blk0", &f->loop, &f->mem, &f->blk, "serial-number",
					   &f->dev), 0);
	f->dev->transport = (struct virtio_transport){
		.queue_irq = count_irq,
		.config_irq = count_config_irq,
		.owner = f,
	};
}

static int setup(void **state)
{
	struct fixture *f = create();

	create_device(f);
	start(f, ALL);
	*state = f;
	return 0;
}

static int setup_readonly(void **state)
{
	struct fixture *f = create();

	f->blk.info.readonly = true;
	create_device(f);
	start(f, ALL);
	*state = f;
	return 0;
}

/* Reset by the driver; what is in flight completes. */
static void reset(struct fixture *f)
{
	virtio_set_status(f->dev, 0);
	fake_loop_turn(&f->loop);
	fake_blk_complete_all(&f->blk);
	fake_loop_turn(&f->loop);
	assert_int_equal(virtio_get_status(f->dev), 0);
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	reset(f);
	virtio_dev_destroy(f->dev);
	fake_blk_finish(&f->blk);
	guest_finish(&f->mem);
	free(f);
	return 0;
}

static uint8_t *at(struct fixture *f, uint64_t gpa)
{
	return mem_at(&f->mem, gpa, 1);
}

static void put_header(struct fixture *f, uint64_t gpa, uint32_t type, uint64_t sector)
{
	struct virtio_blk_outhdr header = {.type = type, .sector = sector};

	memcpy(at(f, gpa), &header, sizeof(header));
}

/* Let the device see what was added, and the block layer do it. */
static void run(struct fixture *f)
{
	virtio_kick(f->dev, 0);
	fake_loop_turn(&f->loop);
	fake_blk_complete_all(&f->blk);
	fake_loop_turn(&f->loop);
}

static bool needs_reset(struct fixture *f)
{
	return virtio_get_status(f->dev) & VIRTIO_CONFIG_S_NEEDS_RESET;
}

/* Run the request that is in the ring; its status is at STATUS. */
static uint8_t run_one(struct fixture *f)
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
static uint8_t request(struct fixture *f, uint32_t type, uint64_t sector,
		       const struct ring_buf *data, unsigned int out_count, unsigned int in_count)
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

static uint8_t read_sectors(struct fixture *f, uint64_t sector, uint32_t len)
{
	struct ring_buf data = {DATA, len};

	return request(f, VIRTIO_BLK_T_IN, sector, &data, 0, 1);
}

static uint8_t write_sectors(struct fixture *f, uint64_t sector, uint32_t len)
{
	struct ring_buf data = {DATA, len};

	return request(f, VIRTIO_BLK_T_OUT, sector, &data, 1, 0);
}

/* --- configuration --- */

static void test_features(void **state)
{
	struct fixture *f = *state;
	uint64_t features = f->dev->offered;

	assert_true(features & BIT(VIRTIO_F_VERSION_1));
	assert_true(features & BIT(VIRTIO_BLK_F_FLUSH));
	assert_true(features & BIT(VIRTIO_BLK_F_DISCARD));
	assert_true(features & BIT(VIRTIO_BLK_F_WRITE_ZEROES));
	assert_false(features & BIT(VIRTIO_BLK_F_RO));
	/* Legacy bits, and the bits of other devices. */
	assert_false(features & (BIT(0) | BIT(3) | BIT(7) | BIT(8)));
}

static void test_features_readonly(void **state)
{
	struct fixture *f = *state;

	assert_true(f->dev->offered & BIT(VIRTIO_BLK_F_RO));
	assert_false(f->dev->offered & BIT(VIRTIO_BLK_F_DISCARD));
	assert_false(f->dev->offered & BIT(VIRTIO_BLK_F_WRITE_ZEROES));
}

static void test_config(void **state)
{
	struct virtio_blk_config config = {0};
	struct fixture *f = *state;

	virtio_config_read(f->dev, 0, &config, sizeof(config));
	assert_int_equal(config.capacity, SECTORS);
	assert_int_equal(config.seg_max, SEG_MAX);
	assert_int_equal(config.blk_size, 512);
	assert_int_equal(config.physical_block_exp, 3);
	assert_int_equal(config.min_io_size, 8);
	assert_int_equal(config.opt_io_size, 128);
	assert_int_equal(config.wce, 1);
	assert_int_equal(config.max_discard_seg, 16);
	assert_int_equal(config.discard_sector_alignment, 128);
	assert_int_equal(config.write_zeroes_may_unmap, 1);
}

static void test_config_write(void **state)
{
	size_t wce = offsetof(struct virtio_blk_config, wce);
	struct virtio_blk_config before = {0}, after = {0};
	struct fixture *f = *state;
	uint8_t ones[80];

	memset(ones, 0xff, sizeof(ones));
	virtio_config_read(f->dev, 0, &before, sizeof(before));
	virtio_config_write(f->dev, 0, ones, (unsigned int)wce);
	virtio_config_write(f->dev, wce + 1, ones, sizeof(ones));
	virtio_config_write(f->dev, UINT64_MAX, ones, 8);
	virtio_config_read(f->dev, 0, &after, sizeof(after));
	assert_memory_equal(&before, &after, sizeof(before));
	memset(ones, 0, sizeof(ones));
	virtio_config_write(f->dev, wce - 2, ones, 4);
	virtio_config_read(f->dev, 0, &after, sizeof(after));
	before.wce = 0;
	assert_memory_equal(&before, &after, sizeof(before));
}

/* 5.2.5.2: `writeback` is 0 for a driver that did not take FLUSH, and stays what it was for
 * one that did not take CONFIG_WCE. */
static void test_config_wce_needs_features(void **state)
{
	size_t wce = offsetof(struct virtio_blk_config, wce);
	struct fixture *f = *state;
	uint8_t value = 0;

	reset(f);
	start(f, ~BIT(VIRTIO_BLK_F_FLUSH));
	virtio_config_read(f->dev, wce, &value, 1);
	assert_int_equal(value, 0);
	reset(f);
	start(f, ~BIT(VIRTIO_BLK_F_CONFIG_WCE));
	value = 0;
	virtio_config_write(f->dev, wce, &value, 1);
	virtio_config_read(f->dev, wce, &value, 1);
	assert_int_equal(value, 1);
}

/* --- reading and writing --- */

static void test_read(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(read_sectors(f, 5, 4096), VIRTIO_BLK_S_OK);
	assert_int_equal(f->written, 4097);
	assert_memory_equal(at(f, DATA), f->blk.disk + 5 * 512, 4096);
	assert_int_equal(f->irqs, 1);
}

static void test_write(void **state)
{
	struct fixture *f = *state;

	memset(at(f, DATA), 0x77, 1024);
	assert_int_equal(write_sectors(f, 7, 1024), VIRTIO_BLK_S_OK);
	assert_int_equal(f->written, 1);
	assert_memory_equal(at(f, DATA), f->blk.disk + 7 * 512, 1024);
	assert_int_equal(f->blk.disk[7 * 512 - 1], (uint8_t)(6 + 7 * 512 - 1));
	assert_int_equal(f->blk.log_count, 1); /* writeback: no flush */
}

/* 2.7.4.3: every way to cut header, data and status into descriptors of one length. */
static void test_framing_read(void **state)
{
	static const uint32_t pieces[] = {1, 2, 3, 5, 15, 16, 17, 100, 512, 513, 600};
	struct fixture *f = *state;

	for (size_t p = 0; p < ARRAY_LEN(pieces); p++) {
		struct ring_buf bufs[1100];
		unsigned int out_count = 0, in_count = 0;

		/* The status byte is right behind the data, in the last piece or alone. */
		for (uint32_t i = 0; i < 16; i += pieces[p])
			bufs[out_count++] =
				(struct ring_buf){HEADER + i, MIN(pieces[p], 16 - i)};
		for (uint32_t i = 0; i < 513; i += pieces[p])
			bufs[out_count + in_count++] =
				(struct ring_buf){DATA + i, MIN(pieces[p], 513 - i)};
		if (in_count > SEG_MAX)
			continue;
		put_header(f, HEADER, VIRTIO_BLK_T_IN, p);
		memset(at(f, DATA), UNTOUCHED, 600);
		ring_add_indirect(&f->ring, TABLES, bufs, out_count, in_count);
		run_one(f);
		assert_int_equal(*at(f, DATA + 512), VIRTIO_BLK_S_OK);
		assert_memory_equal(at(f, DATA), f->blk.disk + p * 512, 512);
		assert_int_equal(f->written, 513);
		assert_int_equal(*at(f, DATA + 513), UNTOUCHED);
	}
}

static void test_framing_write(void **state)
{
	struct fixture *f = *state;

	/* One readable descriptor of header and data, then cut at each place. */
	for (uint32_t cut = 1; cut <= 16 + 1024; cut++) {
		struct ring_buf bufs[] = {
			{DATA, cut}, {DATA + cut, 16 + 1024 - cut}, {STATUS, 1},
		};
		bool whole = cut == 16 + 1024;

		if (whole)
			bufs[1] = bufs[2];
		put_header(f, DATA, VIRTIO_BLK_T_OUT, 9);
		memset(at(f, DATA + 16), (int)cut, 1024);
		ring_add(&f->ring, bufs, whole ? 1 : 2, 1);
		assert_int_equal(run_one(f), VIRTIO_BLK_S_OK);
		assert_int_equal(f->written, 1);
		assert_memory_equal(at(f, DATA + 16), f->blk.disk + 9 * 512, 1024);
	}
}

static void test_last_sector(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(read_sectors(f, SECTORS - 1, 512), VIRTIO_BLK_S_OK);
	assert_int_equal(read_sectors(f, 0, DISK / 2), VIRTIO_BLK_S_OK);
}

static void test_outside_disk(void **state)
{
	static const uint64_t bad[] = {SECTORS - 1, SECTORS, SECTORS + 1, UINT64_MAX / 512,
				       UINT64_MAX / 512 + 1, UINT64_MAX - 1, UINT64_MAX,
				       BIT(55), BIT(55) + 1, BIT(63)};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		assert_int_equal(read_sectors(f, bad[i], 1024), VIRTIO_BLK_S_IOERR);
		assert_int_equal(f->written, 0);
		assert_int_equal(write_sectors(f, bad[i], 1024), VIRTIO_BLK_S_IOERR);
		assert_int_equal(f->written, 1);
	}
	assert_int_equal(f->blk.log_count, 0);
	assert_int_equal(read_sectors(f, 0, 512), VIRTIO_BLK_S_OK); /* and goes on */
}

static void test_length(void **state)
{
	static const uint32_t bad[] = {1, 511, 513, 1023};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		assert_int_equal(read_sectors(f, 0, bad[i]), VIRTIO_BLK_S_IOERR);
		assert_int_equal(write_sectors(f, 0, bad[i]), VIRTIO_BLK_S_IOERR);
	}
	assert_int_equal(request(f, VIRTIO_BLK_T_IN, 0, NULL, 0, 0), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(f, VIRTIO_BLK_T_OUT, 0, NULL, 0, 0), VIRTIO_BLK_S_IOERR);
	assert_int_equal(f->blk.log_count, 0);
}

static void test_wrong_direction(void **state)
{
	struct ring_buf data[] = {{DATA, 512}, {DATA + 512, 512}};
	struct fixture *f = *state;

	assert_int_equal(request(f, VIRTIO_BLK_T_IN, 0, data, 1, 0), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(f, VIRTIO_BLK_T_OUT, 0, data, 0, 1), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(f, VIRTIO_BLK_T_IN, 0, data, 1, 1), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(f, VIRTIO_BLK_T_OUT, 0, data, 1, 1), VIRTIO_BLK_S_IOERR);
	assert_int_equal(f->blk.log_count, 0);
}

static void test_short_header(void **state)
{
	struct fixture *f = *state;

	put_header(f, HEADER, VIRTIO_BLK_T_FLUSH, 0);
	for (uint32_t len = 0; len < 16; len++) {
		struct ring_buf bufs[] = {{HEADER, len}, {STATUS, 1}};

		ring_add(&f->ring, len ? bufs : bufs + 1, len ? 1 : 0, 1);
		assert_int_equal(run_one(f), VIRTIO_BLK_S_IOERR);
		assert_int_equal(f->written, 1);
	}
}

static void test_no_status(void **state)
{
	struct ring_buf bufs[] = {{HEADER, 16}, {DATA, 512}};
	struct fixture *f = *state;

	put_header(f, HEADER, VIRTIO_BLK_T_OUT, 0);
	ring_add(&f->ring, bufs, 2, 0);
	run(f);
	assert_true(needs_reset(f));
	assert_int_equal(f->config_irqs, 1);
	assert_int_equal(f->blk.log_count, 0);
	reset(f);
	start(f, ALL);
	assert_int_equal(read_sectors(f, 0, 512), VIRTIO_BLK_S_OK);
}

static void test_segments(void **state)
{
	static const unsigned int good[] = {1, 15, 16, 17, SEG_MAX - 1, SEG_MAX};
	struct ring_buf bufs[SEG_MAX + 1];
	struct fixture *f = *state;

	for (unsigned int i = 0; i <= SEG_MAX; i++)
		bufs[i] = (struct ring_buf){DATA + 1024 * i, 512};
	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		unsigned int last = good[i] - 1;

		assert_int_equal(request(f, VIRTIO_BLK_T_IN, 3, bufs, 0, good[i]),
				 VIRTIO_BLK_S_OK);
		assert_int_equal(f->written, good[i] * 512 + 1);
		assert_memory_equal(at(f, bufs[last].gpa), f->blk.disk + (3 + last) * 512, 512);
	}
	f->blk.log_count = 0;
	assert_int_equal(request(f, VIRTIO_BLK_T_IN, 3, bufs, 0, SEG_MAX + 1),
			 VIRTIO_BLK_S_IOERR);
	assert_int_equal(f->blk.log_count, 0);
}

/* Every head in flight at once, each with a long list, several times: none is mixed up. */
static void test_all_heads(void **state)
{
	struct fixture *f = *state;
	struct ring_elem elem = {0};

	for (unsigned int round = 0; round < 3; round++) {
		for (unsigned int i = 0; i < SIZE; i++) {
			struct ring_buf bufs[33] = {{HEADER + 16 * i, 16}};

			for (unsigned int k = 0; k < 32; k++)
				bufs[k + 1] = (struct ring_buf){DATA + 512 * i + 16 * k, 16};
			bufs[32].len = 17; /* the next one's first byte, written first */
			put_header(f, HEADER + 16 * i, VIRTIO_BLK_T_IN, (i * 7 + round) % SECTORS);
			ring_add_indirect(&f->ring, TABLES + 1024 * (uint64_t)i, bufs, 1, 32);
		}
		virtio_kick(f->dev, 0);
		fake_loop_turn(&f->loop);
		assert_int_equal(f->blk.pending_count, SIZE);
		while (f->blk.pending_count)
			fake_blk_complete(&f->blk, f->blk.pending_count * 5 / 7);
		fake_loop_turn(&f->loop);
		for (unsigned int i = 0; i < SIZE; i++) {
			assert_true(ring_used(&f->ring, &elem));
			assert_int_equal(elem.len, 513);
		}
		/* All but the byte that the status before it may have hit. */
		for (unsigned int i = 0; i < SIZE; i++)
			assert_memory_equal(at(f, DATA + 512 * i + 1),
					    f->blk.disk + (i * 7 + round) % SECTORS * 512 + 1, 511);
	}
	assert_int_equal(f->irqs, 3); /* one for each batch */
}

static void test_readonly(void **state)
{
	struct ring_buf ranges = {RANGES, 16};
	struct fixture *f = *state;

	assert_int_equal(write_sectors(f, 0, 512), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(f, VIRTIO_BLK_T_DISCARD, 0, &ranges, 1, 0),
			 VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(f->blk.log_count, 0);
	assert_int_equal(read_sectors(f, 0, 512), VIRTIO_BLK_S_OK);
	assert_int_equal(request(f, VIRTIO_BLK_T_FLUSH, 0, NULL, 0, 0), VIRTIO_BLK_S_OK);
}

static void test_host_errors(void **state)
{
	struct fixture *f = *state;

	f->blk.error = -EIO;
	f->blk.error_op = BLK_READ;
	assert_int_equal(read_sectors(f, 0, 512), VIRTIO_BLK_S_IOERR);
	assert_int_equal(f->written, 0);
	f->blk.error = -ENOSPC;
	f->blk.error_op = BLK_WRITE;
	assert_int_equal(write_sectors(f, 0, 512), VIRTIO_BLK_S_IOERR);
	f->blk.error = -ENOTSUP;
	assert_int_equal(write_sectors(f, 0, 512), VIRTIO_BLK_S_UNSUPP);
	f->blk.error = 0;
	assert_int_equal(write_sectors(f, 0, 512), VIRTIO_BLK_S_OK);
}

static void test_unknown_types(void **state)
{
	static const uint32_t bad[] = {2, 3, 5, 6, 7, 10, 14, 15, 0x80000000, 0xffffffff};
	struct ring_buf data = {DATA, 512};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		assert_int_equal(request(f, bad[i], 0, &data, 0, 1), VIRTIO_BLK_S_UNSUPP);
		assert_int_equal(f->written, 0);
		assert_int_equal(request(f, bad[i], 0, NULL, 0, 0), VIRTIO_BLK_S_UNSUPP);
		assert_int_equal(f->written, 1);
	}
}

static void test_get_id(void **state)
{
	static const char id[20] = "serial-number";
	static const struct {
		uint32_t room, filled, written;
	} cases[] = {{20, 20, 21}, {64, 20, 20}, {5, 5, 6}};
	struct ring_buf split[] = {{DATA, 3}, {DATA + 3, 17}};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct ring_buf data = {DATA, cases[i].room};

		memset(at(f, DATA), UNTOUCHED, 64);
		assert_int_equal(request(f, VIRTIO_BLK_T_GET_ID, 0, &data, 0, 1),
				 VIRTIO_BLK_S_OK);
		assert_int_equal(f->written, cases[i].written);
		assert_memory_equal(at(f, DATA), id, cases[i].filled);
		assert_int_equal(*at(f, DATA + cases[i].filled), UNTOUCHED);
	}
	memset(at(f, DATA), UNTOUCHED, 64);
	assert_int_equal(request(f, VIRTIO_BLK_T_GET_ID, 0, split, 0, 2), VIRTIO_BLK_S_OK);
	assert_memory_equal(at(f, DATA), id, 20);
	assert_int_equal(request(f, VIRTIO_BLK_T_GET_ID, 0, NULL, 0, 0), VIRTIO_BLK_S_IOERR);
}

/* --- caching --- */

static void test_flush(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(request(f, VIRTIO_BLK_T_FLUSH, 0, NULL, 0, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(f->written, 1);
	assert_int_equal(f->blk.log_count, 1);
	assert_int_equal(f->blk.log[0].op, BLK_FLUSH);
	f->blk.error = -EIO;
	f->blk.error_op = BLK_FLUSH;
	assert_int_equal(request(f, VIRTIO_BLK_T_FLUSH, 0, NULL, 0, 0), VIRTIO_BLK_S_IOERR);
}

/* A write is answered after the flush that follows it. */
static void assert_writethrough(struct fixture *f)
{
	struct ring_elem elem = {0};

	f->blk.log_count = 0;
	assert_int_equal(write_sectors(f, 0, 512), VIRTIO_BLK_S_OK);
	assert_int_equal(f->blk.log_count, 2);
	assert_int_equal(f->blk.log[1].op, BLK_FLUSH);
	assert_int_equal(read_sectors(f, 0, 512), VIRTIO_BLK_S_OK);
	assert_int_equal(f->blk.log_count, 3);

	put_header(f, HEADER, VIRTIO_BLK_T_OUT, 0);
	ring_add(&f->ring, (struct ring_buf[]){{HEADER, 16}, {DATA, 512}, {STATUS, 1}}, 2, 1);
	virtio_kick(f->dev, 0);
	fake_loop_turn(&f->loop);
	fake_blk_complete(&f->blk, 0);
	fake_loop_turn(&f->loop);
	assert_false(ring_used(&f->ring, &elem));
	assert_int_equal(f->blk.pending_count, 1);
	fake_blk_complete(&f->blk, 0);
	fake_loop_turn(&f->loop);
	assert_true(ring_used(&f->ring, &elem));

	/* No flush after a write that failed; no success after a flush that failed. */
	f->blk.log_count = 0;
	f->blk.error = -EIO;
	f->blk.error_op = BLK_WRITE;
	assert_int_equal(write_sectors(f, 0, 512), VIRTIO_BLK_S_IOERR);
	assert_int_equal(f->blk.log_count, 1);
	f->blk.error_op = BLK_FLUSH;
	assert_int_equal(write_sectors(f, 0, 512), VIRTIO_BLK_S_IOERR);
	f->blk.error = 0;
}

static void test_writethrough_without_flush(void **state)
{
	struct fixture *f = *state;

	reset(f);
	start(f, ~(BIT(VIRTIO_BLK_F_FLUSH) | BIT(VIRTIO_BLK_F_CONFIG_WCE)));
	assert_writethrough(f);
	reset(f);
	start(f, ~BIT(VIRTIO_BLK_F_FLUSH));
	assert_writethrough(f);
}

static void test_writethrough_by_config(void **state)
{
	size_t wce = offsetof(struct virtio_blk_config, wce);
	struct fixture *f = *state;
	uint8_t value = 0;

	virtio_config_write(f->dev, wce, &value, 1);
	assert_writethrough(f);
	value = 1;
	virtio_config_write(f->dev, wce, &value, 1);
	f->blk.log_count = 0;
	assert_int_equal(write_sectors(f, 0, 512), VIRTIO_BLK_S_OK);
	assert_int_equal(f->blk.log_count, 1);
	/* What one driver set does not outlast the reset. */
	value = 0;
	virtio_config_write(f->dev, wce, &value, 1);
	reset(f);
	start(f, ALL);
	f->blk.log_count = 0;
	assert_int_equal(write_sectors(f, 0, 512), VIRTIO_BLK_S_OK);
	assert_int_equal(f->blk.log_count, 1);
}

/* --- discard and write-zeroes --- */

static void put_range(struct fixture *f, unsigned int index, uint64_t sector, uint32_t sectors,
		      uint32_t flags)
{
	struct virtio_blk_discard_write_zeroes range = {sector, sectors, flags};

	memcpy(at(f, RANGES + 16 * (uint64_t)index), &range, sizeof(range));
}

static uint8_t ranges(struct fixture *f, uint32_t type, unsigned int count)
{
	struct ring_buf data = {RANGES, 16 * count};

	f->blk.log_count = 0;
	return request(f, type, 0, &data, 1, 0);
}

static void test_discard(void **state)
{
	struct fixture *f = *state;

	put_range(f, 0, 16, 8, 0);
	assert_int_equal(ranges(f, VIRTIO_BLK_T_DISCARD, 1), VIRTIO_BLK_S_OK);
	assert_int_equal(f->written, 1);
	assert_int_equal(f->blk.log_count, 1);
	assert_int_equal(f->blk.log[0].op, BLK_DISCARD);
	assert_int_equal(f->blk.log[0].offset, 16 * 512);
	assert_int_equal(f->blk.log[0].len, 8 * 512);
}

static void test_ranges_one_by_one(void **state)
{
	struct fixture *f = *state;

	for (unsigned int i = 0; i < 16; i++)
		put_range(f, i, 100 * i, i % 5, 0);
	assert_int_equal(ranges(f, VIRTIO_BLK_T_WRITE_ZEROES, 16), VIRTIO_BLK_S_OK);
	assert_int_equal(f->blk.log_count, 12); /* without the four empty ones */
	assert_int_equal(f->blk.log[11].offset, 1400 * 512);
	assert_int_equal(f->blk.log[11].len, 4 * 512);
	f->blk.error = -EIO;
	f->blk.error_op = BLK_WRITE_ZEROES;
	assert_int_equal(ranges(f, VIRTIO_BLK_T_WRITE_ZEROES, 16), VIRTIO_BLK_S_IOERR);
	assert_int_equal(f->blk.log_count, 1);
}

static void test_ranges_empty(void **state)
{
	struct fixture *f = *state;

	put_range(f, 0, 0, 0, 0);
	put_range(f, 1, SECTORS, 0, 0);
	assert_int_equal(ranges(f, VIRTIO_BLK_T_DISCARD, 2), VIRTIO_BLK_S_OK);
	assert_int_equal(f->blk.log_count, 0);
}

static void test_range_flags(void **state)
{
	struct fixture *f = *state;

	put_range(f, 0, 0, 1, VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP);
	assert_int_equal(ranges(f, VIRTIO_BLK_T_DISCARD, 1), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(ranges(f, VIRTIO_BLK_T_WRITE_ZEROES, 1), VIRTIO_BLK_S_OK);
	assert_true(f->blk.log[0].unmap);
	put_range(f, 0, 0, 1, 0);
	assert_int_equal(ranges(f, VIRTIO_BLK_T_WRITE_ZEROES, 1), VIRTIO_BLK_S_OK);
	assert_false(f->blk.log[0].unmap);
	for (unsigned int bit = 1; bit < 32; bit++) {
		put_range(f, 1, 0, 1, 1u << bit);
		assert_int_equal(ranges(f, VIRTIO_BLK_T_DISCARD, 2), VIRTIO_BLK_S_UNSUPP);
		assert_int_equal(ranges(f, VIRTIO_BLK_T_WRITE_ZEROES, 2), VIRTIO_BLK_S_UNSUPP);
		assert_int_equal(f->blk.log_count, 0);
	}
}

static void test_ranges_outside(void **state)
{
	static const struct {
		uint64_t sector;
		uint32_t sectors;
	} bad[] = {
		{SECTORS, 1}, {SECTORS - 1, 2}, {UINT64_MAX, 1}, {UINT64_MAX, UINT32_MAX},
		{0, UINT32_MAX}, {0, SECTORS + 1}, {BIT(55), 1},
	};
	struct fixture *f = *state;

	put_range(f, 0, 0, 1, 0);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		put_range(f, 1, bad[i].sector, bad[i].sectors, 0);
		assert_int_equal(ranges(f, VIRTIO_BLK_T_DISCARD, 2), VIRTIO_BLK_S_IOERR);
		assert_int_equal(ranges(f, VIRTIO_BLK_T_WRITE_ZEROES, 2), VIRTIO_BLK_S_IOERR);
		assert_int_equal(f->blk.log_count, 0);
	}
}

static void test_range_limit(void **state)
{
	struct fixture *f = *state;

	f->blk.info.size_bytes = GIB(4); /* the disk in RAM is smaller: nothing completes */
	put_range(f, 0, 0, (1u << 21) + 1, 0);
	assert_int_equal(ranges(f, VIRTIO_BLK_T_DISCARD, 1), VIRTIO_BLK_S_IOERR);
	f->blk.info.size_bytes = DISK;
}

static void test_ranges_payload(void **state)
{
	static const uint32_t bad[] = {1, 15, 17, 31, 16 * 17, 4096};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct ring_buf data = {RANGES, bad[i]};

		assert_int_equal(request(f, VIRTIO_BLK_T_DISCARD, 0, &data, 1, 0),
				 VIRTIO_BLK_S_IOERR);
	}
	assert_int_equal(request(f, VIRTIO_BLK_T_DISCARD, 0, NULL, 0, 0), VIRTIO_BLK_S_IOERR);
	assert_int_equal(f->blk.log_count, 0);
}

static void test_ranges_split(void **state)
{
	struct ring_buf data[32];
	struct fixture *f = *state;

	put_range(f, 0, 3, 4, 0);
	put_range(f, 1, 5, 6, 0);
	for (unsigned int i = 0; i < 32; i++)
		data[i] = (struct ring_buf){RANGES + i, 1};
	assert_int_equal(request(f, VIRTIO_BLK_T_DISCARD, 0, data, 32, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(f->blk.log_count, 2);
	assert_int_equal(f->blk.log[1].offset, 5 * 512);
}

static void test_ranges_not_negotiated(void **state)
{
	struct fixture *f = *state;

	reset(f);
	start(f, ~(BIT(VIRTIO_BLK_F_DISCARD) | BIT(VIRTIO_BLK_F_WRITE_ZEROES)));
	put_range(f, 0, 0, 1, 0);
	assert_int_equal(ranges(f, VIRTIO_BLK_T_DISCARD, 1), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(ranges(f, VIRTIO_BLK_T_WRITE_ZEROES, 1), VIRTIO_BLK_S_UNSUPP);
}

static void test_ranges_writethrough(void **state)
{
	struct fixture *f = *state;

	reset(f);
	start(f, ~BIT(VIRTIO_BLK_F_FLUSH));
	put_range(f, 0, 0, 1, 0);
	put_range(f, 1, 8, 1, 0);
	assert_int_equal(ranges(f, VIRTIO_BLK_T_WRITE_ZEROES, 2), VIRTIO_BLK_S_OK);
	assert_int_equal(f->blk.log_count, 3);
	assert_int_equal(f->blk.log[2].op, BLK_FLUSH);
}

/* --- life cycle --- */

static void add_read(struct fixture *f)
{
	put_header(f, HEADER, VIRTIO_BLK_T_IN, 0);
	ring_add(&f->ring, (struct ring_buf[]){{HEADER, 16}, {DATA, 512}, {STATUS, 1}}, 1, 2);
}

static void test_reset_waits(void **state)
{
	struct fixture *f = *state;

	add_read(f);
	add_read(f);
	virtio_kick(f->dev, 0);
	fake_loop_turn(&f->loop);
	assert_int_equal(f->blk.pending_count, 2);
	virtio_set_status(f->dev, 0);
	add_read(f);
	virtio_kick(f->dev, 0);
	fake_loop_turn(&f->loop);
	assert_int_equal(f->blk.pending_count, 2); /* nothing new is begun */
	assert_int_not_equal(virtio_get_status(f->dev), 0);
	fake_blk_complete(&f->blk, 1);
	fake_loop_turn(&f->loop);
	assert_int_not_equal(virtio_get_status(f->dev), 0);
	fake_blk_complete(&f->blk, 0);
	assert_int_not_equal(virtio_get_status(f->dev), 0); /* the answer waits for the batch */
	fake_loop_turn(&f->loop);
	assert_int_equal(virtio_get_status(f->dev), 0);
	start(f, ALL);
	assert_int_equal(read_sectors(f, 0, 512), VIRTIO_BLK_S_OK);
}

/* Answered, but not shown yet, when the reset comes. */
static void test_reset_before_publish(void **state)
{
	struct fixture *f = *state;

	add_read(f);
	virtio_kick(f->dev, 0);
	fake_loop_turn(&f->loop);
	fake_blk_complete_all(&f->blk);
	virtio_set_status(f->dev, 0);
	fake_loop_run_posted(&f->loop);
	assert_int_not_equal(virtio_get_status(f->dev), 0);
	fake_loop_run_deferred(&f->loop);
	assert_int_equal(virtio_get_status(f->dev), 0);
}

/* A write's flush is part of what a reset waits for. */
static void test_reset_waits_for_steps(void **state)
{
	struct fixture *f = *state;

	reset(f);
	start(f, ~BIT(VIRTIO_BLK_F_FLUSH));
	put_header(f, HEADER, VIRTIO_BLK_T_OUT, 0);
	ring_add(&f->ring, (struct ring_buf[]){{HEADER, 16}, {DATA, 512}, {STATUS, 1}}, 2, 1);
	virtio_kick(f->dev, 0);
	fake_loop_turn(&f->loop);
	virtio_set_status(f->dev, 0);
	fake_loop_turn(&f->loop);
	fake_blk_complete(&f->blk, 0);
	fake_loop_turn(&f->loop);
	assert_int_not_equal(virtio_get_status(f->dev), 0);
	fake_blk_complete(&f->blk, 0);
	fake_loop_turn(&f->loop);
	assert_int_equal(virtio_get_status(f->dev), 0);
}

static void test_broken_with_requests_in_flight(void **state)
{
	struct fixture *f = *state;
	struct ring_elem elem = {0};

	add_read(f);
	virtio_kick(f->dev, 0);
	fake_loop_turn(&f->loop);
	ring_offer(&f->ring, SIZE + 1);
	virtio_kick(f->dev, 0);
	fake_loop_turn(&f->loop);
	assert_true(needs_reset(f));
	fake_blk_complete_all(&f->blk);
	fake_loop_turn(&f->loop);
	assert_true(ring_used(&f->ring, &elem)); /* the good ones are answered */
	add_read(f);
	run(f);
	assert_false(ring_used(&f->ring, &elem));
	reset(f);
	start(f, ALL);
	assert_int_equal(read_sectors(f, 0, 512), VIRTIO_BLK_S_OK);
}

static void test_buffers_before_driver_ok(void **state)
{
	struct fixture *f = *state;
	struct ring_elem elem = {0};
	struct ring ring;

	/* start lays the ring out afresh; put the request in just before DRIVER_OK. */
	reset(f);
	virtio_set_status(f->dev, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
	virtio_set_driver_features(f->dev, 1, 1);
	virtio_set_status(f->dev, VIRTIO_CONFIG_S_FEATURES_OK);
	ring_init(&ring, &f->mem, 4, 0x1000);
	f->ring = ring;
	add_read(f);
	f->dev->queues[0].config = ring_config(&f->ring);
	f->dev->queues[0].enabled = true;
	virtio_set_status(f->dev, VIRTIO_CONFIG_S_DRIVER_OK);
	fake_loop_turn(&f->loop);
	fake_blk_complete_all(&f->blk);
	fake_loop_turn(&f->loop);
	assert_true(ring_used(&f->ring, &elem));
}

/* --- the driver at the same time --- */

struct scribbler {
	struct fixture *f;
	atomic_bool stop;
};

/* Changes header and ranges of requests while the device takes them. */
__attribute__((no_sanitize("thread"))) static void *scribble(void *arg)
{
	static const uint64_t sectors[] = {0, SECTORS - 1, SECTORS, UINT64_MAX};
	struct scribbler *scribbler = arg;
	volatile struct virtio_blk_outhdr *header = (void *)at(scribbler->f, HEADER);
	volatile struct virtio_blk_discard_write_zeroes *range = (void *)at(scribbler->f, RANGES);

	for (uint32_t i = 1; !atomic_load(&scribbler->stop); i = i * 1664525 + 1013904223) {
		header->type = i >> 28;
		header->sector = sectors[(i >> 26) % 4];
		range->sector = sectors[(i >> 24) % 4];
		range->num_sectors = (i >> 20) % 16;
		range->flags = (i >> 19) % 2;
	}
	return NULL;
}

/* The fake back end aborts if anything outside the disk gets through. */
static void test_scribbled_meanwhile(void **state)
{
	struct fixture *f = *state;
	struct scribbler scribbler = {.f = f};
	struct ring_elem elem = {0};
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, scribble, &scribbler), 0);
	for (unsigned int i = 0; i < 5000; i++) {
		ring_add(&f->ring, (struct ring_buf[]){{HEADER, 16}, {DATA, 1024}, {STATUS, 1}}, 1,
			 2);
		ring_add(&f->ring, (struct ring_buf[]){{HEADER, 16}, {RANGES, 16}, {STATUS, 1}}, 2,
			 1);
		run(f);
		assert_true(ring_used(&f->ring, &elem));
		assert_true(ring_used(&f->ring, &elem));
	}
	atomic_store(&scribbler.stop, true);
	pthread_join(thread, NULL);
	assert_false(needs_reset(f));
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, setup, teardown)
#define TEST_READONLY(name) cmocka_unit_test_setup_teardown(test_##name, setup_readonly, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(features), TEST_READONLY(features_readonly), TEST(config),
		TEST(config_write), TEST(config_wce_needs_features), TEST(read), TEST(write),
		TEST(framing_read), TEST(framing_write), TEST(last_sector), TEST(outside_disk),
		TEST(length), TEST(wrong_direction), TEST(short_header), TEST(no_status),
		TEST(segments), TEST(all_heads), TEST_READONLY(readonly), TEST(host_errors),
		TEST(unknown_types), TEST(get_id), TEST(flush), TEST(writethrough_without_flush),
		TEST(writethrough_by_config), TEST(discard), TEST(ranges_one_by_one),
		TEST(ranges_empty), TEST(range_flags), TEST(ranges_outside), TEST(range_limit),
		TEST(ranges_payload), TEST(ranges_split), TEST(ranges_not_negotiated),
		TEST(ranges_writethrough), TEST(reset_waits), TEST(reset_before_publish),
		TEST(reset_waits_for_steps), TEST(broken_with_requests_in_flight),
		TEST(buffers_before_driver_ok), TEST(scribbled_meanwhile),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
