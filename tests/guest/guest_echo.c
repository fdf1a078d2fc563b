/* SPDX-License-Identifier: MIT */
/*
 * Says "ready"; then sends back each line it gets, until it gets "end". "reboot" resets the
 * machine, "reboot later" does so after a second or so, having said "later".
 */
#include "guest/lib/cpu.h"
#include "guest/lib/guest.h"
#include "guest/lib/io.h"
#include "vmm/layout.h"

static void reboot(bool later)
{
	uint64_t start = rdtsc();

	if (later) {
		print("later\n");
		while (rdtsc() - start < 3000000000ull)
			pause();
	}
	outb(LAYOUT_PORT_RESET, LAYOUT_RESET_VALUE);
	for (;;)
		pause();
}

void guest_main(void)
{
	char line[256];

	become_user();
	outb(COM1 + 2, 0x01); /* FIFO on */
	print("ready\n");
	for (;;) {
		serial_gets(line, sizeof(line));
		if (memcmp(line, "end", 4) == 0)
			return;
		if (memcmp(line, "reboot", 7) == 0 || memcmp(line, "reboot later", 13) == 0)
			reboot(line[6]);
		print("%s\n", line);
	}
}
