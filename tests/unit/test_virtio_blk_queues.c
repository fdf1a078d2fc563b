/* SPDX-License-Identifier: MIT */
/* virtio-blk with several queues: what is common to them and what is not. */
#include "blk_driver.h"

static int setup_queues(void **state)
{
	struct fixture *f = create();

	f->queues = QUEUES_MAX;
	create_device(f);
	start(f, ALL);
	*state = f;
	return 0;
}

/* Reads whose headers, data and status bytes are their own, on one queue. */
static void add_reads(struct fixture *f, unsigned int queue, unsigned int count)
{
	for (unsigned int i = 0; i < count; i++) {
		unsigned int slot = queue * SIZE + i;
		uint64_t table = TABLES + 256 * (uint64_t)slot;
		struct ring_buf bufs[] = {{table + 64, 16}, {DATA + 512 * (uint64_t)slot, 512},
					  {table + 80, 1}};

		put_header(f, table + 64, VIRTIO_BLK_T_IN, slot);
		*at(f, table + 80) = UNTOUCHED;
		ring_add_indirect(&f->rings[queue], table, bufs, 1, 2);
	}
}

static void assert_read(struct fixture *f, unsigned int queue, unsigned int count)
{
	struct ring_elem elem = {0};

	for (unsigned int i = 0; i < count; i++) {
		unsigned int slot = queue * SIZE + i;

		assert_true(ring_used(&f->rings[queue], &elem));
		assert_int_equal(*at(f, TABLES + 256 * (uint64_t)slot + 80), VIRTIO_BLK_S_OK);
		assert_memory_equal(at(f, DATA + 512 * (uint64_t)slot), f->blk.disk + 512 * slot,
				    512);
	}
	assert_false(ring_used(&f->rings[queue], &elem));
}

static void test_offered(void **state)
{
	struct virtio_blk_config config = {0};
	struct fixture *f = *state;

	assert_true(f->dev->offered & BIT(VIRTIO_BLK_F_MQ));
	virtio_config_read(f->dev, 0, &config, sizeof(config));
	assert_int_equal(config.num_queues, QUEUES_MAX);
}

static void test_one_is_no_multiqueue(void **state)
{
	struct virtio_blk_config config = {0};
	struct fixture *f = *state;

	assert_false(f->dev->offered & BIT(VIRTIO_BLK_F_MQ));
	virtio_config_read(f->dev, 0, &config, sizeof(config));
	assert_int_equal(config.num_queues, 1);
}

/* Each answers on itself, with an interrupt of its own, in whatever order the disk is done. */
static void test_each_its_own(void **state)
{
	static const unsigned int counts[QUEUES_MAX] = {3, 40, 17};
	struct fixture *f = *state;

	for (unsigned int q = 0; q < QUEUES_MAX; q++) {
		add_reads(f, q, counts[q]);
		virtio_kick(f->dev, q);
	}
	fake_loop_turn(&f->loop);
	assert_int_equal(f->blk.pending_count, 60);
	while (f->blk.pending_count)
		fake_blk_complete(&f->blk, f->blk.pending_count * 5 / 7);
	fake_loop_turn(&f->loop);
	for (unsigned int q = 0; q < QUEUES_MAX; q++) {
		assert_read(f, q, counts[q]);
		assert_int_equal(f->irqs_of[q], 1);
	}
}

/* A kick of one is not a look at the others. */
static void test_only_the_kicked(void **state)
{
	struct fixture *f = *state;

	add_reads(f, 0, 1);
	add_reads(f, 2, 1);
	virtio_kick(f->dev, 2);
	fake_loop_turn(&f->loop);
	assert_int_equal(f->blk.pending_count, 1);
	fake_blk_complete_all(&f->blk);
	fake_loop_turn(&f->loop);
	assert_read(f, 2, 1);
	assert_int_equal(f->irqs_of[0], 0);
	assert_int_equal(ring_used_flags(&f->rings[0]), 0); /* still wants kicks */
}

/* Each is asked not to kick while it is being looked at, and asked to afterwards. */
static void test_notifications(void **state)
{
	struct fixture *f = *state;

	add_reads(f, 1, 200); /* more than a turn takes */
	virtio_kick(f->dev, 1);
	fake_loop_run_watches(&f->loop);
	assert_int_equal(ring_used_flags(&f->rings[1]), VRING_USED_F_NO_NOTIFY);
	assert_int_equal(ring_used_flags(&f->rings[0]), 0);
	fake_loop_turn(&f->loop);
	assert_int_equal(ring_used_flags(&f->rings[1]), 0);
	assert_int_equal(f->blk.pending_count, 200);
}

/* A full queue does not keep the others waiting: it gets on by turns, without further kicks. */
static void test_turns(void **state)
{
	struct fixture *f = *state;
	unsigned int first;

	for (unsigned int q = 0; q < QUEUES_MAX; q++) {
		add_reads(f, q, q == 0 ? SIZE : 8);
		virtio_kick(f->dev, q);
	}
	fake_loop_run_watches(&f->loop);
	first = f->blk.pending_count;
	assert_true(first > 16 && first <= 16 + SIZE / 2);
	for (unsigned int i = 0; i < 10; i++) {
		fake_loop_turn(&f->loop);
		fake_blk_complete_all(&f->blk);
	}
	fake_loop_turn(&f->loop);
	for (unsigned int q = 0; q < QUEUES_MAX; q++)
		assert_read(f, q, q == 0 ? SIZE : 8);
	assert_null(f->loop.deferred); /* and now it rests */
}

/* The reset is over when the last queue's last request is. */
static void test_reset_waits_for_all(void **state)
{
	struct fixture *f = *state;

	for (unsigned int q = 0; q < QUEUES_MAX; q++) {
		add_reads(f, q, 2);
		virtio_kick(f->dev, q);
	}
	fake_loop_turn(&f->loop);
	virtio_set_status(f->dev, 0);
	fake_loop_turn(&f->loop);
	for (unsigned int i = 0; i < 2 * QUEUES_MAX; i++) {
		assert_int_not_equal(virtio_get_status(f->dev), 0);
		fake_blk_complete(&f->blk, f->blk.pending_count - 1);
		assert_int_not_equal(virtio_get_status(f->dev), 0);
		fake_loop_turn(&f->loop);
	}
	assert_int_equal(virtio_get_status(f->dev), 0);
	start(f, ALL);
	add_reads(f, 2, 1);
	virtio_kick(f->dev, 2);
	run(f);
	assert_read(f, 2, 1);
}

/* A reset that comes between two turns of a full queue: what was not taken is never begun. */
static void test_reset_between_turns(void **state)
{
	struct fixture *f = *state;
	unsigned int begun;

	add_reads(f, 1, SIZE);
	virtio_kick(f->dev, 1);
	fake_loop_run_watches(&f->loop);
	begun = f->blk.pending_count;
	assert_true(begun < SIZE);
	virtio_set_status(f->dev, 0);
	fake_loop_run_posted(&f->loop);
	fake_blk_complete_all(&f->blk);
	assert_int_not_equal(virtio_get_status(f->dev), 0); /* a turn is on its way */
	fake_loop_turn(&f->loop);
	assert_int_equal(virtio_get_status(f->dev), 0);
	assert_int_equal(f->blk.log_count, MIN(begun, FAKE_BLK_LOG));
	assert_null(f->loop.deferred);
	start(f, ALL);
	add_reads(f, 1, SIZE);
	virtio_kick(f->dev, 1);
	for (unsigned int i = 0; i < 4; i++)
		run(f);
	assert_read(f, 1, SIZE);
}

/* One broken ring stops the device: 2.1.1 knows no broken queues. */
static void test_broken(void **state)
{
	struct ring_elem elem = {0};
	struct fixture *f = *state;

	add_reads(f, 0, 1);
	virtio_kick(f->dev, 0);
	fake_loop_turn(&f->loop);
	ring_offer(&f->rings[1], SIZE + 1);
	virtio_kick(f->dev, 1);
	fake_loop_turn(&f->loop);
	assert_true(needs_reset(f));
	assert_int_equal(f->config_irqs, 1);
	fake_blk_complete_all(&f->blk);
	fake_loop_turn(&f->loop);
	assert_read(f, 0, 1);
	add_reads(f, 2, 1);
	virtio_kick(f->dev, 2);
	run(f);
	assert_false(ring_used(&f->rings[2], &elem));
	reset(f);
	start(f, ALL);
	add_reads(f, 2, 1);
	virtio_kick(f->dev, 2);
	run(f);
	assert_read(f, 2, 1);
}

/* Not all queues enabled, which a driver may choose (3.1.1). */
static void test_some_enabled(void **state)
{
	struct fixture *f = *state;

	reset(f);
	f->queues = 1;
	start(f, ~BIT(VIRTIO_BLK_F_MQ));
	f->queues = QUEUES_MAX;
	for (unsigned int q = 1; q < QUEUES_MAX; q++)
		virtio_kick(f->dev, q);
	add_reads(f, 0, 1);
	virtio_kick(f->dev, 0);
	run(f);
	assert_read(f, 0, 1);
}

/* Long lists are the device's: any queue gets what another gave back. */
static void test_long_lists(void **state)
{
	struct fixture *f = *state;

	for (unsigned int round = 0; round < 9; round++) {
		unsigned int q = round % QUEUES_MAX;
		struct ring_buf bufs[33] = {{HEADER, 16}};

		put_header(f, HEADER, VIRTIO_BLK_T_IN, round);
		for (unsigned int k = 0; k < 32; k++)
			bufs[k + 1] = (struct ring_buf){DATA + 16 * k, 16};
		bufs[32].len = 17;
		ring_add_indirect(&f->rings[q], TABLES, bufs, 1, 32);
		virtio_kick(f->dev, q);
		run(f);
		assert_int_equal(*at(f, DATA + 512), VIRTIO_BLK_S_OK);
		assert_memory_equal(at(f, DATA), f->blk.disk + 512 * round, 512);
	}
}

#define TEST_QUEUES(name) cmocka_unit_test_setup_teardown(test_##name, setup_queues, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST_QUEUES(offered), TEST(one_is_no_multiqueue), TEST_QUEUES(each_its_own),
		TEST_QUEUES(only_the_kicked), TEST_QUEUES(notifications), TEST_QUEUES(turns),
		TEST_QUEUES(reset_waits_for_all), TEST_QUEUES(reset_between_turns),
		TEST_QUEUES(broken), TEST_QUEUES(some_enabled), TEST_QUEUES(long_lists),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
