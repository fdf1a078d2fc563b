/* SPDX-License-Identifier: MIT */
#include "util/program.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
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
	if (!try_path(LIBEXECDIR, (int)strlen(LIBEXECDIR), name, path, path_len))
		return 0;
	return try_path(BINDIR, (int)strlen(BINDIR), name, path, path_len);
}

/* --- starting one --- */

/* Copies that are none of the child's numbers, so that none is overwritten before it is moved. */
static int raise_fds(const struct program_start *start, int *high)
{
	for (unsigned int i = 0; i < start->fd_count; i++) {
		high[i] = fcntl(start->fds[i], F_DUPFD_CLOEXEC,
				(int)(start->first_fd + start->fd_count));
		if (high[i] < 0)
			return -errno;
	}
	return 0;
}

static int add_files(posix_spawn_file_actions_t *actions, const struct program_start *start,
		     const int *high)
{
	int first = (int)start->first_fd, end = first + (int)start->fd_count, r = 0;

	for (int fd = 0; fd < first && !r; fd++)
		r = posix_spawn_file_actions_addopen(actions, fd, "/dev/null", O_RDWR, 0);
	for (int fd = first; fd < end && !r; fd++)
		r = posix_spawn_file_actions_adddup2(actions, high[fd - first], fd);
	return r ? r : posix_spawn_file_actions_addclosefrom_np(actions, end);
}

static int set_signals(posix_spawnattr_t *attr)
{
	sigset_t none, all;
	int r;

	sigemptyset(&none);
	sigfillset(&all);
	r = posix_spawnattr_setsigmask(attr, &none);
	if (!r)
		r = posix_spawnattr_setsigdefault(attr, &all);
	return r ? r : posix_spawnattr_setflags(attr, POSIX_SPAWN_SETSIGMASK |
						POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSID);
}

static int spawn(const struct program_start *start, const int *high, pid_t *out)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	int r = posix_spawn_file_actions_init(&actions);

	if (r)
		return r;
	r = posix_spawnattr_init(&attr);
	if (r)
		goto out_actions;
	r = add_files(&actions, start, high);
	if (!r)
		r = set_signals(&attr);
	if (!r)
		r = posix_spawnp(out, start->path, &actions, &attr, start->argv, start->envp);
	posix_spawnattr_destroy(&attr);
out_actions:
	posix_spawn_file_actions_destroy(&actions);
	return r;
}

int program_spawn(const struct program_start *start, pid_t *out)
{
	int high[PROGRAM_FDS_MAX] = {-1, -1, -1, -1}, r;

	r = raise_fds(start, high);
	if (!r)
		r = -spawn(start, high, out);
	for (unsigned int i = 0; i < start->fd_count; i++)
		if (high[i] >= 0)
			close(high[i]);
	return r;
}
