/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdint.h>

/* SIM_BYTES_MAX bytes of zeroes, which cost memory where they are written to. */
unsigned char *sim_bytes_take(void);
/* The first `used` of them may be something else now. */
void sim_bytes_leave(unsigned char *bytes, uint64_t used);
