/* SPDX-License-Identifier: MIT */
/*
 * Only root can put anything below /run/minivmm. That is seen to rather than believed: no link is
 * followed, folders and files must be root's (ours, in a user namespace) and of their kind, and
 * what is read has a limit. The one file that another user may write to is dnsmasq's pid.
 */
#include "net/bridge/run.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "net/link.h"
#include "util/log.h"
#include "util/own_dir.h"
#include "util/util.h"

#define PREFIX "bridge-"
/* "bridge-", a name of 15 bytes, and the NUL. */
#define FOLDER_BYTES 24
#define FOLDER_MODE 0755
/* A command takes much less; one that was stopped takes for ever. */
#define LOCK_TRIES 200
#define LOCK_WAIT_US 50000

/* Everything that `bridge up` and dnsmasq put into a folder. */
static const char *const files[] = {"state", "state.new", "pid", "leases"};

static void folder_name(const char *name, char out[FOLDER_BYTES])
{
	snprintf(out, FOLDER_BYTES, PREFIX "%.15s", name);
}

void bridge_run_path(const char *name, const char *file, char path[BRIDGE_PATH_BYTES])
{
	snprintf(path, BRIDGE_PATH_BYTES, BRIDGE_RUN_DIR "/" PREFIX "%.15s/%.15s", name, file);
}

/* --- opening --- */

static bool is_ours(const struct stat *st)
{
	return S_ISREG(st->st_mode) && st->st_uid == geteuid() &&
	       !(st->st_mode & (S_IWGRP | S_IWOTH));
}

static int say(const char *path, int r)
{
	if (r == -EPERM || r == -ENOTDIR || r == -ELOOP)
		log_error("%s: not to be trusted, being a link or another's, or for others to "
			  "write to (look what it is, and remove it)", path);
	else
		log_error("%s: %s%s", path, strerror(-r), r == -EACCES ? " (run as root)" : "");
	return r;
}

static int lock(int dir, int *out)
{
	int fd = openat(dir, "bridge.lock", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);

	if (fd < 0)
		return say(BRIDGE_RUN_DIR "/bridge.lock", -errno);
	for (unsigned int i = 0; flock(fd, LOCK_EX | LOCK_NB) < 0; i++) {
		if (errno != EWOULDBLOCK || i == LOCK_TRIES) {
			log_error(BRIDGE_RUN_DIR "/bridge.lock: another minivmm bridge is at work "
				  "(wait for it, or end it)");
			close(fd);
			return -EBUSY;
		}
		usleep(LOCK_WAIT_US);
	}
	*out = fd;
	return 0;
}

int bridge_run_open(struct bridge_run *run, bool change)
{
	struct stat st;
	int r = change ? own_dir_make(AT_FDCWD, BRIDGE_RUN_DIR, FOLDER_MODE) :
			 own_dir_open(AT_FDCWD, BRIDGE_RUN_DIR, true);

	if (r == -ENOENT && !change)
		return r;
	if (r < 0)
		return say(BRIDGE_RUN_DIR, r);
	run->dir = r;
	run->lock = -1;
	/* 0, no inode, where the kernel has no network namespaces. */
	run->netns = stat("/proc/self/ns/net", &st) < 0 ? 0 : st.st_ino;
	r = change ? lock(run->dir, &run->lock) : 0;
	if (r)
		close(run->dir);
	return r;
}

void bridge_run_close(struct bridge_run *run)
{
	if (run->lock >= 0)
		close(run->lock);
	close(run->dir);
}

/* --- files --- */

/* A short file of the folder; `any_owner`: not only root's. The length or -errno. */
static ssize_t read_file(const struct bridge_run *run, const char *name, const char *file,
			 bool any_owner, char *buf, size_t size)
{
	char folder[FOLDER_BYTES];
	struct stat st;
	ssize_t len;
	int dir, fd;

	folder_name(name, folder);
	dir = own_dir_open(run->dir, folder, run->lock < 0);
	if (dir < 0)
		return dir;
	fd = openat(dir, file, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	len = fd < 0 ? -errno : 0;
	close(dir);
	if (fd < 0)
		return len;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) ||
	    (!any_owner && !is_ours(&st) && (run->lock >= 0 || st.st_uid)))
		len = -EPERM;
	else if ((len = read(fd, buf, size)) < 0)
		len = -errno;
	close(fd);
	return len;
}

int bridge_run_load(const struct bridge_run *run, const char *name, struct bridge_state *out)
{
	char text[BRIDGE_STATE_BYTES + 1], path[BRIDGE_PATH_BYTES];
	ssize_t len = read_file(run, name, "state", false, text, sizeof(text));
	int r = len < 0 ? (int)len : bridge_state_parse(text, (size_t)len, out);

	if (!r || r == -ENOENT)
		return r;
	bridge_run_path(name, "state", path);
	if (r != -EINVAL)
		return say(path, r);
	log_error("%s: not what minivmm bridge up wrote (if nobody needs it, remove the folder it "
		  "is in)", path);
	return r;
}

static int write_state(int dir, const struct bridge_state *state)
{
	char text[BRIDGE_STATE_BYTES];
	size_t len = bridge_state_format(state, text);
	int fd, r;

	if (unlinkat(dir, "state.new", 0) < 0 && errno != ENOENT)
		return -errno;
	fd = openat(dir, "state.new", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (fd < 0)
		return -errno;
	r = pwrite_full(fd, text, len, 0);
	if (!r && fchmod(fd, 0644) < 0)
		r = -errno;
	close(fd);
	if (!r && renameat(dir, "state.new", dir, "state") < 0)
		r = -errno;
	return r;
}

int bridge_run_save(const struct bridge_run *run, const char *name,
		    const struct bridge_state *state)
{
	char folder[FOLDER_BYTES], path[BRIDGE_PATH_BYTES];
	int dir, r;

	folder_name(name, folder);
	dir = own_dir_make(run->dir, folder, FOLDER_MODE);
	bridge_run_path(name, "", path);
	if (dir < 0)
		return say(path, dir);
	r = write_state(dir, state);
	close(dir);
	return r ? say(path, r) : 0;
}

int bridge_run_remove(const struct bridge_run *run, const char *name)
{
	char folder[FOLDER_BYTES], path[BRIDGE_PATH_BYTES];
	int dir;

	folder_name(name, folder);
	bridge_run_path(name, "", path);
	dir = own_dir_open(run->dir, folder, false);
	if (dir < 0)
		return say(path, dir);
	for (unsigned int i = 0; i < ARRAY_LEN(files); i++)
		unlinkat(dir, files[i], 0);
	close(dir);
	return unlinkat(run->dir, folder, AT_REMOVEDIR) < 0 ? say(path, -errno) : 0;
}

static int is_folder(const struct dirent *item)
{
	return !strncmp(item->d_name, PREFIX, strlen(PREFIX)) &&
	       link_name_valid(item->d_name + strlen(PREFIX));
}

int bridge_run_each(const struct bridge_run *run,
		    void (*found)(const char *name, const struct bridge_state *state, void *arg),
		    void *arg)
{
	struct dirent **items;
	int count = scandirat(run->dir, ".", &items, is_folder, alphasort);
	struct bridge_state state;

	if (count < 0)
		return say(BRIDGE_RUN_DIR, -errno);
	for (int i = 0; i < count; i++) {
		const char *name = items[i]->d_name + strlen(PREFIX);

		if (bridge_run_load(run, name, &state) == 0 && state.netns == run->netns)
			found(name, &state, arg);
		free(items[i]);
	}
	free(items);
	return 0;
}

int bridge_run_read_pid(const struct bridge_run *run, const char *name)
{
	char text[16];
	ssize_t len = read_file(run, name, "pid", true, text, sizeof(text) - 1);
	uint64_t pid;

	if (len <= 0)
		return 0;
	text[len] = 0;
	text[strcspn(text, "\n")] = 0;
	return parse_uint(text, 1, INT_MAX, &pid) < 0 ? 0 : (int)pid;
}
