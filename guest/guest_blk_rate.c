/* SPDX-License-Identifier: MIT */
/*
 * Requests for some cycles of the TSC, the next as soon as one is done: for tests/bench/guest,
 * and under other VMMs too. The driver does what Linux does, but polls: indirect descriptors, and
 * no kick the device does not ask for. Each line from the console is a job,
 *
 *	[write] [random] bytes=N depth=N cycles=N
 *
 * which a line answers, with what came of it in how many cycles. An empty one is the end. The
 * disk holds bytes of PATTERN and gets no others.
 */
#include "guest/lib/cpu.h"
#include "guest/lib/disk.h"
#include "guest/lib/guest.h"

#define DEPTH_MAX 32
#define PAGE 4096 /* each is a buffer: memory is seldom contiguous */
#define PAGES_MAX 64
#define PATTERN 0x0101010101010101ull

struct slot {
	struct disk_slot disk;
	struct vring_desc table[PAGES_MAX + 2];
	uint64_t *data;
};

static struct disk disk;
static struct slot slots[DEPTH_MAX];
static bool write, shuffled;
static unsigned int depth, pages;
static uint64_t blocks, number; /* of all, and of requests made */

/* The slot's words that are looked at: the first and the last. */
static void set_ends(struct slot *slot, uint64_t value)
{
	slot->data[0] = slot->data[pages * PAGE / 8 - 1] = value;
}

static uint64_t next_block(void)
{
	uint64_t mixed = number++;

	if (shuffled)
		mixed = mixed * 0x9E3779B97F4A7C15ull >> 32;
	return mixed % blocks;
}

static void offer(unsigned int index)
{
	struct slot *slot = &slots[index];
	struct vbuf bufs[PAGES_MAX + 2];

	slot->disk.header = (struct virtio_blk_outhdr){
		.type = write ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN,
		.sector = next_block() * pages * (PAGE / SECTOR),
	};
	slot->disk.status = STATUS_UNSET;
	if (!write)
		set_ends(slot, 0);
	bufs[0] = (struct vbuf){&slot->disk.header, sizeof(slot->disk.header)};
	for (unsigned int i = 0; i < pages; i++)
		bufs[i + 1] = (struct vbuf){(uint8_t *)slot->data + i * PAGE, PAGE};
	bufs[pages + 1] = (struct vbuf){&slot->disk.status, 1};
	vqueue_indirect(&disk.queue, (uint16_t)index, slot->table, bufs, write ? pages + 1 : 1,
			write ? 1 : pages + 1);
	vqueue_offer(&disk.queue, (uint16_t)index);
	vqueue_tell(&disk.queue);
}

/* Wait for a request to be done: its slot. */
static unsigned int finish(void)
{
	unsigned int index = vqueue_wait(&disk.queue).id;

	CHECK(index < depth);
	CHECK_EQ(slots[index].disk.status, VIRTIO_BLK_S_OK);
	CHECK_EQ(slots[index].data[0], PATTERN);
	CHECK_EQ(slots[index].data[pages * PAGE / 8 - 1], PATTERN);
	return index;
}

static void run(uint64_t until)
{
	unsigned int in_flight = depth;

	for (unsigned int i = 0; i < depth; i++)
		offer(i);
	while (in_flight) {
		unsigned int index = finish();

		if (rdtsc() < until)
			offer(index);
		else
			in_flight--;
	}
}

static void open_disk(void)
{
	disk.wanted = BIT(VIRTIO_RING_F_EVENT_IDX) | BIT(VIRTIO_RING_F_INDIRECT_DESC);
	disk_open(&disk, 0);
	CHECK(disk.dev.features & BIT(VIRTIO_RING_F_INDIRECT_DESC));
	for (unsigned int i = 0; i < DEPTH_MAX; i++) {
		slots[i].data = alloc(PAGES_MAX * PAGE, PAGE);
		memset(slots[i].data, (uint8_t)PATTERN, PAGES_MAX * PAGE);
	}
}

static void do_job(void)
{
	unsigned int kicks = disk.queue.kicks;
	uint64_t before = number, start;

	depth = (unsigned int)param("depth", 1);
	pages = (unsigned int)param("bytes", PAGE) / PAGE;
	write = flag("write");
	shuffled = flag("random");
	CHECK(depth >= 1 && depth <= DEPTH_MAX && pages >= 1 && pages <= PAGES_MAX);
	blocks = disk.sectors / (pages * (PAGE / SECTOR));
	start = rdtsc();
	run(start + param("cycles", 1000000000));
	print("cycles=%lu requests=%lu kicks=%u\n", rdtsc() - start, number - before,
	      disk.queue.kicks - kicks);
}

void guest_main(void)
{
	become_user();
	open_disk();
	do_jobs(do_job);
}
