/* SPDX-License-Identifier: MIT */
/*
 * Image locks as QEMU takes them (open file description locks on single bytes; nothing is
 * stored there). Byte 100 + P: "I use permission P"; byte 200 + P: "nobody else may". Everybody
 * takes shared locks on his bytes, then looks whether anyone holds an opposite one.
 *
 *                uses                          denies others
 *   reader       consistent read               write, resize
 *   writer       consistent read, write,       write, resize
 *                resize
 *
 * A process that was killed keeps its locks until the kernel has put its io_uring away, some
 * 30 ms, and of two that come at once both may see the other's: so busy is tried again.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>

#include "block/impl.h"
#include "util/util.h"

#define USE_BASE 100
#define DENY_BASE 200
#define RETRY_MS 20
#define RETRIES 10

enum perm {
	PERM_CONSISTENT_READ = 0,
	PERM_WRITE = 1,
	PERM_RESIZE = 3,
};

static int lock_byte(int fd, int cmd, short type, off_t byte, struct flock *fl)
{
	*fl = (struct flock){.l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
	return fcntl(fd, cmd, fl) < 0 ? -errno : 0;
}

/* True if another open file holds a lock on `byte`. */
static bool byte_taken(int fd, off_t byte)
{
	struct flock fl;

	return !lock_byte(fd, F_OFD_GETLK, F_WRLCK, byte, &fl) && fl.l_type != F_UNLCK;
}

static int take(int fd, off_t base, const enum perm *perms, size_t count)
{
	struct flock fl;
	int r = 0;

	for (size_t i = 0; i < count && !r; i++)
		r = lock_byte(fd, F_OFD_SETLK, F_RDLCK, base + perms[i], &fl);
	return r;
}

static bool any_taken(int fd, off_t base, const enum perm *perms, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (byte_taken(fd, base + perms[i]))
			return true;
	}
	return false;
}

/* 0, -EAGAIN: in use, or what else fcntl says. */
static int try_lock(int fd, bool readonly)
{
	static const enum perm uses[] = {PERM_CONSISTENT_READ, PERM_WRITE, PERM_RESIZE};
	static const enum perm denies[] = {PERM_WRITE, PERM_RESIZE};
	size_t used = readonly ? 1 : ARRAY_LEN(uses);
	int r;

	r = take(fd, USE_BASE, uses, used);
	if (!r)
		r = take(fd, DENY_BASE, denies, ARRAY_LEN(denies));
	/* Somebody takes exclusive locks: not QEMU's habit, but in use all the same. */
	if (r == -EACCES)
		return -EAGAIN;
	if (!r && (any_taken(fd, DENY_BASE, uses, used) ||
		   any_taken(fd, USE_BASE, denies, ARRAY_LEN(denies))))
		return -EAGAIN;
	return r;
}

int lock_image(int fd, const char *name, bool readonly)
{
	static const struct timespec pause = {.tv_nsec = RETRY_MS * 1000000};
	int r = try_lock(fd, readonly);

	for (unsigned int i = 0; r == -EAGAIN && i < RETRIES; i++) {
		unlock_image(fd);
		nanosleep(&pause, NULL);
		r = try_lock(fd, readonly);
	}
	if (r == -EAGAIN) {
		log_error("disk %s: in use already, by another process or another --disk (several "
			  "may share a disk only if all open it readonly)", name);
		return r;
	}
	if (r < 0)
		log_warn("disk %s: cannot be locked here (%s): make sure that nothing else uses it",
			 name, strerror(-r));
	return 0;
}

void unlock_image(int fd)
{
	struct flock fl = {.l_type = F_UNLCK, .l_whence = SEEK_SET};

	fcntl(fd, F_OFD_SETLK, &fl);
}
