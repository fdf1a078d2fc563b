/* SPDX-License-Identifier: MIT */
#include "util/own_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

bool own_dir_safe(const struct stat *st)
{
	return S_ISDIR(st->st_mode) && !(st->st_mode & (S_IWGRP | S_IWOTH));
}

int own_dir_open(int at, const char *path, bool or_roots)
{
	int fd = openat(at, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) == 0 && own_dir_safe(&st) &&
	    (st.st_uid == geteuid() || (or_roots && !st.st_uid)))
		return fd;
	close(fd);
	return -EPERM;
}

int own_dir_make(int at, const char *path, mode_t mode)
{
	bool made = mkdirat(at, path, mode) == 0;
	int fd;

	if (!made && errno != EEXIST)
		return -errno;
	fd = own_dir_open(at, path, false);
	if (fd >= 0 && made && fchmod(fd, mode) < 0) {
		close(fd);
		return -EPERM;
	}
	return fd;
}
