/* SPDX-License-Identifier: MIT */
/* A device that awaits requests on its loop, and a driver in another thread: none is lost. */
#include "virtio/device.h"

#include <linux/virtio_config.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "tests/unit/loop_runner.h"
#include "tests/unit/ring.h"

#define SIZE 8
#define BUF 0x4000
#define PASSED_ON 100000

struct fixture {
	struct virtio_dev dev;
	struct mem mem;
	struct ring ring;
	sem_t irq;
	unsigned int taken; /* on the loop */
	bool lazily;
	atomic_uint irqs;
};

/* --- the device: gives back what it gets, numbered --- */

static void config_read(struct virtio_dev *dev, size_t offset, void *data, size_t len)
{
}

static void kick(struct virtio_dev *dev, unsigned int index)
{
	struct fixture *f = CONTAINER_OF(dev, struct fixture, dev);
	struct virtqueue *vq = dev->queues[index].vq;
	struct vq_chain chain;

	vq_disarm(vq);
	while (vq_pop(vq, &chain) == 1)
		vq_push(vq, chain.head, f->taken++);
	virtio_await(dev, index);
	if (f->lazily)
		virtio_publish_lazily(dev, index);
	else
		virtio_publish(dev, index);
}

static void destroy(struct virtio_dev *dev)
{
}

static const struct virtio_ops ops = {
	.name = "toy",
	.queue_size_max = SIZE,
	.config_read = config_read,
	.kick = kick,
	.destroy = destroy,
};

/* --- the transport --- */

static void queue_irq(void *owner, unsigned int queue)
{
	struct fixture *f = owner;

	atomic_fetch_add(&f->irqs, 1);
	sem_post(&f->irq);
}

static void start(struct fixture *f, bool event_idx)
{
	uint64_t feature = (uint64_t)event_idx << VIRTIO_RING_F_EVENT_IDX;

	guest_init(&f->mem, KIB(64), 0);
	ring_init(&f->ring, &f->mem, SIZE, 0x1000);
	f->ring.event_idx = event_idx;
	sem_init(&f->irq, 0, 0);
	assert_int_equal(loop_create("toy", &loop), 0);
	assert_int_equal(loop_start(loop), 0);
	assert_int_equal(virtio_dev_init(&f->dev, &ops, "toy0", loop, &f->mem, 0, 1), 0);
	f->dev.transport = (struct virtio_transport){.queue_irq = queue_irq, .owner = f};
	virtio_set_status(&f->dev, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
	virtio_set_driver_features(&f->dev, 0, (uint32_t)feature);
	virtio_set_driver_features(&f->dev, 1, 1 << (VIRTIO_F_VERSION_1 - 32));
	f->dev.queues[0].config = ring_config(&f->ring);
	f->dev.queues[0].enabled = true;
	virtio_set_status(&f->dev, VIRTIO_CONFIG_S_FEATURES_OK);
	virtio_set_status(&f->dev, VIRTIO_CONFIG_S_DRIVER_OK);
}

static void stop(struct fixture *f)
{
	virtio_dev_stop(&f->dev);
	loop_stop(loop);
	virtio_dev_finish(&f->dev);
	loop_teardown(NULL);
	guest_finish(&f->mem);
	sem_destroy(&f->irq);
}

/* --- the driver --- */

static void wait_for_irq(struct fixture *f)
{
	struct timespec end;

	clock_gettime(CLOCK_REALTIME, &end);
	end.tv_sec += 20;
	assert_int_equal(sem_timedwait(&f->irq, &end), 0); /* else a notification was lost */
}

/* Pauses from none at all to longer than the loop stays awake. */
static void pause_sometimes(unsigned int added)
{
	if (added % 64 == 0)
		for (volatile int i = 0; i < rand() % 40000; i++)
			;
}

/* It keeps the rules: it kicks when it must, and sleeps when it may. */
static void pass_on(struct fixture *f)
{
	struct ring_buf bufs[] = {{BUF, 8}, {BUF + 64, 8}};
	struct ring *ring = &f->ring;
	unsigned int added = 0, used = 0;
	struct ring_elem elem;

	while (used < PASSED_ON) {
		while (added < PASSED_ON && ring->free_count >= 2) {
			ring_add(ring, bufs, 1, 1);
			added++;
			/* Now and then one at a time, so that both sides get to sleep. */
			if (added % 7 == 0)
				break;
		}
		if (ring_wants_kick(ring))
			virtio_kick(&f->dev, 0);
		ring_set_used_event(ring, ring->used_next);
		if (ring_used_idx(ring) == ring->used_next)
			wait_for_irq(f);
		while (ring_used(ring, &elem))
			assert_int_equal(elem.len, used++);
		pause_sometimes(added);
	}
}

/* How many interrupts it took. */
static unsigned int pass_on_with(bool event_idx, bool lazily)
{
	struct fixture *f = calloc(1, sizeof(*f));
	unsigned int irqs;

	f->lazily = lazily;
	start(f, event_idx);
	pass_on(f);
	stop(f);
	irqs = f->irqs;
	free(f);
	return irqs;
}

static void test_none_is_lost(void **state)
{
	pass_on_with(false, false);
}

static void test_none_is_lost_event_idx(void **state)
{
	pass_on_with(true, false);
}

/* Nor those that are held back for a while, of which there are some. */
static void test_none_is_lost_lazily(void **state)
{
	for (int event_idx = 0; event_idx < 2; event_idx++) {
		unsigned int irqs = pass_on_with(event_idx, true);

		assert_in_range(irqs, 1, PASSED_ON - 1);
	}
}

/* A reset while the loop looks at the ring, which is freed by it. */
static void test_reset_while_awaiting(void **state)
{
	struct ring_buf buf = {BUF, 8};
	struct fixture *f = calloc(1, sizeof(*f));

	for (unsigned int i = 0; i < 200; i++) {
		f->lazily = i % 5 == 0;
		start(f, i % 2);
		ring_add(&f->ring, &buf, 0, 1);
		virtio_kick(&f->dev, 0);
		if (i % 3)
			wait_for_irq(f);
		stop(f);
	}
	free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_none_is_lost),
		cmocka_unit_test(test_none_is_lost_event_idx),
		cmocka_unit_test(test_none_is_lost_lazily),
		cmocka_unit_test(test_reset_while_awaiting),
	};

	if (!loop_works())
		return 77;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
