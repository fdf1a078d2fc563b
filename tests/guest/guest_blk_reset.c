/* SPDX-License-Identifier: MIT */
/*
 * Resets with requests in flight on all queues=N: once the status reads 0 the device writes no
 * more to memory (virtio 1.2, 2.4.1), and it works again afterwards.
 */
#include "guest/lib/cpu.h"
#include "guest/lib/disk.h"
#include "guest/lib/guest.h"

#define ROUNDS 100
#define DEPTH 32
#define BYTES 65536
#define MARK 0x5A
#define QUEUES_MAX 8

static struct disk disk; /* of the first queue */
static struct vqueue queues[QUEUES_MAX];
static unsigned int queue_count;
static struct disk_slot slots[DEPTH];
static uint8_t *data;

static void submit(unsigned int round)
{
	for (unsigned int i = 0; i < DEPTH; i++) {
		struct vbuf buf = {data + i * BYTES, BYTES};
		uint64_t sector = (uint64_t)i * (BYTES / SECTOR);

		disk.queue = queues[i % queue_count];
		disk_prepare(&disk, (uint16_t)(i * 3), &slots[i],
			     (i + round) % 4 ? VIRTIO_BLK_T_IN : VIRTIO_BLK_T_OUT, sector, &buf, 1);
		vqueue_offer(&disk.queue, (uint16_t)(i * 3));
	}
	for (unsigned int i = 0; i < queue_count; i++)
		vqueue_kick(&queues[i]);
}

static void open_queues(void)
{
	vdev_begin(&disk.dev, BIT(VIRTIO_BLK_F_FLUSH) | BIT(VIRTIO_BLK_F_MQ));
	for (unsigned int i = 0; i < queue_count; i++)
		vqueue_init(&queues[i], &disk.dev, (uint16_t)i, 0);
	vdev_go(&disk.dev);
}

static void mark(void)
{
	memset(data, MARK, DEPTH * BYTES);
	memset(slots, MARK, sizeof(slots));
}

static void check_marks(const uint16_t *used)
{
	for (unsigned int i = 0; i < queue_count; i++)
		CHECK_EQ(queues[i].used->idx, used[i]);
	for (unsigned int i = 0; i < DEPTH * BYTES; i++)
		if (data[i] != MARK)
			fail("byte %u was written after the reset", i);
	for (unsigned int i = 0; i < DEPTH; i++)
		CHECK_EQ(slots[i].status, MARK);
}

void guest_main(void)
{
	become_user();
	data = alloc(DEPTH * BYTES, 4096);
	queue_count = (unsigned int)param("queues", 1);
	CHECK(queue_count <= QUEUES_MAX);
	vdev_find(&disk.dev, VIRTIO_BLK, 0);
	open_queues();
	for (unsigned int round = 0; round < ROUNDS; round++) {
		uint16_t used[QUEUES_MAX];

		submit(round);
		/* at different depths of what is under way */
		for (unsigned int i = 0; i < round * 500; i++)
			pause();
		vdev_reset(&disk.dev);
		mark();
		for (unsigned int i = 0; i < queue_count; i++)
			used[i] = queues[i].used->idx;
		for (unsigned int i = 0; i < 20000; i++)
			pause();
		check_marks(used);
		open_queues();
		disk.queue = queues[round % queue_count];
		CHECK_EQ(disk_do(&disk, VIRTIO_BLK_T_IN, 0, data, SECTOR), VIRTIO_BLK_S_OK);
	}
}
