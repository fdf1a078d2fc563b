/* SPDX-License-Identifier: MIT */
/*
 * Registers written at the wrong time, in the wrong size or out of range: a live queue keeps
 * working as it was set up, read-only registers keep their values, and after a storm of writes
 * the device is as good as new.
 */
#include "guest/lib/cpu.h"
#include "guest/lib/disk.h"
#include "guest/lib/guest.h"
#include "guest/lib/io.h"
#include "guest/lib/pci.h"

#define STORM_WRITES 20000

static struct disk disk;
static uint8_t *data;

static void check_disk(void)
{
	memset(data, 0, SECTOR);
	CHECK_EQ(disk_do(&disk, VIRTIO_BLK_T_IN, 0, data, SECTOR), VIRTIO_BLK_S_OK);
	CHECK_EQ(*(uint64_t *)data, ~0ull);
}

/* 4.1.4.3.2: a driver must not; the live queue must not notice. */
static void change_live_queue(void)
{
	struct vdev *dev = &disk.dev;

	write16(COMMON(dev, queue_select), 0);
	write16(COMMON(dev, queue_size), 2);
	write32(COMMON(dev, queue_desc_lo), 0xC0000000);
	write32(COMMON(dev, queue_avail_lo), 0xFFFFFFFF);
	write32(COMMON(dev, queue_used_hi), 0xFFFFFFFF);
	write16(COMMON(dev, queue_enable), 1);
	check_disk();
	write16(COMMON(dev, queue_enable), 0);
	write16(COMMON(dev, queue_size), 0xFFFF);
	check_disk();
	write32(COMMON(dev, guest_feature), 0);
	write8(COMMON(dev, device_status), vdev_status(dev));
	check_disk();
	disk_reopen(&disk);
	check_disk();
}

static void read_only_registers(void)
{
	struct vdev *dev = &disk.dev;
	uint32_t features = read32(COMMON(dev, device_feature));
	uint16_t queues = read16(COMMON(dev, num_queues));
	uint16_t offset = read16(COMMON(dev, queue_notify_off));
	uint8_t generation = read8(COMMON(dev, config_generation));

	write32(COMMON(dev, device_feature), ~features);
	write16(COMMON(dev, num_queues), (uint16_t)~queues);
	write16(COMMON(dev, queue_notify_off), (uint16_t)~offset);
	write8(COMMON(dev, config_generation), (uint8_t)~generation);
	for (unsigned int i = 0; i < 8; i += 4)
		write32(dev->config + i, 0); /* capacity */
	CHECK_EQ(read32(COMMON(dev, device_feature)), features);
	CHECK_EQ(read16(COMMON(dev, num_queues)), queues);
	CHECK_EQ(read16(COMMON(dev, queue_notify_off)), offset);
	CHECK_EQ(read8(COMMON(dev, config_generation)), generation);
	CHECK_EQ(read32(dev->config), disk.sectors);
	check_disk();
}

static void out_of_range(void)
{
	struct vdev *dev = &disk.dev;

	write16(COMMON(dev, queue_select), 0xFFFF);
	CHECK_EQ(read16(COMMON(dev, queue_size)), 0);
	write16(COMMON(dev, queue_size), 4);
	write16(COMMON(dev, queue_enable), 1);
	CHECK_EQ(read16(COMMON(dev, queue_size)), 0);
	write16(COMMON(dev, queue_select), 0);
	write16(COMMON(dev, queue_msix_vector), 0x7FF);
	CHECK_EQ(read16(COMMON(dev, queue_msix_vector)), VIRTIO_MSI_NO_VECTOR);
	write16(COMMON(dev, msix_config), 0x7FF);
	CHECK_EQ(read16(COMMON(dev, msix_config)), VIRTIO_MSI_NO_VECTOR);
	write32(COMMON(dev, device_feature_select), 5);
	CHECK_EQ(read32(COMMON(dev, device_feature)), 0);
	/* doorbells that are not there, and ours in other sizes */
	write16(dev->notify + 0xFFC, 0xFFFF);
	write32(disk.queue.doorbell, 0xFFFFFFFF);
	write8(disk.queue.doorbell, 1);
	check_disk();
}

/* Queues that cannot work: the device may say so at once or when it is asked to. */
static void bad_queue(uint64_t desc, uint64_t avail, uint64_t used, uint16_t size)
{
	struct vdev *dev = &disk.dev;
	uint64_t start = rdtsc();

	vdev_begin(dev, 0);
	write16(COMMON(dev, queue_select), 0);
	write16(COMMON(dev, queue_size), size);
	write32(COMMON(dev, queue_desc_lo), (uint32_t)desc);
	write32(COMMON(dev, queue_desc_hi), (uint32_t)(desc >> 32));
	write32(COMMON(dev, queue_avail_lo), (uint32_t)avail);
	write32(COMMON(dev, queue_avail_hi), (uint32_t)(avail >> 32));
	write32(COMMON(dev, queue_used_lo), (uint32_t)used);
	write32(COMMON(dev, queue_used_hi), (uint32_t)(used >> 32));
	write16(COMMON(dev, queue_enable), 1);
	vdev_go(dev);
	write16(disk.queue.doorbell, 0);
	while (!(vdev_status(dev) & VIRTIO_CONFIG_S_NEEDS_RESET))
		CHECK(still_patient(start));
	disk_reopen(&disk);
	check_disk();
}

static void bad_queues(void)
{
	uint64_t ok = (uint64_t)alloc(0x4000, 0x1000);

	bad_queue(0xC0000000, ok + 0x1000, ok + 0x2000, 16);
	bad_queue(ok, ~0ull, ok + 0x2000, 16);
	bad_queue(ok, ok + 0x1000, 1ull << 50, 16);
	bad_queue(ok + 1, ok + 0x1000, ok + 0x2000, 16);
	bad_queue(~0xFull, ok + 0x1000, ok + 0x2000, 16);
}

/* Ring the doorbell before there is a queue, and after. */
static void early_doorbell(void)
{
	vdev_reset(&disk.dev);
	write16(disk.queue.doorbell, 0);
	vdev_begin(&disk.dev, 0);
	write16(disk.queue.doorbell, 0);
	disk_reopen(&disk);
	check_disk();
}

static uint64_t random(void)
{
	static uint64_t state = 88172645463325252ull;

	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

/* Anything anywhere in the BAR but MSI-X, whose vectors would reach this processor. */
static void storm(void)
{
	uint64_t bar = pci_bar(disk.dev.slot, 0);

	for (unsigned int i = 0; i < STORM_WRITES; i++) {
		uint64_t value = random(), at = bar + value % 0x4000;

		/* mostly registers that mean something */
		if (i % 4)
			at = disk.dev.common + value % 0x40;
		switch (value >> 32 & 3) {
		case 0:
			write8(at, (uint8_t)(value >> 40));
			break;
		case 1:
			write16(at & ~1ull, (uint16_t)(value >> 40));
			break;
		case 2:
			write32(at & ~3ull, (uint32_t)(value >> 32));
			break;
		default:
			read32(at & ~3ull);
		}
	}
	disk_reopen(&disk);
	check_disk();
}

void guest_main(void)
{
	become_user();
	data = alloc(SECTOR, SECTOR);
	disk_open(&disk, 0);
	check_disk();
	change_live_queue();
	read_only_registers();
	out_of_range();
	bad_queues();
	early_doorbell();
	storm();
}
