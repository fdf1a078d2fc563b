/* SPDX-License-Identifier: MIT */
/*
 * virtio-blk whole, with no guest: driver on this thread, device on its loop's, a raw file
 * behind it. Random reads and writes in flight together, on several queues, each checked against what the disk
 * must hold, and resets that do not wait for them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <semaphore.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "block/block.h"
#include "ring.h"
#include "virtio/blk.h"
#include "virtio/device.h"

#define SIZE 256
#define QUEUES 4
#define SLOTS 32
#define AREA KIB(64) /* of the disk, for one slot: slots never meet */
#define RINGS 0x1000
#define RING_BYTES 0x2000
#define HEADERS 0xa000
#define STATUSES 0xb000
#define TABLES 0x10000
#define DATA 0x100000
#define REQUESTS 6000
#define RESET_EVERY 701

struct slot {
	bool busy, write;
	uint16_t head;
	uint64_t offset; /* in the area */
	uint32_t len;
};

struct fixture {
	char path[64];
	int fd;
	struct loop *loop;
	struct blk *blk;
	struct virtio_dev *dev;
	struct mem mem;
	struct ring rings[QUEUES]; /* slot i uses number i % QUEUES */
	sem_t irq;
	struct slot slots[SLOTS];
	unsigned int busy;
	uint8_t *model;
	uint32_t seed;
};

static void queue_irq(void *owner, unsigned int queue)
{
	struct fixture *f = owner;

	sem_post(&f->irq);
}

static void nothing(void *owner)
{
}

static uint32_t any(struct fixture *f, uint32_t limit)
{
	f->seed = f->seed * 1664525 + 1013904223;
	return (uint32_t)((uint64_t)f->seed * limit >> 32);
}

static void *at(struct fixture *f, uint64_t gpa)
{
	return mem_at(&f->mem, gpa, 1);
}

static void start(struct fixture *f, bool event_idx)
{
	uint64_t features = f->dev->offered;

	if (!event_idx)
		features &= ~(1ull << VIRTIO_RING_F_EVENT_IDX);
	virtio_set_status(f->dev, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
	virtio_set_driver_features(f->dev, 0, (uint32_t)features);
	virtio_set_driver_features(f->dev, 1, (uint32_t)(features >> 32));
	virtio_set_status(f->dev, VIRTIO_CONFIG_S_FEATURES_OK);
	pthread_mutex_lock(&f->dev->lock);
	for (unsigned int i = 0; i < QUEUES; i++) {
		ring_init(&f->rings[i], &f->mem, SIZE, RINGS + RING_BYTES * i);
		f->rings[i].event_idx = event_idx;
		f->dev->queues[i].config = ring_config(&f->rings[i]);
		f->dev->queues[i].enabled = true;
	}
	pthread_mutex_unlock(&f->dev->lock);
	virtio_set_status(f->dev, VIRTIO_CONFIG_S_DRIVER_OK);
}

/* As a driver does it: until the status reads 0. Nothing may touch the disk or RAM then. */
static void reset(struct fixture *f)
{
	struct timespec pause = {.tv_nsec = 100000};

	virtio_set_status(f->dev, 0);
	for (unsigned int i = 0; virtio_get_status(f->dev) != 0; i++) {
		assert_true(i < 100000);
		nanosleep(&pause, NULL);
	}
	/* What was in flight may be on the disk or not. */
	assert_int_equal(pread(f->fd, f->model, SLOTS * AREA, 0), SLOTS * AREA);
	memset(f->slots, 0, sizeof(f->slots));
	f->busy = 0;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct blk_options opts = {.path = f->path, .format = BLK_FORMAT_RAW};
	const struct virtio_blk_options options = {.queues = QUEUES};

	if (loop_create("disk", &f->loop) < 0) {
		free(f);
		return 0; /* no io_uring here: skipped */
	}
	snprintf(f->path, sizeof(f->path), "/tmp/minivmm-blk-live-XXXXXX");
	f->fd = mkstemp(f->path);
	assert_true(f->fd >= 0);
	assert_int_equal(ftruncate(f->fd, SLOTS * AREA), 0);
	assert_int_equal(blk_open(f->loop, &opts, &f->blk), 0);
	guest_init(&f->mem, MIB(4), 0);
	assert_int_equal(virtio_blk_create("blk0", f->loop, &f->mem, f->blk, &options, &f->dev),
			 0);
	f->dev->transport = (struct virtio_transport){
		.queue_irq = queue_irq, .config_irq = nothing, .owner = f};
	f->model = calloc(1, SLOTS * AREA);
	f->seed = 1;
	sem_init(&f->irq, 0, 0);
	assert_int_equal(loop_start(f->loop), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	if (!f)
		return 0;
	virtio_dev_stop(f->dev);
	loop_stop(f->loop);
	virtio_dev_destroy(f->dev);
	assert_int_equal(blk_close(f->blk), 0);
	loop_destroy(f->loop);
	guest_finish(&f->mem);
	sem_destroy(&f->irq);
	close(f->fd);
	unlink(f->path);
	free(f->model);
	free(f);
	return 0;
}

/* A read or write of any place and length in the slot's area, cut into up to 40 buffers. */
static void begin(struct fixture *f, unsigned int index)
{
	struct slot *slot = &f->slots[index];
	uint64_t header_gpa = HEADERS + 16 * index, data_gpa = DATA + AREA * index;
	struct ring_buf bufs[64] = {{header_gpa, 16}};
	unsigned int count = 1, pieces = 1 + any(f, 40);
	struct virtio_blk_outhdr header = {0};
	uint32_t done = 0;

	slot->len = (1 + any(f, AREA / 512)) * 512;
	slot->offset = any(f, (uint32_t)(AREA - slot->len) / 512 + 1) * 512;
	slot->write = any(f, 2);
	slot->busy = true;
	f->busy++;
	header.type = slot->write ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN;
	header.sector = (AREA * index + slot->offset) / 512;
	memcpy(at(f, header_gpa), &header, sizeof(header));
	memset(at(f, data_gpa), (int)any(f, 256), slot->len);
	memset(at(f, data_gpa), (int)any(f, 256), any(f, slot->len));
	*(uint8_t *)at(f, STATUSES + index) = 0xee;
	for (; done < slot->len; count++) {
		uint32_t len = count < pieces ? 1 + any(f, slot->len - done) : slot->len - done;

		bufs[count] = (struct ring_buf){data_gpa + done, len};
		done += len;
	}
	bufs[count++] = (struct ring_buf){STATUSES + index, 1};
	slot->head = ring_add_indirect(&f->rings[index % QUEUES], TABLES + KIB(1) * index, bufs,
				       slot->write ? count - 1 : 1, slot->write ? 1 : count - 1);
}

static void end(struct fixture *f, unsigned int queue, const struct ring_elem *elem)
{
	unsigned int index = queue;
	struct slot *slot;
	uint8_t *model, *data;

	while (index < SLOTS && !(f->slots[index].busy && f->slots[index].head == elem->id))
		index += QUEUES;
	assert_true(index < SLOTS);
	slot = &f->slots[index];
	model = f->model + AREA * index + slot->offset;
	data = at(f, DATA + AREA * index);
	assert_int_equal(*(uint8_t *)at(f, STATUSES + index), VIRTIO_BLK_S_OK);
	assert_int_equal(elem->len, slot->write ? 1 : slot->len + 1);
	if (slot->write)
		memcpy(model, data, slot->len);
	else
		assert_memory_equal(model, data, slot->len);
	slot->busy = false;
	f->busy--;
}

static void wait_irq(struct fixture *f)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 20;
	assert_int_equal(sem_timedwait(&f->irq, &until), 0);
}

static void kick_all(struct fixture *f)
{
	for (unsigned int i = 0; i < QUEUES; i++) {
		if (ring_wants_kick(&f->rings[i]))
			virtio_kick(f->dev, i);
	}
}

/* True: there was something. */
static bool end_all(struct fixture *f)
{
	unsigned int busy = f->busy;
	struct ring_elem elem;

	for (unsigned int i = 0; i < QUEUES; i++) {
		ring_set_used_event(&f->rings[i], f->rings[i].used_next);
		while (ring_used(&f->rings[i], &elem))
			end(f, i, &elem);
	}
	return f->busy < busy;
}

/* Nothing is lost between asking for interrupts and looking again: either sees it. */
static void wait_irqs(struct fixture *f)
{
	for (unsigned int i = 0; i < QUEUES; i++)
		ring_set_used_event(&f->rings[i], f->rings[i].used_next);
	while (f->busy && !end_all(f))
		wait_irq(f);
}

static void traffic(struct fixture *f, bool event_idx)
{
	start(f, event_idx);
	for (unsigned int begun = 0; begun < REQUESTS || f->busy;) {
		for (unsigned int i = 0; i < SLOTS && begun < REQUESTS; i++) {
			if (f->slots[i].busy || any(f, 4) == 0)
				continue;
			begin(f, i);
			if (++begun % RESET_EVERY)
				continue;
			kick_all(f);
			reset(f);
			start(f, event_idx);
		}
		kick_all(f);
		wait_irqs(f);
	}
	reset(f);
}

static void test_traffic(void **state)
{
	if (!*state)
		skip();
	traffic(*state, false);
}

static void test_traffic_event_idx(void **state)
{
	if (!*state)
		skip();
	traffic(*state, true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_traffic, setup, teardown),
		cmocka_unit_test_setup_teardown(test_traffic_event_idx, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
