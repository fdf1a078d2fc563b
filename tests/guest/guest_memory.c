/* SPDX-License-Identifier: MIT */
/*
 * low=A high=B: RAM ends at A, and at B above 4 GiB (0: none there). It keeps what is written up
 * to the last byte; behind it, and where no device is, everything reads as ones.
 */
#include "guest/lib/guest.h"
#include "guest/lib/io.h"
#include "vmm/layout.h"

static uint64_t map(uint64_t addr)
{
	if (addr >= LAYOUT_HIGH_RAM_BASE)
		map_gib(addr);
	return addr;
}

static void check_ram(uint64_t addr)
{
	map(addr);
	write64(addr, 0x0123456789ABCDEF ^ addr);
	CHECK_EQ(read64(addr), 0x0123456789ABCDEF ^ addr);
}

static void check_nothing(uint64_t addr)
{
	map(addr);
	write64(addr, 0);
	if (read64(addr) != ~0ull)
		fail("0x%lx reads 0x%lx", addr, read64(addr));
	CHECK_EQ(read32(addr), 0xFFFFFFFF);
	CHECK_EQ(read16(addr), 0xFFFF);
	CHECK_EQ(read8(addr), 0xFF);
}

void guest_main(void)
{
	uint64_t low = param("low", 0), high = param("high", 0);

	check_ram(low - 8);
	check_ram(0x9F000);
	if (low < LAYOUT_LOW_RAM_MAX) {
		check_nothing(low);
		check_nothing(LAYOUT_LOW_RAM_MAX - 8);
	}
	check_nothing(LAYOUT_PCI32_BASE + LAYOUT_PCI32_SIZE - 8);
	check_nothing(LAYOUT_ECAM_BASE + LAYOUT_ECAM_SIZE);
	check_nothing(LAYOUT_ECAM_BASE + LAYOUT_ECAM_SIZE - 8); /* no function there */
	check_nothing(0xF0000000);
	check_nothing(LAYOUT_IOAPIC_BASE - 8);
	check_nothing(LAYOUT_HIGH_RAM_BASE - 8);
	if (high) {
		check_ram(LAYOUT_HIGH_RAM_BASE);
		check_ram(high - 8);
	}
	check_nothing(high ? high : LAYOUT_HIGH_RAM_BASE);
	check_nothing(500ull << 30);
	/* ports */
	CHECK_EQ(inb(0x1234), 0xFF);
	CHECK_EQ(inw(0x1234), 0xFFFF);
	CHECK_EQ(inl(0x1234), 0xFFFFFFFF);
	outl(0x1234, 0);
	CHECK_EQ(inl(COM1 + 6), 0xFFFFFFFF); /* across the end of a range */
}
