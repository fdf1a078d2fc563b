/* SPDX-License-Identifier: MIT */
/* virtio-blk: resets and a broken ring with requests in flight, and a start with some waiting. */
#include "blk_driver.h"

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(reset_waits), TEST(reset_before_publish), TEST(reset_waits_for_steps),
		TEST(broken_with_requests_in_flight), TEST(buffers_before_driver_ok),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
