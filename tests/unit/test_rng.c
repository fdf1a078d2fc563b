/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <linux/virtio_config.h>
#include <sys/random.h>

#include "fake_loop.h"
#include "ring.h"
#include "virtio/device.h"
#include "virtio/rng.h"

#define SIZE 8
#define CHUNK 4096
#define BUF 0x8000
#define UNTOUCHED 0xee
#define RANDOM 0x5a

/* Stands in for the kernel's. */
static struct {
	unsigned int calls;
	size_t bytes, short_after;
	int error;
} source;

ssize_t getrandom(void *buf, size_t len, unsigned int flags)
{
	source.calls++;
	if (source.error) {
		errno = source.error;
		return -1;
	}
	if (source.short_after)
		len = MIN(len, source.short_after);
	memset(buf, RANDOM, len);
	source.bytes += len;
	return (ssize_t)len;
}

struct fixture {
	struct loop loop;
	struct mem mem;
	struct ring ring;
	struct virtio_dev *dev;
	unsigned int irqs;
	bool greedy;
};

/* A driver that takes the answers at once and asks again. */
static void ask_again(struct fixture *f)
{
	struct ring_buf buf = {BUF, CHUNK};
	struct ring_elem elem = {0};

	while (ring_used(&f->ring, &elem))
		;
	while (f->ring.free_count)
		ring_add(&f->ring, &buf, 0, 1);
}

static void irq(void *owner, unsigned int queue)
{
	struct fixture *f = owner;

	f->irqs++;
	if (f->greedy)
		ask_again(f);
}

static void nothing(void *owner)
{
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	memset(&source, 0, sizeof(source));
	fake_loop_init(&f->loop);
	guest_init(&f->mem, KIB(256), 0);
	assert_int_equal(virtio_rng_create("rng0", &f->loop, &f->mem, &f->dev), 0);
	f->dev->transport = (struct virtio_transport){
		.queue_irq = irq, .config_irq = nothing, .owner = f};
	virtio_set_status(f->dev, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
	virtio_set_driver_features(f->dev, 1, 1);
	virtio_set_status(f->dev, VIRTIO_CONFIG_S_FEATURES_OK);
	ring_init(&f->ring, &f->mem, SIZE, 0x1000);
	f->dev->queues[0].config = ring_config(&f->ring);
	f->dev->queues[0].enabled = true;
	virtio_set_status(f->dev, VIRTIO_CONFIG_S_DRIVER_OK);
	fake_loop_turn(&f->loop);
	assert_true(f->dev->live);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	virtio_set_status(f->dev, 0);
	fake_loop_turn(&f->loop);
	fake_loop_turn(&f->loop);
	assert_int_equal(virtio_get_status(f->dev), 0);
	virtio_dev_destroy(f->dev);
	guest_finish(&f->mem);
	free(f);
	return 0;
}

static uint8_t *at(struct fixture *f, uint64_t gpa)
{
	return mem_at(&f->mem, gpa, 1);
}

static void run(struct fixture *f)
{
	virtio_kick(f->dev, 0);
	fake_loop_turn(&f->loop);
}

/* The used length of a request with these buffers. */
static uint32_t ask(struct fixture *f, const struct ring_buf *bufs, unsigned int count)
{
	struct ring_elem elem = {0};

	memset(at(f, BUF), UNTOUCHED, KIB(64));
	ring_add(&f->ring, bufs, 0, count);
	run(f);
	assert_true(ring_used(&f->ring, &elem));
	return elem.len;
}

static void test_fill(void **state)
{
	struct ring_buf buf = {BUF, 64};
	struct fixture *f = *state;

	assert_int_equal(ask(f, &buf, 1), 64);
	for (unsigned int i = 0; i < 64; i++)
		assert_int_equal(at(f, BUF)[i], RANDOM);
	assert_int_equal(at(f, BUF)[64], UNTOUCHED);
	assert_int_equal(f->irqs, 1);
}

static void test_scattered(void **state)
{
	struct ring_buf bufs[] = {{BUF, 1}, {BUF + 10, 20}, {BUF + 100, 3}};
	struct fixture *f = *state;

	assert_int_equal(ask(f, bufs, 3), 24);
	assert_int_equal(at(f, BUF)[0], RANDOM);
	assert_int_equal(at(f, BUF)[1], UNTOUCHED);
	assert_int_equal(at(f, BUF)[29], RANDOM);
	assert_int_equal(at(f, BUF)[102], RANDOM);
}

/* A chunk at most, over all buffers. */
static void test_bounded(void **state)
{
	struct ring_buf big = {BUF, KIB(64)}, two[] = {{BUF, CHUNK - 1}, {BUF + CHUNK, CHUNK}};
	struct fixture *f = *state;

	assert_int_equal(ask(f, &big, 1), CHUNK);
	assert_int_equal(at(f, BUF)[CHUNK], UNTOUCHED);
	assert_int_equal(ask(f, two, 2), CHUNK);
	assert_int_equal(at(f, BUF)[CHUNK], RANDOM);
	assert_int_equal(at(f, BUF)[CHUNK + 1], UNTOUCHED);
}

/* The length covers what was filled without a gap. */
static void test_short(void **state)
{
	struct ring_buf bufs[] = {{BUF, 300}, {BUF + 512, 300}};
	struct fixture *f = *state;

	source.short_after = 256;
	assert_int_equal(ask(f, bufs, 2), 256);
	assert_int_equal(at(f, BUF)[512], UNTOUCHED);
	source.error = EAGAIN;
	assert_int_equal(ask(f, bufs, 2), 0);
}

static void test_read_only_buffer(void **state)
{
	struct ring_buf buf = {BUF, 64};
	struct fixture *f = *state;

	ring_add(&f->ring, &buf, 1, 0);
	run(f);
	assert_true(virtio_get_status(f->dev) & VIRTIO_CONFIG_S_NEEDS_RESET);
	assert_int_equal(source.calls, 0);
}

static void test_broken_ring(void **state)
{
	struct fixture *f = *state;

	ring_offer(&f->ring, SIZE);
	run(f);
	assert_true(virtio_get_status(f->dev) & VIRTIO_CONFIG_S_NEEDS_RESET);
}

static void test_turn_is_bounded(void **state)
{
	struct fixture *f = *state;

	f->greedy = true;
	ask_again(f);
	virtio_kick(f->dev, 0);
	fake_loop_run_watches(&f->loop);
	assert_int_equal(source.calls, SIZE);
	for (unsigned int i = 2; i < 10; i++) {
		fake_loop_turn(&f->loop); /* it goes on, without a kick */
		assert_int_equal(source.calls, i * SIZE);
	}
	f->greedy = false;
	fake_loop_turn(&f->loop);
	fake_loop_turn(&f->loop);
	assert_int_equal(source.calls, 10 * SIZE);
}

static void test_reset_between_turns(void **state)
{
	struct fixture *f = *state;

	f->greedy = true;
	ask_again(f);
	virtio_kick(f->dev, 0);
	fake_loop_run_watches(&f->loop);
	virtio_set_status(f->dev, 0);
	fake_loop_run_posted(&f->loop);
	assert_int_equal(virtio_get_status(f->dev), 0);
	fake_loop_turn(&f->loop);
	assert_int_equal(source.calls, SIZE);
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(fill), TEST(scattered), TEST(bounded), TEST(short), TEST(read_only_buffer),
		TEST(broken_ring), TEST(turn_is_bounded), TEST(reset_between_turns),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
