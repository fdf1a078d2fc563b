/* SPDX-License-Identifier: MIT */
/*
 * BARs: sized as the specification says, moved, switched off. The disk behind a moved BAR works
 * at its new address (doorbell included), and nothing is left at the old one.
 */
#include <linux/pci_regs.h>

#include "guest/lib/disk.h"
#include "guest/lib/guest.h"
#include "guest/lib/io.h"
#include "guest/lib/pci.h"

#define FREE_ADDR (LAYOUT_PCI32_BASE + LAYOUT_PCI32_SIZE - 0x1000000)

#define FREE_PORTS (LAYOUT_PCI_PORTS_BASE + LAYOUT_PCI_PORTS_SIZE / 2)

static struct disk disk;
static uint8_t *data;

static uint64_t bar_at(unsigned int bar)
{
	return pci_at(disk.dev.slot, PCI_BASE_ADDRESS_0 + bar * 4);
}

/* Bytes of a BAR; 0 where there is none. */
static uint32_t bar_size(unsigned int bar)
{
	uint32_t before = read32(bar_at(bar)), mask;

	pci_enable(disk.dev.slot, false);
	write32(bar_at(bar), 0xFFFFFFFF);
	mask = read32(bar_at(bar));
	write32(bar_at(bar), before);
	CHECK_EQ(read32(bar_at(bar)), before);
	pci_enable(disk.dev.slot, true);
	return mask ? ~(mask & (mask & PCI_BASE_ADDRESS_SPACE_IO ? ~3u : ~0xFu)) + 1 : 0;
}

static unsigned int check_sizes(void)
{
	unsigned int found = PCI_STD_NUM_BARS;

	for (unsigned int bar = 0; bar < PCI_STD_NUM_BARS; bar++) {
		uint32_t size = bar_size(bar);

		if (!size)
			continue;
		CHECK_EQ(size & (size - 1), 0);
		CHECK_EQ(pci_bar(disk.dev.slot, bar) & (size - 1), 0);
		print("bar %u has 0x%x %s\n", bar, size,
		      pci_bar_is_ports(disk.dev.slot, bar) ? "ports" : "bytes");
		if (found == PCI_STD_NUM_BARS)
			found = bar;
		if ((read32(bar_at(bar)) & PCI_BASE_ADDRESS_MEM_TYPE_MASK) ==
		    PCI_BASE_ADDRESS_MEM_TYPE_64)
			bar++;
	}
	CHECK(found < PCI_STD_NUM_BARS);
	return found;
}

/* Twice: by both kinds of doorbells. */
static void check_disk(void)
{
	for (int i = 0; i < 2; i++) {
		memset(data, 0, SECTOR);
		CHECK_EQ(disk_do(&disk, VIRTIO_BLK_T_IN, 0, data, SECTOR), VIRTIO_BLK_S_OK);
		CHECK_EQ(*(uint64_t *)data, ~0ull);
	}
}

static void move(unsigned int bar, uint64_t to)
{
	uint64_t from = pci_bar(disk.dev.slot, bar);
	uint64_t old_status = COMMON(&disk.dev, device_status);
	uint64_t old_doorbell = disk.queue.doorbell;
	uint8_t status = read8(old_status);

	CHECK(status & VIRTIO_CONFIG_S_DRIVER_OK);
	write32(bar_at(bar), (uint32_t)to);
	CHECK_EQ(pci_bar(disk.dev.slot, bar), to);
	vdev_locate(&disk.dev);
	disk.queue.doorbell = old_doorbell - from + to;
	/* all at the new address, nothing at the old one */
	CHECK_EQ(vdev_status(&disk.dev), status);
	CHECK_EQ(read8(old_status), 0xFF);
	write16(old_doorbell, 0);
	write8(old_status, 0);
	CHECK_EQ(vdev_status(&disk.dev), status);
	check_disk();
}

static void move_ports(uint16_t to)
{
	unsigned int bar = 0;
	uint16_t from;

	while (!pci_bar_is_ports(disk.dev.slot, bar))
		bar++;
	from = (uint16_t)pci_bar(disk.dev.slot, bar);
	write32(bar_at(bar), to);
	CHECK_EQ(pci_bar(disk.dev.slot, bar), to);
	vdev_locate(&disk.dev);
	disk.queue.doorbell_port = (uint16_t)(disk.queue.doorbell_port - from + to);
	CHECK_EQ(inw(from), 0xFFFF);
	CHECK_EQ(inw(to), 0);
	check_disk();
}

static void switch_off(void)
{
	uint64_t status = COMMON(&disk.dev, device_status);
	uint8_t before = read8(status);

	pci_enable(disk.dev.slot, false);
	CHECK_EQ(read8(status), 0xFF);
	write8(status, 0);
	pci_enable(disk.dev.slot, true);
	CHECK_EQ(read8(status), before);
	check_disk();
}

void guest_main(void)
{
	unsigned int bar;
	uint64_t home;

	become_user();
	data = alloc(SECTOR, SECTOR);
	disk_open(&disk, 0);
	check_disk();
	bar = check_sizes();
	check_disk(); /* sizing leaves no trace */
	home = pci_bar(disk.dev.slot, bar);
	for (int i = 0; i < 20; i++) {
		move(bar, FREE_ADDR + i * 0x10000);
		move(bar, home);
		move_ports((uint16_t)(FREE_PORTS + i * 0x100));
	}
	switch_off();
	disk_reopen(&disk);
	check_disk();
}
