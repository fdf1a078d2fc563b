/* SPDX-License-Identifier: MIT */
/*
 * Reads what the runner put on the nth=N disk, writes every third 4 KiB block in requests of many
 * shapes, reads all of it back, and gets the id. The runner then reads the file. `reset` ends it
 * by a reset and not by power-off.
 */
#include "guest/lib/cpu.h"
#include "guest/lib/disk.h"
#include "guest/lib/guest.h"
#include "guest/lib/io.h"
#include "vmm/layout.h"

#define BLOCK_SECTORS 8
#define WORDS (SECTOR / 8)
#define DEPTH 16
#define SEED_SECTORS 64 /* the runner's, in the same pattern, inverted */

static struct disk disk;
static struct disk_slot slots[DEPTH];
static uint8_t *buffer; /* DEPTH blocks, each across two pages */

static uint64_t word_at(uint64_t sector, unsigned int word)
{
	return (sector * WORDS + word) * 0x9E3779B97F4A7C15ull;
}

static uint8_t *block_at(unsigned int i)
{
	return buffer + i * BLOCK_SECTORS * SECTOR;
}

static void fill(uint8_t *block, uint64_t sector)
{
	uint64_t *to = (uint64_t *)block;

	for (unsigned int i = 0; i < BLOCK_SECTORS * WORDS; i++)
		to[i] = word_at(sector + i / WORDS, i % WORDS);
}

static bool ours(uint64_t sector)
{
	return sector / BLOCK_SECTORS % 3 == 1;
}

static void check_sector(const uint8_t *bytes, uint64_t sector)
{
	const uint64_t *data = (const uint64_t *)bytes;

	for (unsigned int i = 0; i < WORDS; i++) {
		uint64_t want = ours(sector) ? word_at(sector, i)
				: sector < SEED_SECTORS ? ~word_at(sector, i) : 0;

		if (data[i] != want)
			fail("sector %lu word %u: 0x%lx, not 0x%lx", sector, i, data[i], want);
	}
}

/* Cut the block into buffers: whole, in sectors, or at odd places. */
static unsigned int cut(uint8_t *data, uint64_t shape, struct vbuf bufs[6])
{
	static const uint32_t cuts[][6] = {
		{4096},
		{512, 1024, 2560},
		{1, 4094, 1},
		{1536, 3, 509, 1024, 1024},
		{4095, 1},
		{513, 511, 7, 1017, 2000, 48},
	};
	unsigned int n = 0;

	for (const uint32_t *len = cuts[shape % 6]; n < 6 && len[n]; n++) {
		bufs[n] = (struct vbuf){data, len[n]};
		data += len[n];
	}
	return n;
}

/* What is in flight: the shape cuts each block differently, and so takes other descriptors. */
static void submit(unsigned int i, uint32_t type, uint64_t sector)
{
	struct vbuf bufs[6];
	unsigned int count = cut(block_at(i), sector / BLOCK_SECTORS + type, bufs);

	disk_prepare(&disk, (uint16_t)(i * DISK_DESCS), &slots[i], type, sector, bufs, count);
	vqueue_offer(&disk.queue, (uint16_t)(i * DISK_DESCS));
}

static void wait(unsigned int count, uint32_t type)
{
	while (count--) {
		struct vring_used_elem used = vqueue_wait(&disk.queue);

		CHECK_EQ(used.id % DISK_DESCS, 0);
		CHECK(used.id / DISK_DESCS < DEPTH);
		CHECK_EQ(used.len, type == VIRTIO_BLK_T_IN ? BLOCK_SECTORS * SECTOR + 1 : 1);
		CHECK_EQ(slots[used.id / DISK_DESCS].status, VIRTIO_BLK_S_OK);
	}
}

static void check_seed(void)
{
	CHECK_EQ(disk_do(&disk, VIRTIO_BLK_T_IN, 0, buffer, SECTOR), VIRTIO_BLK_S_OK);
	check_sector(buffer, 0);
}

static void write_blocks(void)
{
	unsigned int n = 0;

	for (uint64_t sector = BLOCK_SECTORS; sector < disk.sectors; sector += 3 * BLOCK_SECTORS) {
		fill(block_at(n), sector);
		submit(n++, VIRTIO_BLK_T_OUT, sector);
		if (n < DEPTH)
			continue;
		vqueue_kick(&disk.queue);
		wait(n, VIRTIO_BLK_T_OUT);
		n = 0;
	}
	vqueue_kick(&disk.queue);
	wait(n, VIRTIO_BLK_T_OUT);
	CHECK_EQ(disk_do(&disk, VIRTIO_BLK_T_FLUSH, 0, NULL, 0), VIRTIO_BLK_S_OK);
}

static void read_blocks(void)
{
	const uint64_t batch = DEPTH * BLOCK_SECTORS;

	CHECK_EQ(disk.sectors % batch, 0);
	for (uint64_t sector = 0; sector < disk.sectors; sector += batch) {
		for (unsigned int i = 0; i < DEPTH; i++) {
			memset(block_at(i), 0x77, BLOCK_SECTORS * SECTOR);
			submit(i, VIRTIO_BLK_T_IN, sector + i * BLOCK_SECTORS);
		}
		vqueue_kick(&disk.queue);
		wait(DEPTH, VIRTIO_BLK_T_IN);
		for (unsigned int i = 0; i < batch; i++)
			check_sector(buffer + i * SECTOR, sector + i);
	}
}

static void get_id(void)
{
	char id[VIRTIO_BLK_ID_BYTES + 1];

	memset(id, 0, sizeof(id));
	CHECK_EQ(disk_do(&disk, VIRTIO_BLK_T_GET_ID, 0, id, VIRTIO_BLK_ID_BYTES),
		 VIRTIO_BLK_S_OK);
	print("id %s\n", id);
}

void guest_main(void)
{
	become_user();
	buffer = (uint8_t *)alloc((DEPTH + 1) * 4096, 4096) + 4096 - 64;
	disk_open(&disk, (unsigned int)param("nth", 0));
	CHECK(disk.dev.features & BIT(VIRTIO_BLK_F_FLUSH));
	if (disk.dev.features & BIT(VIRTIO_BLK_F_RO)) {
		CHECK_EQ(disk_do(&disk, VIRTIO_BLK_T_OUT, 0, buffer, SECTOR), VIRTIO_BLK_S_IOERR);
		print("read-only\n");
	}
	print("sectors %lu\n", disk.sectors);
	if (flag("seeded"))
		check_seed();
	if (!flag("written"))
		write_blocks();
	read_blocks();
	get_id();
	if (flag("reset")) {
		outb(LAYOUT_PORT_RESET, LAYOUT_RESET_VALUE);
		for (;;)
			pause();
	}
}
