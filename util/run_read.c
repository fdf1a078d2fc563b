/* SPDX-License-Identifier: MIT */
/*
 * The reader's side. A directory is somebody else's, and so is what lies in it: files are opened
 * without following links or waiting, read once into memory of our own (never mapped: who cuts a
 * mapped file short ends whoever has it mapped), and checked.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include "util/own_dir.h"
#include "util/run_dir.h"
#include "util/run_dir_impl.h"
#include "util/util.h"

/* Of one directory; more are not looked at. */
#define FILES_MAX 4096

/* PID-START, as run_dir.c names them. */
static bool is_entry(const char *name)
{
	size_t pid = strspn(name, "0123456789");
	size_t start = name[pid] == '-' ? strspn(name + pid + 1, "0123456789") : 0;

	return pid && start && !name[pid + 1 + start];
}

/* Is there a machine that holds its lock? Readers' locks do not count: anybody can take one. */
static bool is_running(int fd)
{
	struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET};

	return fcntl(fd, F_OFD_GETLK, &lock) < 0 || lock.l_type != F_UNLCK;
}

/* 0 or -errno. */
static int read_entry(int fd, struct run_found *out)
{
	char text[RUN_TEXT_BYTES];
	int r = pread_full(fd, text, sizeof(text), 0);

	if (!r)
		r = run_entry_parse(text, sizeof(text), &out->entry);
	if (!r)
		r = pread_full(fd, out->live, out->entry.nic_count * sizeof(out->live[0]),
			       RUN_TEXT_BYTES);
	return r;
}

/* Its name was never given before, and is not given again: they are this machine's. */
static void remove_stale(int dir, const char *name)
{
	char socket_name[NAME_MAX + 8];

	run_socket_name(name, socket_name, sizeof(socket_name));
	unlinkat(dir, socket_name, 0);
	unlinkat(dir, name, 0);
}

/* `owner` is the directory's. */
static void read_file(struct run_reader *reader, int dir, const char *name, uid_t owner,
		      struct run_found *found)
{
	int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	struct stat st;

	if (fd < 0) {
		reader->unreadable += errno != ENOENT; /* just ended */
		return;
	}
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_uid != owner) {
		reader->unreadable++;
	} else if (!is_running(fd)) {
		remove_stale(dir, name);
	} else if (read_entry(fd, found) < 0) {
		reader->unreadable++;
	} else {
		found->uid = owner;
		found->dir = dir;
		found->file = name;
		reader->found(reader, found);
	}
	close(fd);
}

static void read_files(struct run_reader *reader, DIR *dir, uid_t owner, struct run_found *found)
{
	struct dirent *item;

	for (unsigned int i = 0; i < FILES_MAX && (item = readdir(dir)); i++)
		if (is_entry(item->d_name))
			read_file(reader, dirfd(dir), item->d_name, owner, found);
}

/* Root's and our own; and root looks at everybody's. */
static bool may_read(const struct stat *st)
{
	return own_dir_safe(st) && (!st->st_uid || st->st_uid == geteuid() || !geteuid());
}

int run_read_in(struct run_reader *reader, const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct run_found *found;
	struct stat st;
	DIR *dir;

	if (fd < 0)
		return 0;
	if (fstat(fd, &st) < 0 || !may_read(&st)) {
		close(fd);
		return 0;
	}
	dir = fdopendir(fd);
	found = malloc(sizeof(*found));
	if (dir && found)
		read_files(reader, dir, st.st_uid, found);
	free(found);
	if (!dir) {
		close(fd);
		return -ENOMEM;
	}
	closedir(dir);
	return found ? 0 : -ENOMEM;
}

/* unix(7) waits in connect, too, where too many wait for the other to accept them. */
static bool set_patience(int fd, unsigned int seconds)
{
	const struct timeval patience = {.tv_sec = seconds};

	return setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) == 0 &&
	       setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) == 0;
}

int run_connect(const struct run_found *found, unsigned int seconds)
{
	struct sockaddr_un address = run_socket_address(found->dir, found->file);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), r;

	if (fd < 0)
		return -errno;
	if (set_patience(fd, seconds) &&
	    connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
		return fd;
	r = -errno;
	close(fd);
	return r;
}

/* Where $XDG_RUNTIME_DIR is for all whom systemd or elogind logged in. */
static int read_users(struct run_reader *reader)
{
	DIR *users = opendir("/run/user");
	struct dirent *item;
	char path[PATH_MAX];
	int r = 0;

	while (!r && users && (item = readdir(users))) {
		if (item->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/run/user/%s/minivmm", item->d_name);
		r = run_read_in(reader, path);
	}
	if (users)
		closedir(users);
	return r;
}

int run_read(struct run_reader *reader)
{
	char path[PATH_MAX];
	int r = run_read_in(reader, RUN_DIR_ROOT);

	if (!r && geteuid() == 0)
		r = read_users(reader);
	else if (!r && run_dir_user(path, sizeof(path)))
		r = run_read_in(reader, path);
	return r;
}
