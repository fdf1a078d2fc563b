/* SPDX-License-Identifier: MIT */
/* Opening disks: the file, its locks, its format. Other files that it needs: open_below.c. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/bio.h"
#include "block/impl.h"
#include "block/open_impl.h"
#include "block/qcow/client.h"
#include "block/snapshot.h"
#include "util/util.h"

static int log_open_error(const struct blk_options *opts, int err)
{
	const char *path = opts->path;

	if (err == ENOENT)
		log_error("disk %s: no such file (make one: minivmm disk create %s 8G)", path,
			  path);
	else if (err == EISDIR)
		log_error("disk %s: a directory (name a disk image or a block device)", path);
	else if (err == EINVAL && opts->direct)
		log_error("disk %s: its file system has no direct I/O (use direct=off)", path);
	else if (!opts->readonly && (err == EACCES || err == EPERM || err == EROFS))
		log_error("disk %s: not writable: %s (change its permissions, or use readonly)",
			  path, strerror(err));
	else if (err == EACCES)
		log_error("disk %s: not readable: %s (change its permissions)", path,
			  strerror(err));
	else
		log_error("disk %s: cannot open: %s%s", path, strerror(err), fd_remedy(err));
	return -err;
}

static int check_file_type(const struct blk_options *opts, int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return log_open_error(opts, errno);
	if (S_ISDIR(st.st_mode))
		return log_open_error(opts, EISDIR);
	if (S_ISREG(st.st_mode) || S_ISBLK(st.st_mode))
		return 0;
	log_error("disk %s: neither a file nor a block device (name a disk image)", opts->path);
	return -EINVAL;
}

int open_file(const struct blk_options *opts, int *out)
{
	int flags = opts->readonly ? O_RDONLY : O_RDWR;
	/* O_NONBLOCK: a FIFO must not make us wait; of no use afterwards. */
	int fd = open(opts->path, flags | O_CLOEXEC | O_NONBLOCK | (opts->direct ? O_DIRECT : 0));
	int r;

	if (fd < 0)
		return log_open_error(opts, errno);
	r = check_file_type(opts, fd);
	if (!r)
		r = fcntl(fd, F_SETFL, opts->direct ? O_DIRECT : 0) < 0 ? -errno : 0;
	if (!r)
		r = lock_image(fd, opts->path, opts->readonly);
	if (r < 0) {
		close(fd);
		return r;
	}
	*out = fd;
	return 0;
}

/* Refuse content that contradicts the format chosen. */
static int check_content(const struct blk_options *opts, enum blk_format format, int fd)
{
	unsigned char head[4096] __attribute__((aligned(4096)));
	ssize_t n = pread(fd, head, sizeof(head), 0);
	const char *found, *path = opts->path;

	if (n < 0) {
		log_error("disk %s: cannot read: %s", path, strerror(errno));
		return -errno;
	}
	found = probe_format(head, (size_t)n);
	if (format != BLK_FORMAT_RAW) {
		const char *wanted = format == BLK_FORMAT_QCOW ? "qcow" : "qcow2";

		if (found && !strcmp(found, wanted))
			return 0;
		log_error("disk %s: not a %s image but %s (use format=raw if its bytes are the "
			  "disk, or: qemu-img convert -O qcow2 %s new.qcow2)", path, wanted,
			  found ? found : "raw data", path);
		return -EINVAL;
	}
	if (!found || opts->format == BLK_FORMAT_RAW)
		return 0;
	if (!strcmp(found, "qcow2") || !strcmp(found, "qcow"))
		log_error("disk %s: looks like a %s image (use format=%s; or format=raw if the "
			  "guest is to see these very bytes)", path, found, found);
	else
		log_error("disk %s: looks like a %s image (first: qemu-img convert -O qcow2 %s "
			  "new.qcow2; or use format=raw if the guest is to see these very bytes)",
			  path, found, path);
	return -EINVAL;
}

enum blk_format blk_format_by_name(const char *path)
{
	return ends_with(path, ".qcow2") ? BLK_FORMAT_QCOW2 : BLK_FORMAT_RAW;
}

int blk_open(struct loop *loop, const struct blk_options *opts, struct blk **out)
{
	struct open_layer layer = {.opts = opts, .loop = loop, .path = opts->path};
	enum blk_format format = opts->format;
	bool by_libqcow;
	struct bio *bio;
	int fd = -1, r;

	r = snapshot_check_left(opts->path);
	if (r < 0)
		return r;
	if (opts->snapshot != BLK_SNAPSHOT_OFF)
		return snapshot_open(loop, opts, out);
	if (format == BLK_FORMAT_BY_NAME)
		format = blk_format_by_name(opts->path);
	if (format == BLK_FORMAT_RAW && opts->data_file)
		return open_data_unused(opts->path);
	by_libqcow = qcow_is_wanted(opts, format);
	r = by_libqcow ? qcow_check_options(opts, format) : 0;
	if (!r)
		r = open_file(opts, &fd);
	if (r < 0)
		return r;
	r = check_content(opts, format, fd);
	if (!r)
		r = open_identify(&layer, fd);
	if (!r)
		r = bio_file_create(loop, fd, opts->path, opts->direct, NULL, &bio);
	if (r < 0) {
		close(fd);
		return r;
	}
	r = by_libqcow ? qcow_open(loop, opts, fd, bio, out)
		       : open_format(&layer, format, opts->readonly, bio, out);
	if (r < 0)
		bio_destroy(bio);
	return r;
}
