/* SPDX-License-Identifier: MIT */
#include "cmd/command.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "util/log.h"

int command_flush(void)
{
	int r = fflush(stdout), err = errno;

	if (r == 0 && !ferror(stdout))
		return 0;
	log_error("standard output cannot be written: %s", strerror(r < 0 ? err : EIO));
	return -EIO;
}
