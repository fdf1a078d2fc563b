/* SPDX-License-Identifier: MIT */
#include "tests/unit/fake_pci.h"

#include <linux/pci_regs.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define CF8 LAYOUT_PORT_PCI_ADDR
#define CFC LAYOUT_PORT_PCI_DATA
#define BAR_BYTES 0x4000u
#define WINDOW LAYOUT_PCI32_BASE
#define WINDOW_END (LAYOUT_PCI32_BASE + LAYOUT_PCI32_SIZE)
#define PORTS 64u
#define PORTS_END ((uint32_t)(LAYOUT_PCI_PORTS_BASE + LAYOUT_PCI_PORTS_SIZE))

/* A function whose BARs answer with their own tag. */
struct toy {
	struct pci_dev pci;
	uint8_t tag;
	unsigned int written; /* config_written calls */
	unsigned int maps, unmaps;
};

static struct pci_host *host;
static struct toy toys[31];

static void toy_read(void *owner, uint64_t offset, void *data, unsigned int len)
{
	const struct toy *toy = owner;

	memset(data, toy->tag, len);
}

static void toy_write(void *owner, uint64_t offset, const void *data, unsigned int len)
{
}

static const struct bus_ops toy_bar_ops = {.read = toy_read, .write = toy_write};

static void toy_written(struct pci_dev *dev, unsigned int reg, unsigned int len)
{
	CONTAINER_OF(dev, struct toy, pci)->written++;
}

static void toy_mapped(struct pci_dev *dev, unsigned int bar, uint64_t addr, bool mapped)
{
	struct toy *toy = CONTAINER_OF(dev, struct toy, pci);

	toy->maps += mapped;
	toy->unmaps += !mapped;
}

static const struct pci_dev_ops toy_ops = {
	.config_written = toy_written,
	.bar_mapped = toy_mapped,
};

static void toy_init(struct toy *toy, uint8_t tag)
{
	static const struct pci_id id = {
		.vendor = 0x1234, .device = 0x5678, .class_code = 0x010203, .revision = 4,
		.subsys_vendor = 0x9abc, .subsys_device = 0xdef0,
	};

	memset(toy, 0, sizeof(*toy));
	toy->tag = tag;
	pci_dev_init(&toy->pci, &id, &toy_ops);
	pci_set_bar(&toy->pci, 0, PCI_MEMORY, BAR_BYTES, &toy_bar_ops, toy);
	pci_set_bar(&toy->pci, 3, PCI_PORTS, PORTS, &toy_bar_ops, toy);
}

/* Two functions, in slots 1 and 2. */
static int setup(void **state)
{
	fake_vm_init();
	if (pci_host_create(&fake_vm, &host) < 0)
		return -1;
	for (uint8_t i = 0; i < 2; i++) {
		toy_init(&toys[i], (uint8_t)(0xA0 + i));
		if (pci_add(host, &toys[i].pci) < 0)
			return -1;
	}
	return 0;
}

static int teardown(void **state)
{
	for (unsigned int i = 0; i < ARRAY_LEN(toys); i++)
		if (toys[i].pci.host)
			pci_remove(&toys[i].pci);
	pci_host_destroy(host);
	fake_vm_finish();
	return 0;
}

static void enable(unsigned int slot, bool on)
{
	cfg_out(slot, PCI_COMMAND, 2, on ? PCI_COMMAND_MEMORY : 0);
}

static uint64_t bar0(unsigned int slot)
{
	return cfg_in(slot, PCI_BASE_ADDRESS_0, 4) & ~0xfull;
}

static void identity_by_both_ways(void **state)
{
	static const struct {
		unsigned int reg, len;
		uint32_t value;
	} rows[] = {
		{PCI_VENDOR_ID, 2, 0x1234},          {PCI_DEVICE_ID, 2, 0x5678},
		{PCI_VENDOR_ID, 4, 0x56781234},      {PCI_CLASS_REVISION, 4, 0x01020304},
		{PCI_CLASS_DEVICE, 2, 0x0102},       {PCI_HEADER_TYPE, 1, 0},
		{PCI_SUBSYSTEM_VENDOR_ID, 2, 0x9abc}, {PCI_SUBSYSTEM_ID, 2, 0xdef0},
		{PCI_COMMAND, 2, 0},                 {PCI_STATUS, 2, 0},
		{PCI_INTERRUPT_PIN, 1, 0},           {PCI_ROM_ADDRESS, 4, 0},
	};

	for (unsigned int i = 0; i < ARRAY_LEN(rows); i++) {
		port_out(CF8, 4, 0x80000000u | 1 << 11 | (rows[i].reg & ~3u));
		assert_int_equal(port_in((uint16_t)(CFC + (rows[i].reg & 3)), rows[i].len),
				 rows[i].value);
		assert_int_equal(cfg_in(1, rows[i].reg, rows[i].len), rows[i].value);
	}
	assert_int_equal(cfg_in(0, PCI_CLASS_DEVICE, 2), 0x0600);
}

static void nobody_reads_ones(void **state)
{
	assert_int_equal(cfg_in(3, 0, 4), 0xffffffff);
	assert_int_equal(mmio_in(cfg_addr(1, 0) + (1 << 12), 4), 0xffffffff); /* function 1 */
	assert_int_equal(mmio_in(cfg_addr(31, 0xffc), 4), 0xffffffff);
	cfg_out(3, 4, 4, 0xffffffff);
	port_out(CF8, 4, 0x80010000); /* bus 1 */
	assert_int_equal(port_in(CFC, 4), 0xffffffff);
	port_out(CF8, 4, 0x00000800); /* not enabled */
	assert_int_equal(port_in(CFC, 4), 0xffffffff);
	port_out(CFC, 4, 0);
	/* present, but no extended space */
	assert_int_equal(cfg_in(1, 0x100, 4), 0xffffffff);
	cfg_out(1, 0x100, 4, 0);
	assert_int_equal(cfg_in(1, 0x100, 4), 0xffffffff);
}

/* Every size at every alignment sees the same bytes; what crosses into nobody's reads ones. */
static void all_sizes_and_alignments(void **state)
{
	static const unsigned int sizes[] = {1, 2, 4, 8};
	uint8_t bytes[0x1000 + 8];

	memset(bytes, 0xff, sizeof(bytes)); /* nothing beyond, and no function 1 */
	memcpy(bytes, toys[0].pci.cfg, PCI_CONFIG_BYTES);
	for (unsigned int reg = 0; reg < 0x1000; reg++) {
		for (unsigned int i = 0; i < ARRAY_LEN(sizes); i++) {
			uint64_t got = mmio_in(cfg_addr(1, reg), sizes[i]);

			assert_memory_equal(&got, bytes + reg, sizes[i]);
		}
	}
	/* beyond the dword of CFC is nobody's port */
	port_out(CF8, 4, 0x80000800);
	assert_int_equal(port_in(CFC + 2, 4), 0xffffffff);
	/* an 8-byte write is two dwords */
	mmio_out(cfg_addr(1, PCI_COMMAND), 8, 0xffffffffffffffff);
	assert_int_equal(toys[0].written, 2);
}

static void read_only_bits_stay(void **state)
{
	uint8_t before[PCI_CONFIG_BYTES];

	memcpy(before, toys[0].pci.cfg, sizeof(before));
	for (unsigned int reg = 0; reg < 0x1000; reg += 4)
		cfg_out(1, reg, 4, 0xffffffff);
	assert_int_equal(cfg_in(1, PCI_VENDOR_ID, 4), 0x56781234);
	assert_int_equal(cfg_in(1, PCI_COMMAND, 4), 0x0547);
	assert_int_equal(cfg_in(0, PCI_COMMAND, 4), 0); /* the bridge has nothing to decode */
	assert_int_equal(cfg_in(1, PCI_BASE_ADDRESS_0, 4), 0xffffc000);
	assert_int_equal(cfg_in(1, PCI_BASE_ADDRESS_1, 4), 0);
	assert_int_equal(cfg_in(1, PCI_BASE_ADDRESS_3, 4),
			 ~(PORTS - 1) | PCI_BASE_ADDRESS_SPACE_IO);
	assert_int_equal(cfg_in(1, PCI_ROM_ADDRESS, 4), 0);
	assert_int_equal(cfg_in(1, PCI_INTERRUPT_LINE, 4), 0xff);
	for (unsigned int reg = 0; reg < 0x1000; reg++)
		cfg_out(1, reg, 1, 0);
	before[PCI_BASE_ADDRESS_0 + 3] = 0; /* had an address */
	before[PCI_BASE_ADDRESS_3 + 1] = 0;
	assert_memory_equal(toys[0].pci.cfg, before, sizeof(before));
}

/* How Linux looks for the mechanism (pci_check_type1), and what it must not break. */
static void address_port_takes_dwords(void **state)
{
	port_out(CF8 + 3, 1, 1);
	assert_int_equal(port_in(CF8, 4), 0);
	port_out(CF8, 4, 0x80000000);
	assert_int_equal(port_in(CF8, 4), 0x80000000);
	port_out(CF8, 2, 0x1234);
	port_out(CF8, 4, 0xffffffff);
	assert_int_equal(port_in(CF8, 4), 0x80fffffc);
	assert_int_equal(port_in(CF8, 2), 0xffff);
}

static void reset_register(void **state)
{
	port_out(CF8 + 1, 1, 0x02);
	assert_int_equal(fake_end, VM_RUNNING);
	assert_int_equal(port_in(CF8 + 1, 1), 0x02);
	port_out(CF8, 4, 0x80000400); /* bit 2 of that byte, but not a byte access */
	assert_int_equal(fake_end, VM_RUNNING);
	port_out(LAYOUT_PORT_RESET, 1, LAYOUT_RESET_VALUE);
	assert_int_equal(fake_end, VM_RESET);
}

static void bars_have_addresses_and_decode_on_demand(void **state)
{
	assert_int_equal(bar0(1), WINDOW);
	assert_int_equal(bar0(2), WINDOW + BAR_BYTES);
	assert_int_equal(mmio_in(bar0(1), 4), 0xffffffff);
	enable(1, true);
	assert_int_equal(mmio_in(bar0(1), 4), 0xa0a0a0a0);
	assert_int_equal(mmio_in(bar0(2), 4), 0xffffffff);
	assert_int_equal(toys[0].maps, 1);
	enable(1, true);
	assert_int_equal(toys[0].maps, 1);
	enable(1, false);
	assert_int_equal(mmio_in(bar0(1), 4), 0xffffffff);
	assert_int_equal(toys[0].unmaps, 1);
}

static void bars_size_and_move_while_decoded(void **state)
{
	uint64_t old = bar0(1);

	enable(1, true);
	cfg_out(1, PCI_BASE_ADDRESS_0, 4, 0xffffffff);
	assert_int_equal(cfg_in(1, PCI_BASE_ADDRESS_0, 4), ~(BAR_BYTES - 1));
	assert_int_equal(mmio_in(0xffffc000, 4), 0xffffffff); /* outside the window */
	cfg_out(1, PCI_BASE_ADDRESS_0, 4, (uint32_t)WINDOW + 0x100000);
	assert_int_equal(mmio_in(WINDOW + 0x100000, 4), 0xa0a0a0a0);
	assert_int_equal(mmio_in(old, 4), 0xffffffff);
	/* byte by byte, through whatever lies between */
	cfg_out(1, PCI_BASE_ADDRESS_0 + 2, 1, 0x23);
	assert_int_equal(mmio_in(WINDOW + 0x230000, 4), 0xa0a0a0a0);
	cfg_out(1, PCI_BASE_ADDRESS_0, 4, (uint32_t)old);
	assert_int_equal(mmio_in(old, 4), 0xa0a0a0a0);
	assert_int_equal(toys[0].maps, toys[0].unmaps + 1);
}

static void bars_stay_in_the_window(void **state)
{
	static const uint64_t outside[] = {
		0, 0x1000000, WINDOW - BAR_BYTES, WINDOW_END, LAYOUT_ECAM_BASE,
		LAYOUT_IOAPIC_BASE, LAYOUT_LAPIC_BASE, 0xffffc000,
	};
	unsigned int ranges;

	enable(1, true);
	ranges = fake_vm.mmio.count;
	for (unsigned int i = 0; i < ARRAY_LEN(outside); i++) {
		cfg_out(1, PCI_BASE_ADDRESS_0, 4, (uint32_t)outside[i]);
		assert_int_equal(fake_vm.mmio.count, ranges - 1);
	}
	cfg_out(1, PCI_BASE_ADDRESS_0, 4, (uint32_t)(WINDOW_END - BAR_BYTES));
	assert_int_equal(mmio_in(WINDOW_END - 1, 1), 0xa0);
}

static uint16_t ports(unsigned int slot)
{
	return (uint16_t)(cfg_in(slot, PCI_BASE_ADDRESS_3, 4) & ~3u);
}

static void ports_decode_and_move(void **state)
{
	static const uint32_t outside[] = {0, 0x3f8, LAYOUT_PORT_PCI_ADDR,
					   PORTS_END - PORTS - 0x4000,
					   PORTS_END, 0x1c000, 0xffffffff};
	unsigned int ranges = fake_vm.pio.count;

	assert_int_equal(ports(1), LAYOUT_PCI_PORTS_BASE);
	assert_int_equal(ports(2), LAYOUT_PCI_PORTS_BASE + PORTS);
	enable(1, true); /* memory alone */
	assert_int_equal(port_in(ports(1), 4), 0xffffffff);
	cfg_out(1, PCI_COMMAND, 2, PCI_COMMAND_IO);
	assert_int_equal(port_in(ports(1), 4), 0xa0a0a0a0);
	assert_int_equal(mmio_in(bar0(1), 4), 0xffffffff);
	for (unsigned int i = 0; i < ARRAY_LEN(outside); i++) {
		cfg_out(1, PCI_BASE_ADDRESS_3, 4, outside[i]);
		assert_int_equal(fake_vm.pio.count, ranges);
	}
	cfg_out(1, PCI_BASE_ADDRESS_3, 4, PORTS_END - PORTS);
	assert_int_equal(port_in(PORTS_END - 1, 1), 0xa0);
	assert_int_equal(port_in(LAYOUT_PCI_PORTS_BASE, 4), 0xffffffff);
}

static void collisions_are_survived(void **state)
{
	uint64_t first = bar0(1), second = bar0(2);

	enable(1, true);
	enable(2, true);
	cfg_out(2, PCI_BASE_ADDRESS_0, 4, (uint32_t)first);
	assert_int_equal(mmio_in(first, 4), 0xa0a0a0a0); /* who was there stays */
	assert_int_equal(mmio_in(second, 4), 0xffffffff);
	/* the way is free again: by decode off, then by a move */
	enable(1, false);
	assert_int_equal(mmio_in(first, 4), 0xa1a1a1a1);
	enable(1, true);
	assert_int_equal(mmio_in(first, 4), 0xa1a1a1a1);
	cfg_out(2, PCI_BASE_ADDRESS_0, 4, (uint32_t)second);
	assert_int_equal(mmio_in(first, 4), 0xa0a0a0a0);
	assert_int_equal(mmio_in(second, 4), 0xa1a1a1a1);
}

static void capabilities_make_a_list(void **state)
{
	struct pci_dev *dev = &toys[2].pci;
	unsigned int first, second;

	toy_init(&toys[2], 0xA2);
	first = pci_add_capability(dev, 0x11, 12);
	second = pci_add_capability(dev, 0x09, 17);
	assert_int_equal(pci_add_capability(dev, 0x05, 2), second + 20);
	assert_int_equal(pci_add(host, dev), 0);
	assert_int_equal(dev->slot, 3);
	assert_int_equal(cfg_in(3, PCI_STATUS, 2) & PCI_STATUS_CAP_LIST, PCI_STATUS_CAP_LIST);
	assert_int_equal(cfg_in(3, PCI_CAPABILITY_LIST, 1), first);
	assert_int_equal(cfg_in(3, first, 2), second << 8 | 0x11);
	assert_int_equal(cfg_in(3, second, 2), (second + 20) << 8 | 0x09);
	assert_int_equal(cfg_in(3, second + 20, 2), 0x05);
}

static void slots_and_addresses_run_out(void **state)
{
	struct toy large = {0}, extra = {0};

	toy_init(&large, 0xB0);
	pci_set_bar(&large.pci, 1, PCI_MEMORY, 0x20000000, &toy_bar_ops, &large);
	assert_int_equal(pci_add(host, &large.pci), -ENOSPC);
	for (uint8_t i = 2; i < 31; i++) {
		toy_init(&toys[i], i);
		assert_int_equal(pci_add(host, &toys[i].pci), 0);
		assert_int_equal(bar0(i + 1u), WINDOW + i * BAR_BYTES);
	}
	toy_init(&extra, 0xB1);
	assert_int_equal(pci_add(host, &extra.pci), -ENOSPC);
	pci_remove(&toys[7].pci);
	assert_int_equal(cfg_in(8, 0, 4), 0xffffffff);
	assert_int_equal(pci_add(host, &extra.pci), 0);
	assert_int_equal(extra.pci.slot, 8);
	pci_remove(&extra.pci);
}

static void ports_run_out(void **state)
{
	struct toy many[2] = {0};

	for (unsigned int i = 0; i < ARRAY_LEN(many); i++) {
		toy_init(&many[i], (uint8_t)i);
		pci_set_bar(&many[i].pci, 4, PCI_PORTS, (uint32_t)LAYOUT_PCI_PORTS_SIZE / 2,
			    &toy_bar_ops, &many[i]);
	}
	assert_int_equal(pci_add(host, &many[0].pci), 0);
	assert_int_equal(pci_add(host, &many[1].pci), -ENOSPC);
	pci_remove(&many[0].pci);
}

/* Some vCPUs move and size a BAR while others use it: for the thread sanitizer above all. */
static atomic_bool racing;

static void *use_bar(void *arg)
{
	while (racing) {
		uint32_t seen = (uint32_t)mmio_in(WINDOW, 4);

		assert(seen == 0xffffffff || seen == 0xa0a0a0a0 || seen == 0xa1a1a1a1);
		port_out(CF8, 4, 0x80000804);
		port_in(CFC, 4);
	}
	return NULL;
}

static void *move_bar(void *arg)
{
	unsigned int slot = *(unsigned int *)arg;

	for (unsigned int i = 0; i < 2000; i++) {
		enable(slot, i % 7);
		cfg_out(slot, PCI_BASE_ADDRESS_0, 4, (uint32_t)WINDOW + (i % 3) * BAR_BYTES);
		cfg_out(slot, PCI_BASE_ADDRESS_0, 4, 0xffffffff);
	}
	return NULL;
}

static void moves_race_with_use(void **state)
{
	unsigned int slots[] = {1, 2};
	pthread_t user, movers[2];

	racing = true;
	assert_int_equal(pthread_create(&user, NULL, use_bar, NULL), 0);
	for (unsigned int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&movers[i], NULL, move_bar, &slots[i]), 0);
	for (unsigned int i = 0; i < 2; i++)
		pthread_join(movers[i], NULL);
	racing = false;
	pthread_join(user, NULL);
	assert_int_equal(toys[0].maps, toys[0].unmaps);
	assert_int_equal(toys[1].maps, toys[1].unmaps);
}

static void ports_taken_are_given_back(void **state)
{
	struct pci_host *second;

	assert_int_equal(pci_host_create(&fake_vm, &second), -EEXIST);
	bus_del(&fake_vm.mmio, LAYOUT_ECAM_BASE);
	assert_int_equal(pci_host_create(&fake_vm, &second), -EEXIST);
	assert_int_equal(fake_vm.mmio.count, 0);
	assert_int_equal(fake_vm.pio.count, 2);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(identity_by_both_ways),
		TEST(nobody_reads_ones),
		TEST(all_sizes_and_alignments),
		TEST(read_only_bits_stay),
		TEST(address_port_takes_dwords),
		TEST(reset_register),
		TEST(bars_have_addresses_and_decode_on_demand),
		TEST(bars_size_and_move_while_decoded),
		TEST(bars_stay_in_the_window),
		TEST(ports_decode_and_move),
		TEST(collisions_are_survived),
		TEST(capabilities_make_a_list),
		TEST(slots_and_addresses_run_out),
		TEST(ports_run_out),
		TEST(moves_race_with_use),
		TEST(ports_taken_are_given_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
