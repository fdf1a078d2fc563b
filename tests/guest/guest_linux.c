/* SPDX-License-Identifier: MIT */
/* Passes for Linux: minivmm must not start it where stock Linux would hang. */
#include "guest/lib/guest.h"

__attribute__((used)) static const char banner[] = "Linux version 0.0.0-not-really";

void guest_main(void)
{
	print("hello\n");
}
