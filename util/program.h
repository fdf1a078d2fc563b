/* SPDX-License-Identifier: MIT */
/* Programs that belong to this one, as `minivmm-disk` does to `minivmm`; and it to them. */
#pragma once

#include <stddef.h>
#include <sys/types.h>

/*
 * The path of program `name`: beside the file that this process runs, as in the build folder,
 * or else where they are installed. 0, -ENOENT or -ENAMETOOLONG; does not log.
 */
int program_find(const char *name, char *path, size_t path_len);

#define PROGRAM_FDS_MAX 4

struct program_start {
	const char *path; /* looked for in PATH if it has no slash */
	char *const *argv, *const *envp;
	/* What it has open from `first_fd` on; below that it has /dev/null, and nothing else. */
	unsigned int first_fd, fd_count;
	int fds[PROGRAM_FDS_MAX];
};

/* In a session of its own, with no signal blocked or ignored. The fds stay the caller's. 0 or
 * -errno; does not log. */
int program_spawn(const struct program_start *start, pid_t *out);
