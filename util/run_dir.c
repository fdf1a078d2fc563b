/* SPDX-License-Identifier: MIT */
/* The machine's side: its own entry. run_read.c is the other. */
#include "util/run_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/log.h"
#include "util/own_dir.h"
#include "util/run_dir_impl.h"
#include "util/util.h"

struct run {
	int dir, fd; /* closing fd gives up the lock */
	char name[48];
	uint8_t *map;
	size_t map_bytes;
};

/* --- this process --- */

/* Field 22 of /proc/self/stat; the second, the program's name, may hold anything. */
static int read_start(uint64_t *out)
{
	unsigned long long start;
	char buf[1024], *at;
	int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = read(fd, buf, sizeof(buf) - 1);
	close(fd);
	buf[MAX(n, 0)] = 0;
	at = strrchr(buf, ')');
	if (!at || sscanf(at, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d "
			  "%*d %*d %*d %llu", &start) != 1)
		return -EINVAL;
	*out = start;
	return 0;
}

static int say_who(struct run_entry *entry)
{
	struct stat st;

	entry->pid = (uint32_t)getpid();
	/* 0, no inode, where the kernel has no network namespaces. */
	entry->netns = stat("/proc/self/ns/net", &st) < 0 ? 0 : st.st_ino;
	return read_start(&entry->start);
}

static int lock(int fd)
{
	/* Of the open file, not of the process: also a reader in a thread of ours sees it. */
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

	return fcntl(fd, F_OFD_SETLK, &lock) < 0 ? -errno : 0;
}

/* --- the file --- */

static int fill(int fd, const struct run_entry *entry, size_t bytes)
{
	char text[RUN_TEXT_BYTES] = "";
	struct rlimit limit;
	int r = run_entry_format(entry, text, sizeof(text));

	if (r < 0)
		return r;
	/* The kernel would kill us for it. */
	if (getrlimit(RLIMIT_FSIZE, &limit) < 0 || limit.rlim_cur < bytes)
		return -EFBIG;
	/* Allocated now: a full file system must not end the machine when it counts. */
	if (fallocate(fd, 0, 0, (off_t)bytes) < 0)
		return -errno;
	return pwrite_full(fd, text, sizeof(text), 0);
}

static int give_name(struct run *run, const struct run_entry *entry)
{
	char proc[32];

	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", run->fd);
	snprintf(run->name, sizeof(run->name), "%u-%llu", entry->pid,
		 (unsigned long long)entry->start);
	return linkat(AT_FDCWD, proc, run->dir, run->name, AT_SYMLINK_FOLLOW) < 0 ? -errno : 0;
}

static int make_file(struct run *run, const struct run_entry *entry)
{
	size_t bytes = RUN_TEXT_BYTES + entry->nic_count * sizeof(struct run_nic_live);
	void *map;
	int r;

	run->fd = openat(run->dir, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (run->fd < 0)
		return -errno;
	r = fill(run->fd, entry, bytes);
	if (!r)
		r = lock(run->fd);
	if (r)
		return r;
	map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, run->fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	run->map = map;
	run->map_bytes = bytes;
	if (geteuid() == 0 && fchmod(run->fd, 0644) < 0)
		return -errno;
	return give_name(run, entry);
}

static void finish(struct run *run)
{
	if (run->map)
		munmap(run->map, run->map_bytes);
	if (run->fd >= 0)
		close(run->fd);
	if (run->dir >= 0)
		close(run->dir);
	free(run);
}

int run_publish_in(const char *path, struct run_entry *entry, struct run **out)
{
	struct run *run = calloc(1, sizeof(*run));
	int r;

	if (!run)
		return -ENOMEM;
	run->fd = -1;
	run->dir = r = own_dir_make(AT_FDCWD, path, geteuid() ? 0700 : 0755);
	if (r >= 0)
		r = say_who(entry);
	if (!r)
		r = make_file(run, entry);
	if (r) {
		log_debug("%s: this machine is not listed there: %s", path, strerror(-r));
		finish(run);
		return r;
	}
	*out = run;
	return 0;
}

int run_publish(struct run_entry *entry, struct run **out)
{
	char path[PATH_MAX];
	int r = -ENOENT;

	if (geteuid() == 0)
		r = run_publish_in(RUN_DIR_ROOT, entry, out);
	/* Also as root, who may be one of a user namespace, without a right to the real one's. */
	if (!r)
		return 0;
	if (run_dir_user(path, sizeof(path)))
		return run_publish_in(path, entry, out);
	log_debug("XDG_RUNTIME_DIR is not set: this machine is not listed there");
	return r;
}

struct run_nic_live *run_live(struct run *run, unsigned int index)
{
	return (struct run_nic_live *)(run->map + RUN_TEXT_BYTES) + index;
}

int run_listen(struct run *run)
{
	struct sockaddr_un address = run_socket_address(run->dir, run->name);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), r;

	if (fd < 0)
		return -errno;
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0 && listen(fd, 8) == 0)
		return fd;
	r = -errno;
	close(fd);
	return r;
}

void run_withdraw(struct run *run)
{
	char name[64];

	if (!run)
		return;
	run_socket_name(run->name, name, sizeof(name));
	unlinkat(run->dir, name, 0);
	unlinkat(run->dir, run->name, 0);
	finish(run);
}
