/* SPDX-License-Identifier: MIT */
/* virtio-blk: requests of drivers that break the rules. */
#include <pthread.h>

#include "blk_driver.h"

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(outside_disk), TEST(length), TEST(wrong_direction), TEST(short_header),
		TEST(no_status), TEST(unknown_types), TEST(scribbled_meanwhile),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
