/* SPDX-License-Identifier: MIT */
/*
 * requests=N in flight up to depth at a time, with EVENT_IDX if the device has it: the runner
 * counts what they cost in exits. Each kick is an access to the doorbell; nothing else is.
 */
#include "guest/lib/disk.h"
#include "guest/lib/guest.h"

#define DEPTH 32
#define BYTES 4096

static struct disk disk;
static struct disk_slot slots[DEPTH];
static uint8_t *data;

static void offer(unsigned int slot, uint64_t number)
{
	struct vbuf buf = {data + slot * BYTES, BYTES};
	uint64_t blocks = disk.sectors * SECTOR / BYTES;
	uint64_t sector = number * 7919 % blocks * (BYTES / SECTOR);

	disk_prepare(&disk, (uint16_t)(slot * 3), &slots[slot], number % 2 ? VIRTIO_BLK_T_OUT
		     : VIRTIO_BLK_T_IN, sector, &buf, 1);
	vqueue_offer(&disk.queue, (uint16_t)(slot * 3));
}

void guest_main(void)
{
	uint64_t total = param("requests", 10000), offered = 0, done = 0;

	become_user();
	disk_open(&disk, 0);
	data = alloc(DEPTH * BYTES, 4096);
	print("start\n");
	for (; offered < DEPTH; offered++)
		offer((unsigned int)offered, offered);
	vqueue_kick(&disk.queue);
	while (done < total) {
		struct vring_used_elem used = vqueue_wait(&disk.queue);

		CHECK_EQ(used.id % 3, 0);
		CHECK(used.id / 3 < DEPTH);
		CHECK_EQ(slots[used.id / 3].status, VIRTIO_BLK_S_OK);
		done++;
		if (offered < total) {
			offer(used.id / 3, offered++);
			vqueue_kick(&disk.queue);
		}
	}
	print("%lu requests\n", done);
}
