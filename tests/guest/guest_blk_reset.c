/* SPDX-License-Identifier: MIT */
/*
 * Resets with requests in flight: once the status reads 0 the device writes no more to memory
 * (virtio 1.2, 2.4.1), and it works again afterwards.
 */
#include "tests/guest/lib/cpu.h"
#include "tests/guest/lib/disk.h"
#include "tests/guest/lib/guest.h"

#define ROUNDS 100
#define DEPTH 32
#define BYTES 65536
#define MARK 0x5A

static struct disk disk;
static struct disk_slot slots[DEPTH];
static uint8_t *data;

static void submit(unsigned int round)
{
	for (unsigned int i = 0; i < DEPTH; i++) {
		struct vbuf buf = {data + i * BYTES, BYTES};
		uint64_t sector = (uint64_t)i * (BYTES / SECTOR);

		disk_prepare(&disk, (uint16_t)(i * 3), &slots[i],
			     (i + round) % 4 ? VIRTIO_BLK_T_IN : VIRTIO_BLK_T_OUT, sector, &buf, 1);
		vqueue_offer(&disk.queue, (uint16_t)(i * 3));
	}
	vqueue_kick(&disk.queue);
}

static void mark(void)
{
	memset(data, MARK, DEPTH * BYTES);
	memset(slots, MARK, sizeof(slots));
}

static void check_marks(const struct vqueue *queue, uint16_t used)
{
	CHECK_EQ(queue->used->idx, used);
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
	disk_open(&disk, 0);
	for (unsigned int round = 0; round < ROUNDS; round++) {
		struct vqueue old = disk.queue;
		uint16_t used;

		submit(round);
		/* at different depths of what is under way */
		for (unsigned int i = 0; i < round * 500; i++)
			pause();
		vdev_reset(&disk.dev);
		mark();
		used = old.used->idx;
		for (unsigned int i = 0; i < 20000; i++)
			pause();
		check_marks(&old, used);
		disk_reopen(&disk);
		CHECK_EQ(disk_do(&disk, VIRTIO_BLK_T_IN, 0, data, SECTOR), VIRTIO_BLK_S_OK);
	}
}
