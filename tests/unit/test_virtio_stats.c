/* SPDX-License-Identifier: MIT */
/* What a device counts: requests, batches, interrupts, and a disk's latencies. */
#include <errno.h>

#include "blk_driver.h"
#include "virtio/stats.h"

static int setup_counted(void **state)
{
	struct fixture *f = create();

	create_device(f);
	assert_int_equal(virtio_dev_count(f->dev), 0);
	start(f, ALL);
	*state = f;
	return 0;
}

static void add_read(struct fixture *f, unsigned int slot)
{
	struct ring_buf bufs[] = {
		{HEADER + 16 * slot, 16}, {DATA + 1024 * slot, 512}, {STATUS + slot, 1}};

	put_header(f, HEADER + 16 * slot, VIRTIO_BLK_T_IN, slot);
	ring_add(&f->ring, bufs, 1, 2);
}

static void test_by_kind(void **state)
{
	struct fixture *f = *state;
	const struct virtio_op_stats *ops = f->dev->stats->ops;
	struct ring_buf ranges = {RANGES, 16};

	read_sectors(f, 0, 4096);
	read_sectors(f, 0, 512);
	write_sectors(f, 0, 1024);
	request(f, VIRTIO_BLK_T_FLUSH, 0, NULL, 0, 0);
	memset(at(f, RANGES), 0, 16);
	request(f, VIRTIO_BLK_T_DISCARD, 0, &ranges, 1, 0);
	assert_string_equal(ops[BLK_READ].name, "read");
	assert_int_equal(histogram_count(&ops[BLK_READ].latency_ns), 2);
	assert_int_equal(ops[BLK_READ].bytes, 4608);
	assert_int_equal(histogram_count(&ops[BLK_WRITE].latency_ns), 1);
	assert_int_equal(ops[BLK_WRITE].bytes, 1024);
	assert_int_equal(histogram_count(&ops[BLK_FLUSH].latency_ns), 1);
	assert_int_equal(histogram_count(&ops[BLK_DISCARD].latency_ns), 1);
	assert_int_equal(histogram_count(&ops[BLK_WRITE_ZEROES].latency_ns), 0);
	assert_int_equal(ops[BLK_READ].errors, 0);
}

static void test_queue(void **state)
{
	struct fixture *f = *state;
	const struct vq_stats *queue = &f->dev->stats->queues[0];

	read_sectors(f, 0, 4096);
	write_sectors(f, 0, 1024);
	assert_int_equal(queue->requests, 2);
	assert_int_equal(queue->bytes_out, 16 + 16 + 1024);
	assert_int_equal(queue->bytes_in, 4096 + 1 + 1);
	assert_int_equal(queue->irqs, f->irqs);
	assert_int_equal(queue->irqs, 2);
	assert_true(queue->doorbells + queue->found >= 2);
	assert_int_equal(histogram_count(&queue->batches), 2);
	assert_int_equal(histogram_mean(&queue->batches), 1);
}

static void test_batch(void **state)
{
	struct fixture *f = *state;
	const struct vq_stats *queue = &f->dev->stats->queues[0];

	for (unsigned int i = 0; i < 20; i++)
		add_read(f, i);
	run(f);
	assert_int_equal(queue->requests, 20);
	assert_int_equal(histogram_count(&queue->batches), 1);
	assert_int_equal(histogram_mean(&queue->batches), 20);
	assert_int_equal(queue->irqs, 1);
}

/* From when it was taken; what is answered later took longer. */
static void test_latency(void **state)
{
	struct fixture *f = *state;
	const struct histogram *latency = &f->dev->stats->ops[BLK_READ].latency_ns;

	f->loop.now_ns = 1000000;
	add_read(f, 0);
	add_read(f, 1);
	virtio_kick(f->dev, 0);
	fake_loop_turn(&f->loop);
	f->loop.now_ns += 5000;
	fake_blk_complete(&f->blk, 0);
	fake_loop_turn(&f->loop);
	assert_int_equal(latency->sum, 5000);
	f->loop.now_ns += 60000;
	fake_blk_complete(&f->blk, 0);
	fake_loop_turn(&f->loop);
	assert_int_equal(latency->sum, 70000);
	assert_int_equal(histogram_count(latency), 2);
}

/* A write with the flush that follows it is one write. */
static void test_writethrough(void **state)
{
	struct fixture *f = *state;
	const struct virtio_op_stats *ops = f->dev->stats->ops;

	reset(f);
	start(f, ~(BIT(VIRTIO_BLK_F_FLUSH) | BIT(VIRTIO_BLK_F_CONFIG_WCE)));
	write_sectors(f, 0, 512);
	assert_int_equal(histogram_count(&ops[BLK_WRITE].latency_ns), 1);
	assert_int_equal(histogram_count(&ops[BLK_FLUSH].latency_ns), 0);
	assert_int_equal(ops[BLK_WRITE].bytes, 512);
}

static void test_errors(void **state)
{
	struct fixture *f = *state;
	const struct virtio_op_stats *ops = f->dev->stats->ops;

	f->blk.error = -EIO;
	f->blk.error_op = BLK_READ;
	assert_int_equal(read_sectors(f, 0, 512), VIRTIO_BLK_S_IOERR);
	assert_int_equal(ops[BLK_READ].errors, 1);
	assert_int_equal(ops[BLK_READ].bytes, 0);
	/* Refused before it is one. */
	read_sectors(f, SECTORS, 512);
	assert_int_equal(histogram_count(&ops[BLK_READ].latency_ns), 1);
	assert_int_equal(f->dev->stats->queues[0].requests, 2);
}

/* Numbers go on over the driver's resets. */
static void test_reset(void **state)
{
	struct fixture *f = *state;

	read_sectors(f, 0, 512);
	reset(f);
	start(f, ALL);
	read_sectors(f, 0, 512);
	assert_int_equal(f->dev->stats->queues[0].requests, 2);
}

#define TEST_COUNTED(name) cmocka_unit_test_setup_teardown(test_##name, setup_counted, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST_COUNTED(by_kind), TEST_COUNTED(queue), TEST_COUNTED(batch),
		TEST_COUNTED(latency), TEST_COUNTED(writethrough), TEST_COUNTED(errors),
		TEST_COUNTED(reset),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
