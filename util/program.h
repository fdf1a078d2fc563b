/* SPDX-License-Identifier: MIT */
/* Programs that belong to this one, as `minivmm-disk` does to `minivmm`. */
#pragma once

#include <stddef.h>

/*
 * The path of program `name`: beside the file that this process runs, as in the build folder,
 * or else where they are installed. 0, -ENOENT or -ENAMETOOLONG; does not log.
 */
int program_find(const char *name, char *path, size_t path_len);
