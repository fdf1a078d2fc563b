/* SPDX-License-Identifier: MIT */
/*
 * how=N resets the machine in one of the ways there are, and never returns. What a reboot must
 * undo, CMOS RAM and memory, is marked first: the next boot fails where it finds a mark.
 */
#include "guest/lib/cpu.h"
#include "guest/lib/guest.h"
#include "guest/lib/io.h"
#include "vmm/layout.h"

#define MARK 0xA5

enum how {
	HOW_CF9_WARM,
	HOW_CF9_COLD,
	HOW_ACPI, /* the value that the FADT gives */
	HOW_I8042,
	HOW_TRIPLE_FAULT,
};

static uint8_t memory_mark;

static uint8_t cmos_read(uint8_t reg)
{
	outb(LAYOUT_PORT_RTC, reg);
	return inb(LAYOUT_PORT_RTC + 1);
}

static void triple_fault(void)
{
	struct __attribute__((packed)) {
		uint16_t limit;
		uint64_t base;
	} none = {0, 0};

	__asm__ volatile("lidt %0; ud2" : : "m"(none));
}

/* As Linux does it: the reset bit rises in a second write. */
static void cf9(uint8_t code)
{
	outb(LAYOUT_PORT_RESET, (inb(LAYOUT_PORT_RESET) & ~code) | 2);
	outb(LAYOUT_PORT_RESET, code);
}

/* Drivers wait for room in the controller before they send a command: it must end. */
static void i8042(void)
{
	for (unsigned int i = 0; inb(LAYOUT_PORT_I8042_CMD) & 2; i++)
		CHECK(i < 1000);
	outb(LAYOUT_PORT_I8042_CMD, 0xFE);
}

void guest_main(void)
{
	print("boot\n");
	CHECK_EQ(memory_mark, 0);
	CHECK_EQ(cmos_read(0x40), 0);
	memory_mark = MARK;
	outb(LAYOUT_PORT_RTC + 1, MARK);
	CHECK_EQ(cmos_read(0x40), MARK);

	switch (param("how", 0)) {
	case HOW_CF9_WARM:
		cf9(0x06);
		break;
	case HOW_CF9_COLD:
		cf9(0x0E);
		break;
	case HOW_ACPI:
		outb(LAYOUT_PORT_RESET, LAYOUT_RESET_VALUE);
		break;
	case HOW_I8042:
		i8042();
		break;
	case HOW_TRIPLE_FAULT:
		triple_fault();
		break;
	}
	for (unsigned int i = 0; i < 1000000; i++)
		pause();
	fail("still here");
}
