/* SPDX-License-Identifier: MIT */
/*
 * Requests no driver should send. Each gets an error status or breaks the device
 * (NEEDS_RESET); then the device is reset and reads a sector as ever. They go to queue=N; with
 * cpus=N the other processors ring all doorbells meanwhile, without end.
 */
#include "guest/lib/cpu.h"
#include "guest/lib/disk.h"
#include "guest/lib/guest.h"
#include "guest/lib/io.h"
#include "guest/lib/smp.h"

enum outcome {
	BROKEN,   /* DEVICE_NEEDS_RESET */
	ANSWERED, /* an entry in the used ring */
};

static struct disk disk;
static struct disk_slot slot;
static uint8_t *data;
static struct vring_desc *table; /* an indirect one */
static uint16_t offered = 1; /* how far avail->idx moves */

/* --- what comes back --- */

static enum outcome offer_and_wait(uint16_t head)
{
	uint64_t start = rdtsc();
	struct vring_used_elem used;

	slot.status = STATUS_UNSET;
	disk.queue.avail->ring[disk.queue.avail->idx % disk.queue.size] = head;
	/* At once: other processors ring the doorbells. */
	__atomic_store_n(&disk.queue.avail->idx, disk.queue.avail->idx + offered,
			 __ATOMIC_RELEASE);
	vqueue_kick(&disk.queue);
	for (;;) {
		if (vqueue_poll(&disk.queue, &used)) {
			CHECK_EQ(used.id, head);
			return ANSWERED;
		}
		if (vdev_status(&disk.dev) & VIRTIO_CONFIG_S_NEEDS_RESET)
			return BROKEN;
		CHECK(still_patient(start));
	}
}

static void recover(void)
{
	vdev_begin(&disk.dev, BIT(VIRTIO_BLK_F_FLUSH) | BIT(VIRTIO_BLK_F_MQ) |
				      BIT(VIRTIO_RING_F_INDIRECT_DESC));
	vqueue_init(&disk.queue, &disk.dev, disk.index, 0);
	vdev_go(&disk.dev);
	memset(data, 0, SECTOR);
	CHECK_EQ(disk_do(&disk, VIRTIO_BLK_T_IN, 0, data, SECTOR), VIRTIO_BLK_S_OK);
	CHECK_EQ(*(uint64_t *)data, ~0ull);
}

static void expect_status(const char *name, uint8_t status)
{
	print("%s\n", name);
	if (offer_and_wait(0) != ANSWERED)
		fail("%s: broke the device", name);
	if (*(volatile uint8_t *)&slot.status != status)
		fail("%s: status %u, not %u", name, slot.status, status);
	recover();
}

static void expect_broken(const char *name, uint16_t head)
{
	print("%s\n", name);
	if (offer_and_wait(head) != BROKEN)
		fail("%s: answered, status %u", name, slot.status);
	CHECK_EQ(slot.status, STATUS_UNSET);
	recover();
}

/* Without a place for a status, either will do; but the machine must go on. */
static void expect_anything(const char *name)
{
	print("%s\n", name);
	offer_and_wait(0);
	recover();
}

/* --- requests whose meaning is wrong --- */

static void request(uint32_t type, uint64_t sector, uint32_t len)
{
	struct vbuf buf = {data, len};

	disk_prepare(&disk, 0, &slot, type, sector, &buf, len ? 1 : 0);
}

static void wrong_ranges(void)
{
	const uint64_t end = disk.sectors;

	request(VIRTIO_BLK_T_IN, end, SECTOR);
	expect_status("read behind the end", VIRTIO_BLK_S_IOERR);
	request(VIRTIO_BLK_T_OUT, end, SECTOR);
	expect_status("write behind the end", VIRTIO_BLK_S_IOERR);
	request(VIRTIO_BLK_T_IN, end - 1, 2 * SECTOR);
	expect_status("read across the end", VIRTIO_BLK_S_IOERR);
	request(VIRTIO_BLK_T_OUT, end - 1, 2 * SECTOR);
	expect_status("write across the end", VIRTIO_BLK_S_IOERR);
	request(VIRTIO_BLK_T_IN, ~0ull, SECTOR);
	expect_status("read at the last sector there could be", VIRTIO_BLK_S_IOERR);
	request(VIRTIO_BLK_T_OUT, ~0ull / SECTOR, SECTOR);
	expect_status("write whose offset wraps", VIRTIO_BLK_S_IOERR);
	request(VIRTIO_BLK_T_IN, 0, SECTOR - 1);
	expect_status("read of half a sector", VIRTIO_BLK_S_IOERR);
	request(VIRTIO_BLK_T_OUT, 0, SECTOR + 1);
	expect_status("write of a sector and a byte", VIRTIO_BLK_S_IOERR);
}

static void wrong_types(void)
{
	request(0xFFFFFFFF, 0, SECTOR);
	expect_status("unknown type", VIRTIO_BLK_S_UNSUPP);
	request(2, 0, SECTOR);
	expect_status("a SCSI command", VIRTIO_BLK_S_UNSUPP);
	/* readable data for a read, writable data for a write */
	request(VIRTIO_BLK_T_OUT, 0, SECTOR);
	slot.header.type = VIRTIO_BLK_T_IN;
	expect_status("read into readable memory", VIRTIO_BLK_S_IOERR);
	request(VIRTIO_BLK_T_IN, 0, SECTOR);
	slot.header.type = VIRTIO_BLK_T_OUT;
	expect_status("write from writable memory", VIRTIO_BLK_S_IOERR);
}

static void wrong_parts(void)
{
	const struct vbuf header = {&slot.header, sizeof(slot.header)};

	vqueue_chain(&disk.queue, 0, (struct vbuf[]){{&slot.header, 8}, {&slot.status, 1}}, 1, 1);
	expect_status("half a header", VIRTIO_BLK_S_IOERR);
	vqueue_chain(&disk.queue, 0, &header, 1, 0);
	expect_anything("no status byte");
	vqueue_chain(&disk.queue, 0, &(struct vbuf){&slot.status, 1}, 0, 1);
	expect_anything("no header");
	vqueue_chain(&disk.queue, 0, (struct vbuf[]){header, {data, SECTOR}}, 2, 0);
	expect_anything("nothing writable");
}

static void read_only_disk(void)
{
	struct disk other;
	struct disk first = disk;

	other.index = 0;
	disk_open(&other, 1);
	CHECK_EQ(disk_do(&other, VIRTIO_BLK_T_OUT, 0, data, SECTOR), VIRTIO_BLK_S_IOERR);
	CHECK_EQ(disk_do(&other, VIRTIO_BLK_T_IN, 0, data, SECTOR), VIRTIO_BLK_S_OK);
	disk = first;
}

/* --- broken chains --- */

static void wrong_addresses(void)
{
	struct vring_desc *desc = disk.queue.desc;
	static const uint64_t places[] = {0xC0000000, 0xFEE00000, 1ull << 40, ~0ull, ~0ull - 511};

	for (unsigned int i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		request(VIRTIO_BLK_T_IN, 0, SECTOR);
		desc[1].addr = places[i];
		expect_broken("data outside RAM", 0);
		desc = disk.queue.desc;
	}
	request(VIRTIO_BLK_T_IN, 0, SECTOR);
	desc[1].len = 0xFFFFFFFF;
	expect_broken("data across the end of RAM", 0);
	desc = disk.queue.desc;
	request(VIRTIO_BLK_T_IN, 0, SECTOR);
	desc[1].len = 0;
	expect_broken("data of length 0", 0);
}

static void wrong_chains(void)
{
	struct vring_desc *desc = disk.queue.desc;

	request(VIRTIO_BLK_T_IN, 0, SECTOR);
	desc[1].next = 1;
	expect_broken("a chain that loops", 0);
	desc = disk.queue.desc;
	request(VIRTIO_BLK_T_IN, 0, SECTOR);
	desc[1].next = disk.queue.size;
	expect_broken("a next descriptor outside the table", 0);
	desc = disk.queue.desc;
	request(VIRTIO_BLK_T_IN, 0, SECTOR);
	desc[0].flags |= VRING_DESC_F_WRITE;
	desc[1].flags &= ~VRING_DESC_F_WRITE;
	expect_broken("readable after writable", 0);
	expect_broken("a head outside the table", disk.queue.size);
	expect_broken("the last head there could be", 0xFFFF);
	request(VIRTIO_BLK_T_IN, 0, SECTOR);
	offered = disk.queue.size + 1;
	expect_broken("more available than there is room", 0);
	offered = 1;
}

static void indirect(uint32_t len, uint16_t flags)
{
	request(VIRTIO_BLK_T_IN, 0, SECTOR);
	memcpy(table, disk.queue.desc, 3 * sizeof(*table));
	disk.queue.desc[0] = (struct vring_desc){
		.addr = (uint64_t)table,
		.len = len,
		.flags = VRING_DESC_F_INDIRECT | flags,
		.next = 1,
	};
}

static void wrong_indirect(void)
{
	const uint32_t good = 3 * sizeof(*table);

	if (!(disk.dev.features & BIT(VIRTIO_RING_F_INDIRECT_DESC)))
		return;
	indirect(good, 0);
	expect_status("an indirect table", VIRTIO_BLK_S_OK);
	indirect(good - 1, 0);
	expect_broken("an indirect table of odd length", 0);
	indirect(0, 0);
	expect_broken("an empty indirect table", 0);
	indirect(good, VRING_DESC_F_NEXT);
	expect_broken("an indirect table, and on", 0);
	indirect(good, 0);
	table[0].flags |= VRING_DESC_F_INDIRECT;
	expect_broken("an indirect table in another", 0);
	indirect(good, 0);
	table[0].next = 3;
	expect_broken("a next descriptor outside the indirect table", 0);
	indirect(good, 0);
	table[1].next = 0;
	expect_broken("an indirect chain that loops", 0);
	indirect(good, 0);
	disk.queue.desc[0].addr = 0xC0000000;
	expect_broken("an indirect table outside RAM", 0);
	indirect(0xFFFFFFF0, 0);
	expect_broken("an endless indirect table", 0);
}

/* Of queues that are enabled, of those that are not, and of some that there are not. */
static void ring_for_ever(void *arg)
{
	const struct disk *rung = arg;

	for (uint16_t i = 0;; i++)
		write16(rung->dev.notify + i % 10 * rung->dev.notify_multiplier, i % 10);
}

static void start_ringing(unsigned int cpus)
{
	static struct disk rung;

	smp_init(cpus);
	vdev_find(&rung.dev, VIRTIO_BLK, 0);
	for (unsigned int i = 1; i < cpus; i++)
		smp_start(i, ring_for_ever, &rung);
}

void guest_main(void)
{
	start_ringing((unsigned int)param("cpus", 1));
	become_user();
	disk.index = (uint16_t)param("queue", 0);
	data = alloc(2 * SECTOR, SECTOR);
	table = alloc(4 * sizeof(*table), 16);
	disk_open(&disk, 0);
	recover();
	wrong_ranges();
	wrong_types();
	wrong_parts();
	read_only_disk();
	wrong_addresses();
	wrong_chains();
	wrong_indirect();
}
