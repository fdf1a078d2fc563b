/* SPDX-License-Identifier: MIT */
/*
 * Says "ready", waits for the power button as ACPI shows it, and powers off; with `reboot` it
 * resets the machine instead.
 */
#include "guest/lib/cpu.h"
#include "guest/lib/guest.h"
#include "guest/lib/io.h"
#include "vmm/layout.h"

#define PWRBTN 0x0100

void guest_main(void)
{
	become_user();
	CHECK_EQ(inw(LAYOUT_PORT_PM1_CNT) & 1, 1); /* SCI_EN */
	outw(LAYOUT_PORT_PM1_EVT + 2, PWRBTN);
	CHECK_EQ(inw(LAYOUT_PORT_PM1_EVT), 0);
	print("ready\n");
	while (!(inw(LAYOUT_PORT_PM1_EVT) & PWRBTN))
		pause();
	outw(LAYOUT_PORT_PM1_EVT, PWRBTN);
	CHECK_EQ(inw(LAYOUT_PORT_PM1_EVT), 0);
	if (flag("reboot")) {
		outb(LAYOUT_PORT_RESET, LAYOUT_RESET_VALUE);
		for (;;)
			pause();
	}
}
