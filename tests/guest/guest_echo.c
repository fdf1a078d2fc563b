/* SPDX-License-Identifier: MIT */
/* Says "ready"; then sends back each line it gets, until it gets "end". */
#include "tests/guest/lib/guest.h"
#include "tests/guest/lib/io.h"

void guest_main(void)
{
	char line[256];

	become_user();
	outb(COM1 + 2, 0x01); /* FIFO on */
	print("ready\n");
	for (;;) {
		size_t len = 0;
		int c;

		while ((c = serial_getc()) != '\n') {
			CHECK(len < sizeof(line) - 1);
			line[len++] = (char)c;
		}
		line[len] = '\0';
		if (memcmp(line, "end", 4) == 0)
			return;
		print("%s\n", line);
	}
}
