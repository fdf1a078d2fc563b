/* SPDX-License-Identifier: MIT */
#include "util/program.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int try_path(const char *dir, int dir_len, const char *name, char *path, size_t path_len)
{
	int n = snprintf(path, path_len, "%.*s/%s", dir_len, dir, name);

	if (n < 0 || (size_t)n >= path_len)
		return -ENAMETOOLONG;
	return access(path, X_OK) < 0 ? -ENOENT : 0;
}

int program_find(const char *name, char *path, size_t path_len)
{
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash;

	if (n > 0) {
		self[n] = 0;
		slash = strrchr(self, '/');
		if (slash && !try_path(self, (int)(slash - self), name, path, path_len))
			return 0;
	}
	return try_path(LIBEXECDIR, (int)strlen(LIBEXECDIR), name, path, path_len);
}
