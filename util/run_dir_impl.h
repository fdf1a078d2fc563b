/* SPDX-License-Identifier: MIT */
/* What run_dir.c and run_read.c share: where the directories are, and what lies there. */
#pragma once

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>

/* The directory of this user's machines; false: there is none. */
static inline bool run_dir_user(char *path, size_t size)
{
	const char *dir = getenv("XDG_RUNTIME_DIR");

	return dir && *dir == '/' && snprintf(path, size, "%s/minivmm", dir) < (int)size;
}

/* The name of the socket beside entry `entry`. */
static inline void run_socket_name(const char *entry, char *name, size_t size)
{
	snprintf(name, size, "%s.socket", entry);
}

/* The same as an address, by way of the directory's file: paths may be too long for one. */
static inline struct sockaddr_un run_socket_address(int dir, const char *entry)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/%s.socket", dir,
		 entry);
	return address;
}
