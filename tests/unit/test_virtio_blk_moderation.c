/* SPDX-License-Identifier: MIT */
/* Interrupts of a disk that may wait, and those that may not: in a loop whose time stands still. */
#include "tests/unit/blk_driver.h"

#include "virtio/moderation.h"

#define EXIT_NS 2000u /* what it is taken for at least */
#define QUIET_NS (4 * EXIT_NS)
#define LONGEST_NS (32 * EXIT_NS)

/* A request that the device has seen; the block layer has not done it yet. */
static void submit(struct fixture *f)
{
	struct ring_buf bufs[] = {{HEADER, 16}, {DATA, 512}, {STATUS, 1}};

	put_header(f, HEADER, VIRTIO_BLK_T_IN, 0);
	ring_add(&f->ring, bufs, 1, 2);
	virtio_kick(f->dev, 0);
	fake_loop_turn_awake(&f->loop);
}

static void complete(struct fixture *f)
{
	fake_blk_complete_all(&f->blk);
	fake_loop_turn_awake(&f->loop);
}

static void pass(struct fixture *f, uint64_t ns)
{
	f->loop.now_ns += ns;
	fake_loop_turn_awake(&f->loop);
}

static void take_answers(struct fixture *f)
{
	struct ring_elem elem;

	while (ring_used(&f->ring, &elem))
		;
}

/* One after the other, as a driver does that waits for each: how many were interrupted late? */
static unsigned int wait_for_each(struct fixture *f, unsigned int count)
{
	unsigned int late = 0;

	for (unsigned int i = 0; i < count; i++) {
		unsigned int irqs = f->irqs;

		submit(f);
		complete(f);
		late += f->irqs == irqs;
		pass(f, QUIET_NS);
		assert_int_equal(f->irqs, irqs + 1);
		take_answers(f);
	}
	return late;
}

/* Until it is known that this driver goes on. */
static void learn(struct fixture *f)
{
	while (!f->dev->queues[0].moderation.holding) {
		submit(f);
		complete(f);
		take_answers(f);
	}
	submit(f);
	complete(f);
	pass(f, QUIET_NS);
	assert_false(f->dev->queues[0].moderation.holding);
	take_answers(f);
}

static void test_driver_that_waits(void **state)
{
	struct fixture *f = *state;

	assert_in_range(wait_for_each(f, 1000), 1, 1000 / 60);
	/* What it was before does not matter for long. */
	learn(f);
	assert_in_range(wait_for_each(f, 1000), 8, 8 + 1000 / 60);
}

static void test_held_until_quiet(void **state)
{
	struct fixture *f = *state;
	unsigned int irqs;

	learn(f);
	irqs = f->irqs;
	for (unsigned int i = 0; i < 5; i++) {
		submit(f);
		complete(f);
		pass(f, QUIET_NS - 1);
		assert_int_equal(f->irqs, irqs);
	}
	/* The answers can be seen all the same. */
	assert_int_equal(ring_used_idx(&f->ring), (uint16_t)(f->ring.used_next + 5));
	pass(f, 1);
	assert_int_equal(f->irqs, irqs + 1);
	pass(f, LONGEST_NS);
	assert_int_equal(f->irqs, irqs + 1);
}

static void test_not_held_for_ever(void **state)
{
	struct fixture *f = *state;
	uint64_t start;
	unsigned int irqs;

	learn(f);
	irqs = f->irqs;
	start = f->loop.now_ns;
	while (f->irqs == irqs) {
		submit(f);
		complete(f);
		take_answers(f);
		pass(f, QUIET_NS - 1);
		assert_true(f->loop.now_ns - start < LONGEST_NS + QUIET_NS);
	}
}

/* While the disk has something to do, the driver may be waiting for just this answer. */
static void test_not_while_in_flight(void **state)
{
	struct fixture *f = *state;
	unsigned int irqs;

	learn(f);
	irqs = f->irqs;
	submit(f);
	submit(f);
	fake_blk_complete(&f->blk, 0);
	fake_loop_turn_awake(&f->loop);
	assert_int_equal(f->irqs, irqs + 1);
	complete(f);
	assert_true(f->dev->queues[0].moderation.holding);
	assert_int_equal(f->irqs, irqs + 1);
	/* The next goes into flight: what was held, goes with its neighbour's answer. */
	submit(f);
	submit(f);
	assert_int_equal(f->irqs, irqs + 1);
	fake_blk_complete(&f->blk, 0);
	fake_loop_turn_awake(&f->loop);
	assert_int_equal(f->irqs, irqs + 2);
	complete(f);
}

/* Where the request takes long the interrupt is not what matters. */
static void test_not_for_long_ones(void **state)
{
	struct fixture *f = *state;
	unsigned int irqs;

	learn(f);
	irqs = f->irqs;
	submit(f);
	f->loop.now_ns += 2 * EXIT_NS + 1;
	complete(f);
	assert_int_equal(f->irqs, irqs + 1);
	submit(f);
	f->loop.now_ns += 2 * EXIT_NS;
	complete(f);
	assert_int_equal(f->irqs, irqs + 1);
}

static void test_not_asleep(void **state)
{
	struct fixture *f = *state;
	unsigned int irqs;

	learn(f);
	irqs = f->irqs;
	submit(f);
	complete(f);
	assert_int_equal(f->irqs, irqs);
	fake_loop_turn(&f->loop);
	assert_int_equal(f->irqs, irqs + 1);
}

/* A machine where exits are dear has longer to wait. */
static void test_dear_exits(void **state)
{
	struct fixture *f = *state;
	unsigned int irqs;

	learn(f);
	f->dev->exit_ns = 50 * EXIT_NS;
	irqs = f->irqs;
	submit(f);
	complete(f);
	pass(f, 50 * QUIET_NS - 1);
	assert_int_equal(f->irqs, irqs);
	pass(f, 1);
	assert_int_equal(f->irqs, irqs + 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(driver_that_waits),
		TEST(held_until_quiet),
		TEST(not_held_for_ever),
		TEST(not_while_in_flight),
		TEST(not_for_long_ones),
		TEST(not_asleep),
		TEST(dear_exits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
