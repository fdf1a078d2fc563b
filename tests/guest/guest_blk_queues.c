/* SPDX-License-Identifier: MIT */
/*
 * cpus=N processors, each with queues of its own and all at once, write parts of the disk and
 * read them back; then the last queue reads all of it. The runner then reads the file.
 */
#include "guest/lib/cpu.h"
#include "guest/lib/disk.h"
#include "guest/lib/guest.h"
#include "guest/lib/io.h"
#include "guest/lib/smp.h"

#define QUEUES_MAX 64
#define DEPTH 8
#define BLOCK_SECTORS 8
#define BLOCK_BYTES (BLOCK_SECTORS * SECTOR)
#define WORDS (BLOCK_BYTES / 8)

struct worker {
	struct disk disk; /* the device is everybody's, the queue its own */
	struct disk_slot slots[DEPTH];
	uint64_t *data;
	uint64_t first, blocks; /* its part */
};

static struct worker workers[QUEUES_MAX];
static unsigned int queues, cpus, go, done;

static uint64_t *data_at(struct worker *w, unsigned int slot)
{
	return w->data + (uint64_t)slot * WORDS;
}

static uint64_t word_at(uint64_t block, unsigned int word)
{
	return (block * WORDS + word) * 0x9E3779B97F4A7C15ull;
}

static void begin(struct worker *w, unsigned int slot, uint32_t type, uint64_t block)
{
	struct vbuf buf = {data_at(w, slot), BLOCK_BYTES};
	uint16_t head = (uint16_t)(slot * 3);

	for (unsigned int i = 0; i < WORDS; i++)
		data_at(w, slot)[i] = type == VIRTIO_BLK_T_OUT ? word_at(block, i) : 0;
	disk_prepare(&w->disk, head, &w->slots[slot], type, block * BLOCK_SECTORS, &buf, 1);
	vqueue_offer(&w->disk.queue, head);
}

static void end(struct worker *w, uint32_t type)
{
	unsigned int slot = vqueue_wait(&w->disk.queue).id / 3;

	CHECK(slot < DEPTH);
	CHECK_EQ(w->slots[slot].status, VIRTIO_BLK_S_OK);
	for (unsigned int i = 0; type == VIRTIO_BLK_T_IN && i < WORDS; i++) {
		uint64_t block = w->slots[slot].header.sector / BLOCK_SECTORS;

		CHECK_EQ(data_at(w, slot)[i], word_at(block, i));
	}
}

/* One batch after the other; a kick for each request, as different processors' may mix. */
static void transfer(struct worker *w, uint32_t type, uint64_t first, uint64_t blocks)
{
	for (uint64_t at = 0; at < blocks; at += DEPTH) {
		for (unsigned int slot = 0; slot < DEPTH; slot++) {
			begin(w, slot, type, first + at + slot);
			vqueue_kick(&w->disk.queue);
		}
		for (unsigned int slot = 0; slot < DEPTH; slot++)
			end(w, type);
	}
}

/* On one processor: the queues from `w` on, each cpus-th. */
static void work(struct worker *w)
{
	while (!__atomic_load_n(&go, __ATOMIC_ACQUIRE))
		pause();
	for (; w < &workers[queues]; w += cpus) {
		transfer(w, VIRTIO_BLK_T_OUT, w->first, w->blocks);
		transfer(w, VIRTIO_BLK_T_IN, w->first, w->blocks);
	}
	__atomic_add_fetch(&done, 1, __ATOMIC_RELEASE);
}

static void work_for_ever(void *arg)
{
	work(arg);
	for (;;)
		pause();
}

static void open_queues(void)
{
	struct disk disk;
	uint64_t blocks;

	vdev_find(&disk.dev, VIRTIO_BLK, 0);
	vdev_begin(&disk.dev, BIT(VIRTIO_BLK_F_FLUSH) | BIT(VIRTIO_BLK_F_MQ));
	CHECK(disk.dev.features & BIT(VIRTIO_BLK_F_MQ));
	CHECK_EQ(read16(disk.dev.config + offsetof(struct virtio_blk_config, num_queues)), queues);
	blocks = read32(disk.dev.config) / BLOCK_SECTORS / queues;
	CHECK_EQ(blocks % DEPTH, 0);
	for (unsigned int i = 0; i < queues; i++) {
		struct worker *w = &workers[i];

		w->disk.dev = disk.dev;
		vqueue_init(&w->disk.queue, &w->disk.dev, (uint16_t)i, 0);
		w->data = alloc(DEPTH * BLOCK_BYTES, 4096);
		w->first = i * blocks;
		w->blocks = blocks;
	}
	vdev_go(&disk.dev);
}

static void wait_for_all(void)
{
	uint64_t start = rdtsc();

	while (__atomic_load_n(&done, __ATOMIC_ACQUIRE) < cpus)
		CHECK(still_patient(start));
}

void guest_main(void)
{
	cpus = (unsigned int)param("cpus", 1);
	queues = (unsigned int)param("queues", cpus);
	CHECK(cpus <= queues && queues <= QUEUES_MAX);
	smp_init(cpus);
	open_queues();
	for (unsigned int i = 1; i < cpus; i++)
		smp_start(i, work_for_ever, &workers[i]);
	become_user();
	__atomic_store_n(&go, 1, __ATOMIC_RELEASE);
	work(&workers[0]);
	wait_for_all();
	transfer(&workers[queues - 1], VIRTIO_BLK_T_IN, 0, queues * workers[0].blocks);
	CHECK_EQ(disk_do(&workers[queues / 2].disk, VIRTIO_BLK_T_FLUSH, 0, NULL, 0),
		 VIRTIO_BLK_S_OK);
	print("%u queues\n", queues);
}
