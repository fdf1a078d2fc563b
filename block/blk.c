/* SPDX-License-Identifier: MIT */
/* Opening disks: the file, its locks, its format; and what all formats have in common. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/bio.h"
#include "block/impl.h"
#include "block/qcow2.h"
#include "util/util.h"

#define SECTOR 512

/* --- base --- */

int blk_init(struct blk *blk, const struct blk_ops *ops, struct bio *bio, const char *name)
{
	blk->name = strdup(name);
	if (!blk->name)
		return -ENOMEM;
	blk->ops = ops;
	blk->bio = bio;
	return 0;
}

void blk_finish(struct blk *blk)
{
	bio_destroy(blk->bio);
	free(blk->name);
}

/* --- opening --- */

static bool ends_with(const char *text, const char *suffix)
{
	size_t n = strlen(text), m = strlen(suffix);

	return n >= m && !strcmp(text + n - m, suffix);
}

static int log_open_error(const struct blk_options *opts, int err)
{
	const char *path = opts->path;

	if (err == ENOENT)
		log_error("disk %s: no such file (make one: qemu-img create -f qcow2 %s 8G)", path,
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

static int open_file(const struct blk_options *opts, int *out)
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
	if (format == BLK_FORMAT_QCOW2) {
		if (found && !strcmp(found, "qcow2"))
			return 0;
		log_error("disk %s: not a qcow2 image but %s (use format=raw if its bytes are the "
			  "disk, or: qemu-img convert -O qcow2 %s new.qcow2)", path,
			  found ? found : "raw data", path);
		return -EINVAL;
	}
	if (!found || opts->format == BLK_FORMAT_RAW)
		return 0;
	if (!strcmp(found, "qcow2"))
		log_error("disk %s: looks like a qcow2 image (use format=qcow2; or format=raw if "
			  "the guest is to see these very bytes)", path);
	else
		log_error("disk %s: looks like a %s image (first: qemu-img convert -O qcow2 %s "
			  "new.qcow2; or use format=raw if the guest is to see these very bytes)",
			  path, found, path);
	return -EINVAL;
}

int blk_open(struct loop *loop, const struct blk_options *opts, struct blk **out)
{
	struct qcow2_options qcow2 = {
		.name = opts->path, .readonly = opts->readonly, .loop = loop};
	enum blk_format format = opts->format;
	struct bio *bio;
	int fd = -1, r;

	if (format == BLK_FORMAT_BY_NAME)
		format = ends_with(opts->path, ".qcow2") ? BLK_FORMAT_QCOW2 : BLK_FORMAT_RAW;
	r = open_file(opts, &fd);
	if (r < 0)
		return r;
	r = check_content(opts, format, fd);
	if (!r)
		r = bio_file_create(loop, fd, opts->path, opts->direct, &bio);
	if (r < 0) {
		close(fd);
		return r;
	}
	if (format == BLK_FORMAT_QCOW2)
		r = qcow2_create(bio, &qcow2, out);
	else
		r = raw_create(bio, opts->path, opts->readonly, out);
	if (r < 0)
		bio_destroy(bio);
	return r;
}

int blk_close(struct blk *blk)
{
	return blk ? blk->ops->flush_and_free(blk) : 0;
}

const struct blk_info *blk_info(const struct blk *blk)
{
	return &blk->info;
}

/* --- requests --- */

/* In blk_req.priv, for a request that is answered here. */
struct early {
	struct loop_op op;
	int err;
};

static void early_done(struct loop_op *op, int res)
{
	struct early *early = CONTAINER_OF(op, struct early, op);
	struct blk_req *req = CONTAINER_OF((void *)early, struct blk_req, priv);

	req->done(req, early->err);
}

static void answer(struct blk *blk, struct blk_req *req, int err)
{
	struct early *early = (struct early *)&req->priv;

	early->op.done = early_done;
	early->err = err;
	blk->bio->ops->defer(blk->bio, &early->op);
}

static int check_req(const struct blk *blk, const struct blk_req *req)
{
	if (req->op != BLK_READ && blk->info.readonly)
		return req->op == BLK_FLUSH ? 0 : -EROFS;
	if (req->op == BLK_FLUSH)
		return 0;
	if ((req->offset_bytes | req->len_bytes) % SECTOR ||
	    !range_fits(req->offset_bytes, req->len_bytes, blk->info.size_bytes))
		return -EINVAL;
	return 0;
}

void blk_submit(struct blk *blk, struct blk_req *req)
{
	int r = check_req(blk, req);
	bool nothing = req->op == BLK_FLUSH ? blk->info.readonly : !req->len_bytes;

	if (r < 0 || nothing)
		answer(blk, req, r);
	else
		blk->ops->submit(blk, req);
}

struct sync_read {
	struct blk_req req;
	int err;
};

static void sync_read_done(struct blk_req *req, int err)
{
	CONTAINER_OF(req, struct sync_read, req)->err = err;
}

static int read_sectors(struct blk *blk, void *buf, uint64_t len, uint64_t offset)
{
	struct iovec iov = {buf, len};
	struct sync_read read = {
		.req = {.op = BLK_READ, .offset_bytes = offset, .len_bytes = len, .iov = &iov,
			.iovcnt = 1, .done = sync_read_done},
		.err = -EIO,
	};

	blk->bio->ops->begin_sync(blk->bio);
	blk_submit(blk, &read.req);
	blk->bio->ops->run_sync(blk->bio);
	return read.err;
}

int blk_read_sync(struct blk *blk, void *buf, uint64_t len, uint64_t offset)
{
	uint64_t start = align_down(offset, SECTOR), end;
	void *sectors;
	int r;

	if (!range_fits(offset, len, blk->info.size_bytes))
		return -EINVAL;
	end = align_up(offset + len, SECTOR);
	if (start == offset && end == offset + len)
		return read_sectors(blk, buf, len, offset);
	sectors = malloc(end - start);
	if (!sectors)
		return -ENOMEM;
	r = read_sectors(blk, sectors, end - start, start);
	if (!r)
		memcpy(buf, (char *)sectors + (offset - start), len);
	free(sectors);
	return r;
}
