/* SPDX-License-Identifier: MIT */
/* What the programs behind `minivmm WORD` have in common. */
#pragma once

enum command_exit {
	COMMAND_OK = 0,
	COMMAND_FAILED = 1,
	COMMAND_USAGE = 2,
};

/* All that was printed is out: 0, or -EIO; logs. */
int command_flush(void);
