/* SPDX-License-Identifier: MIT */
/* What run_dir.c and run_read.c share: where the directories are. */
#pragma once

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

/* The directory of this user's machines; false: there is none. */
static inline bool run_dir_user(char *path, size_t size)
{
	const char *dir = getenv("XDG_RUNTIME_DIR");

	return dir && *dir == '/' && snprintf(path, size, "%s/minivmm", dir) < (int)size;
}
