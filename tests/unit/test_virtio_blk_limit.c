/* SPDX-License-Identifier: MIT */
/* virtio-blk on a disk that may do only so much per second; time goes by as the test says. */
#include "blk_driver.h"
#include "virtio/blk_limit.h"

#define START_NS 5000000000000ull
#define SLOTS 0x10000 /* header, status and table of each request, 128 bytes apart */

static struct fixture *limited(uint64_t iops, uint64_t bps)
{
	struct fixture *f = create();

	f->loop.now_ns = START_NS;
	f->queues = 2;
	assert_int_equal(blk_limit_create(&f->loop, iops, bps, &f->limit), 0);
	fake_loop_advance(&f->loop, 100); /* here the timer was armed before it was paused */
	create_device(f);
	start(f, ALL);
	return f;
}

static int setup_iops(void **state)
{
	*state = limited(100, 0);
	return 0;
}

static int setup_bps(void **state)
{
	*state = limited(0, KIB(64));
	return 0;
}

static int setup_both(void **state)
{
	*state = limited(100, KIB(64));
	return 0;
}

static int teardown_limited(void **state)
{
	struct fixture *f = *state;
	struct blk_limit *limit = f->limit;
	int r = teardown(state);

	free(limit); /* its loop is gone */
	return r;
}

/* A request of `len` bytes of data; `slot` is its number, and its sector. */
static void add(struct fixture *f, unsigned int queue, uint32_t type, unsigned int slot,
		uint32_t len)
{
	uint64_t gpa = SLOTS + 128 * (uint64_t)slot;
	bool write = type != VIRTIO_BLK_T_IN;
	struct ring_buf bufs[] = {{gpa, 16}, {DATA, len}, {gpa + 16, 1}};

	put_header(f, gpa, type, type == VIRTIO_BLK_T_FLUSH ? 0 : slot);
	*at(f, gpa + 16) = UNTOUCHED;
	if (!len)
		bufs[1] = bufs[2];
	ring_add_indirect(&f->rings[queue], gpa + 32, bufs, len && write ? 2 : 1,
			  len && !write ? 2 : 1);
}

static void kick(struct fixture *f)
{
	virtio_kick(f->dev, 0);
	virtio_kick(f->dev, 1);
	fake_loop_turn(&f->loop);
}

/* How many of those in the block layer there are; they complete. */
static unsigned int begun(struct fixture *f)
{
	unsigned int count = f->blk.pending_count;

	fake_blk_complete_all(&f->blk);
	fake_loop_turn(&f->loop);
	fake_loop_turn(&f->loop);
	return count;
}

static unsigned int answered(struct fixture *f, unsigned int queue)
{
	struct ring_elem elem;
	unsigned int count = 0;

	while (ring_used(&f->rings[queue], &elem))
		count++;
	return count;
}

/* --- buckets --- */

static unsigned int passes(struct blk_limit *limit, uint64_t bytes)
{
	unsigned int count = 0;

	while (count < 100000 && blk_limit_pass(limit, bytes))
		count++;
	return count;
}

static void test_burst_and_rate(void **state)
{
	static const uint64_t rates[] = {1, 3, 7, 100, 999, 1000, 65537};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_LEN(rates); i++) {
		struct blk_limit *limit;
		uint64_t total = 0;

		assert_int_equal(blk_limit_create(&f->loop, rates[i], 0, &limit), 0);
		assert_int_equal(passes(limit, 0), rates[i]); /* a second's worth */
		for (unsigned int ms = 0; ms < 7000; ms++) {
			f->loop.now_ns += 1000000;
			total += passes(limit, 0);
		}
		assert_int_equal(total, 7 * rates[i]); /* nothing is lost to rounding */
		f->loop.now_ns += 1000000000000; /* what is kept for later is one second's */
		assert_in_range(passes(limit, 0), rates[i], rates[i] + 1);
		blk_limit_destroy(limit);
	}
}

/* More than a second's worth passes, and what follows waits for it. */
static void test_debt(void **state)
{
	struct fixture *f = *state;
	struct blk_limit *limit;

	assert_int_equal(blk_limit_create(&f->loop, 0, 4096, &limit), 0);
	assert_true(blk_limit_pass(limit, 10 * 4096));
	f->loop.now_ns += 9000000000;
	assert_false(blk_limit_pass(limit, 1));
	f->loop.now_ns += 1;
	assert_true(blk_limit_pass(limit, 0)); /* costs nothing */
	assert_true(blk_limit_pass(limit, 1));
	assert_false(blk_limit_pass(limit, 1));
	blk_limit_destroy(limit);
}

static void test_extremes(void **state)
{
	struct fixture *f = *state;
	struct blk_limit *limit;

	assert_int_equal(blk_limit_create(&f->loop, BLK_LIMIT_MAX, BLK_LIMIT_BYTES_MIN, &limit), 0);
	assert_true(blk_limit_pass(limit, BLK_LIMIT_PASS_MAX));
	f->loop.now_ns += (BLK_LIMIT_PASS_MAX / 4096 - 1) * 1000000000;
	assert_false(blk_limit_pass(limit, BLK_LIMIT_PASS_MAX));
	f->loop.now_ns += 1;
	assert_true(blk_limit_pass(limit, BLK_LIMIT_PASS_MAX));
	blk_limit_destroy(limit);
	assert_int_equal(blk_limit_create(&f->loop, 0, BLK_LIMIT_MAX, &limit), 0);
	assert_int_equal(passes(limit, BLK_LIMIT_PASS_MAX), 64);
	blk_limit_destroy(limit);
}

/* --- the device --- */

static void test_iops(void **state)
{
	struct fixture *f = *state;
	unsigned int total = 0;

	for (unsigned int i = 0; i < 80; i++) {
		add(f, 0, VIRTIO_BLK_T_IN, i, 512);
		add(f, 1, i % 2 ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_FLUSH, 80 + i, i % 2 ? 512 : 0);
	}
	kick(f);
	assert_int_equal(begun(f), 100);
	assert_int_equal(begun(f), 0);
	for (unsigned int ms = 0; ms < 600; ms++) {
		assert_int_equal(total, (ms + 9) / 10);
		fake_loop_advance(&f->loop, 1);
		total += begun(f);
	}
	assert_int_equal(answered(f, 0), 80);
	assert_int_equal(answered(f, 1), 80);
	fake_loop_advance(&f->loop, 1000);
	assert_int_equal(begun(f), 0);
}

/* In the order they came, whichever queue they came by. */
static void test_order(void **state)
{
	struct fixture *f = *state;

	for (unsigned int i = 0; i < 100; i++)
		add(f, 0, VIRTIO_BLK_T_IN, i, 512);
	kick(f);
	assert_int_equal(begun(f), 100);
	for (unsigned int i = 0; i < 8; i++) {
		add(f, i % 2, VIRTIO_BLK_T_IN, 100 + i, 512);
		kick(f);
	}
	f->blk.log_count = 0;
	fake_loop_advance(&f->loop, 100);
	assert_int_equal(f->blk.log_count, 8);
	for (unsigned int i = 0; i < 8; i++)
		assert_int_equal(f->blk.log[i].offset, (100 + i) * 512);
}

/* Bytes are those of reads and writes; a large one passes, and others wait for it. */
static void test_bps(void **state)
{
	struct fixture *f = *state;

	add(f, 0, VIRTIO_BLK_T_OUT, 0, KIB(256));
	add(f, 0, VIRTIO_BLK_T_IN, 1, 512);
	kick(f);
	assert_int_equal(begun(f), 1);
	for (unsigned int i = 0; i < 20; i++)
		add(f, 1, VIRTIO_BLK_T_FLUSH, 2 + i, 0);
	kick(f);
	fake_loop_advance(&f->loop, 2990);
	assert_int_equal(begun(f), 0);
	fake_loop_advance(&f->loop, 14);
	assert_int_equal(begun(f), 1); /* the read; what has no bytes waits for its 8 ms */
	fake_loop_advance(&f->loop, 10);
	assert_int_equal(begun(f), 20);
}

static void test_ranges(void **state)
{
	struct virtio_blk_discard_write_zeroes *range = (void *)at(*state, DATA);
	struct fixture *f = *state;

	/* A discard is one operation of no bytes. */
	for (unsigned int i = 0; i < 16; i++)
		range[i] = (struct virtio_blk_discard_write_zeroes){i, 256, 0};
	for (unsigned int i = 0; i < 99; i++)
		add(f, 0, VIRTIO_BLK_T_DISCARD, i, 256);
	kick(f);
	assert_int_equal(begun(f), 99);
	assert_int_equal(answered(f, 0), 99);
	/* Zeroes count: 16 * 128 KiB are 32 seconds' worth. */
	add(f, 0, VIRTIO_BLK_T_WRITE_ZEROES, 0, 256);
	kick(f);
	assert_int_equal(begun(f), 1);
	assert_int_equal(answered(f, 0), 1);
	add(f, 0, VIRTIO_BLK_T_IN, 0, 512);
	kick(f);
	fake_loop_advance(&f->loop, 30990);
	assert_int_equal(begun(f), 0);
	fake_loop_advance(&f->loop, 20);
	assert_int_equal(begun(f), 1);
}

/* What is refused, and what needs no disk, costs nothing. */
static void test_costs_nothing(void **state)
{
	struct fixture *f = *state;

	for (unsigned int round = 0; round < 10; round++) {
		for (unsigned int i = 0; i < 60; i++)
			add(f, 0, i % 2 ? VIRTIO_BLK_T_IN : VIRTIO_BLK_T_OUT, i, 511);
		kick(f);
		assert_int_equal(begun(f), 0);
		assert_int_equal(answered(f, 0), 60);
	}
	assert_int_equal(read_sectors(f, 0, 512), VIRTIO_BLK_S_OK);
	for (unsigned int i = 0; i < 70; i++)
		add(f, 0, VIRTIO_BLK_T_IN, i, 512);
	kick(f);
	assert_int_equal(begun(f), 70);
}

/* The second step of a request is not one more. */
static void test_writethrough(void **state)
{
	struct fixture *f = *state;

	reset(f);
	start(f, ~BIT(VIRTIO_BLK_F_FLUSH));
	for (unsigned int i = 0; i < 80; i++)
		add(f, 0, VIRTIO_BLK_T_OUT, i, 512);
	kick(f);
	assert_int_equal(begun(f), 80);
	assert_int_equal(answered(f, 0), 80);
}

/* A reset does not wait for what waits, and does not do it; what is paid stays paid. */
static void test_reset(void **state)
{
	struct fixture *f = *state;
	struct ring_buf bufs[33] = {{HEADER, 16}};

	for (unsigned int i = 0; i < 80; i++)
		add(f, 0, VIRTIO_BLK_T_IN, i, 512);
	for (unsigned int i = 0; i < 80; i++)
		add(f, 1, VIRTIO_BLK_T_OUT, i, 512);
	kick(f);
	assert_int_equal(f->blk.pending_count, 100);
	put_header(f, HEADER, VIRTIO_BLK_T_IN, 0); /* and one that has borrowed a long list */
	for (unsigned int i = 0; i < 32; i++)
		bufs[i + 1] = (struct ring_buf){DATA + 16 * i, 16};
	bufs[32].len = 17;
	ring_add_indirect(&f->ring, 0x40000, bufs, 1, 32);
	kick(f);
	virtio_set_status(f->dev, 0);
	fake_loop_turn(&f->loop);
	assert_int_not_equal(virtio_get_status(f->dev), 0);
	fake_blk_complete_all(&f->blk);
	fake_loop_turn(&f->loop);
	assert_int_equal(virtio_get_status(f->dev), 0);
	fake_loop_advance(&f->loop, 500);
	assert_int_equal(f->blk.pending_count, 0);
	start(f, ALL);
	for (unsigned int i = 0; i < 80; i++)
		add(f, 0, VIRTIO_BLK_T_IN, i, 512);
	kick(f);
	assert_int_equal(begun(f), 50); /* of half a second; no fresh start */
	fake_loop_advance(&f->loop, 300);
	assert_int_equal(begun(f), 30);
}

/* Nothing in the block layer, all of it waiting: the reset is over at once. */
static void test_reset_all_waiting(void **state)
{
	struct fixture *f = *state;

	for (unsigned int i = 0; i < 80; i++)
		add(f, i % 2, VIRTIO_BLK_T_OUT, i, KIB(64));
	kick(f);
	begun(f);
	virtio_set_status(f->dev, 0);
	fake_loop_turn(&f->loop);
	assert_int_equal(virtio_get_status(f->dev), 0);
	start(f, ALL);
	/* A wait that comes right after one that was forgotten. */
	add(f, 0, VIRTIO_BLK_T_IN, 0, 512);
	kick(f);
	assert_int_equal(begun(f), 0);
	fake_loop_advance(&f->loop, 1000);
	assert_int_equal(begun(f), 1);
}

/* The disk's limit outlives the device: a reboot in a loop gains nothing. */
static void test_next_device(void **state)
{
	struct fixture *f = *state;

	for (unsigned int i = 0; i < 80; i++)
		add(f, i % 2, VIRTIO_BLK_T_IN, i, KIB(2));
	kick(f);
	assert_int_equal(begun(f), 32);
	reset(f);
	virtio_dev_destroy(f->dev);
	create_device(f);
	start(f, ALL);
	fake_loop_advance(&f->loop, 500);
	for (unsigned int i = 0; i < 80; i++)
		add(f, i % 2, VIRTIO_BLK_T_IN, i, KIB(2));
	kick(f);
	assert_int_equal(begun(f), 16);
}

/* A device that broke still answers what was in order. */
static void test_broken(void **state)
{
	struct fixture *f = *state;

	for (unsigned int i = 0; i < 120; i++)
		add(f, i % 2, VIRTIO_BLK_T_IN, i, 512);
	kick(f);
	assert_int_equal(begun(f), 100);
	ring_offer(&f->rings[1], SIZE + 1);
	kick(f);
	assert_true(needs_reset(f));
	fake_loop_advance(&f->loop, 1000);
	assert_int_equal(begun(f), 20);
	assert_int_equal(answered(f, 0) + answered(f, 1), 120);
}

#define LIMITED(name, which) \
	cmocka_unit_test_setup_teardown(test_##name, setup_##which, teardown_limited)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(burst_and_rate), TEST(debt), TEST(extremes), LIMITED(iops, iops),
		LIMITED(order, iops), LIMITED(bps, bps), LIMITED(ranges, both),
		LIMITED(costs_nothing, both), LIMITED(writethrough, iops), LIMITED(reset, iops),
		LIMITED(reset_all_waiting, bps), LIMITED(next_device, bps), LIMITED(broken, iops),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
