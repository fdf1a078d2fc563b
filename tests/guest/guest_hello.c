/* SPDX-License-Identifier: MIT */
/* The shortest way from the entry to the serial port; and the command line arrives. */
#include "guest/lib/guest.h"

void guest_main(void)
{
	print("hello\n");
	if (flag("answer"))
		CHECK_EQ(param("answer", 0), 42);
}
