/* SPDX-License-Identifier: MIT */
/*
 * MSI-X: a masked vector is kept in the pending bits and delivered when unmasked, whether its
 * own mask or the function's held it; one raised twice meanwhile arrives once; a vector not
 * masked never pends. Delivery is seen in the local APIC's IRR: no interrupt is taken.
 */
#include <linux/pci_regs.h>

#include "guest/lib/cpu.h"
#include "guest/lib/disk.h"
#include "guest/lib/guest.h"
#include "guest/lib/io.h"
#include "guest/lib/pci.h"
#include "guest/lib/smp.h"

#define MSR_X2APIC_EOI 0x80B
#define MSR_X2APIC_SVR 0x80F
#define MSR_X2APIC_IRR 0x820
#define SVR_ON 0x1FF

#define VECTOR 1     /* of the device, for its queue */
#define APIC_VECTOR 0x41

static struct disk disk;
static unsigned int cap;
static uint64_t table, pba;
static uint8_t *data;

static bool in_irr(unsigned int vector)
{
	return rdmsr(MSR_X2APIC_IRR + vector / 32) >> vector % 32 & 1;
}

static bool pending(void)
{
	return read64(pba) >> VECTOR & 1;
}

static void function(bool on, bool masked)
{
	write16(pci_at(disk.dev.slot, cap + PCI_MSIX_FLAGS),
		(on ? PCI_MSIX_FLAGS_ENABLE : 0) | (masked ? PCI_MSIX_FLAGS_MASKALL : 0));
}

/* Each delivery gets a vector of its own: none has to be acknowledged. */
static void entry(unsigned int vector, bool masked)
{
	uint64_t at = table + VECTOR * PCI_MSIX_ENTRY_SIZE;

	write32(at + PCI_MSIX_ENTRY_VECTOR_CTRL, PCI_MSIX_ENTRY_CTRL_MASKBIT);
	write32(at + PCI_MSIX_ENTRY_LOWER_ADDR, 0xFEE00000);
	write32(at + PCI_MSIX_ENTRY_UPPER_ADDR, 0);
	write32(at + PCI_MSIX_ENTRY_DATA, vector);
	if (!masked)
		write32(at + PCI_MSIX_ENTRY_VECTOR_CTRL, 0);
}

static void unmask_entry(void)
{
	write32(table + VECTOR * PCI_MSIX_ENTRY_SIZE + PCI_MSIX_ENTRY_VECTOR_CTRL, 0);
}

static void raise(void)
{
	CHECK_EQ(disk_do(&disk, VIRTIO_BLK_T_IN, 0, data, SECTOR), VIRTIO_BLK_S_OK);
}

#define WAIT_FOR(cond) \
	do { \
		uint64_t start_ = rdtsc(); \
		while (!(cond)) \
			CHECK(still_patient(start_)); \
	} while (0)

/* An interrupt follows its completion closely; this is much longer. */
static void settle(void)
{
	for (unsigned int i = 0; i < 20; i++)
		inb(COM1 + 7);
}

static void find_structures(void)
{
	unsigned int slot = disk.dev.slot;
	uint32_t where;

	cap = pci_capability(slot, PCI_CAP_ID_MSIX, 0);
	CHECK(cap);
	CHECK((read16(pci_at(slot, cap + PCI_MSIX_FLAGS)) & PCI_MSIX_FLAGS_QSIZE) + 1 >= 2);
	where = read32(pci_at(slot, cap + PCI_MSIX_TABLE));
	table = pci_bar(slot, where & PCI_MSIX_TABLE_BIR) + (where & PCI_MSIX_TABLE_OFFSET);
	where = read32(pci_at(slot, cap + PCI_MSIX_PBA));
	pba = pci_bar(slot, where & PCI_MSIX_PBA_BIR) + (where & PCI_MSIX_PBA_OFFSET);
}

static void set_up_queue(void)
{
	vdev_begin(&disk.dev, BIT(VIRTIO_BLK_F_FLUSH));
	vqueue_init(&disk.queue, &disk.dev, 0, 0);
	disk.queue.avail->flags = 0;
	write16(COMMON(&disk.dev, queue_msix_vector), VECTOR);
	CHECK_EQ(read16(COMMON(&disk.dev, queue_msix_vector)), VECTOR);
	vdev_go(&disk.dev);
}

static void masked_entry(unsigned int vector)
{
	entry(vector, true);
	CHECK(!pending());
	raise();
	WAIT_FOR(pending());
	raise();
	settle();
	CHECK(pending());
	CHECK(!in_irr(vector));
	unmask_entry();
	WAIT_FOR(in_irr(vector));
	CHECK(!pending());
}

static void masked_function(unsigned int vector)
{
	entry(vector, false);
	function(true, true);
	raise();
	WAIT_FOR(pending());
	CHECK(!in_irr(vector));
	function(true, false);
	WAIT_FOR(in_irr(vector));
	CHECK(!pending());
}

static void not_masked(unsigned int vector)
{
	entry(vector, false);
	raise();
	WAIT_FOR(in_irr(vector));
	CHECK(!pending());
}

/* A vector pending while its entry is changed goes out as the entry says then. */
static void changed_while_pending(unsigned int vector)
{
	entry(vector, true);
	raise();
	WAIT_FOR(pending());
	entry(vector + 1, true);
	CHECK(pending());
	unmask_entry();
	WAIT_FOR(in_irr(vector + 1));
	CHECK(!in_irr(vector));
}

void guest_main(void)
{
	data = alloc(SECTOR, SECTOR);
	apic_enable();
	wrmsr(MSR_X2APIC_SVR, SVR_ON);
	disk_open(&disk, 0);
	find_structures();
	function(true, false);
	set_up_queue();
	/* each test with vectors of its own, from low to high priority */
	masked_entry(APIC_VECTOR);
	masked_function(APIC_VECTOR + 0x10);
	not_masked(APIC_VECTOR + 0x20);
	changed_while_pending(APIC_VECTOR + 0x30);
	/* the table is read-write memory, the pending bits are not */
	write64(pba, ~0ull);
	CHECK_EQ(read64(pba), 0);
}
