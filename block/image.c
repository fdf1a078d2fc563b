/* SPDX-License-Identifier: MIT */
#include "block/image.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/impl.h"
#include "util/log.h"
#include "util/util.h"

#define HEAD_MAX MIB(2) /* the largest cluster */

int image_read(const struct image *img, void *buf, uint64_t len, uint64_t offset)
{
	uint64_t there = offset < img->file_bytes ? MIN(len, img->file_bytes - offset) : 0;
	int r = there ? pread_full(img->fd, buf, there, offset) : 0;

	memset((char *)buf + there, 0, len - there);
	return r == -ENODATA ? -EIO : r; /* it shrinks while we look */
}

uint64_t image_next_data(const struct image *img, uint64_t offset, uint64_t end)
{
	off_t next;

	if (offset >= end || offset >= img->file_bytes)
		return end;
	next = lseek(img->fd, (off_t)offset, SEEK_DATA);
	if (next < 0)
		return errno == ENXIO ? end : offset;
	return MIN((uint64_t)next, end);
}

/* The header's cluster, in which extensions and names are. */
static int read_head(const struct image *img, bool readonly, struct q2_header *h,
		     struct q2_refusal *why)
{
	uint32_t bits = 0;
	uint64_t len;
	void *head;
	int r = image_read(img, &bits, sizeof(bits), 20);

	bits = be32toh(bits);
	len = MIN(img->file_bytes, bits >= 9 && bits <= 21 ? 1ull << bits : 512);
	head = malloc(MAX(len, 1));
	if (!head)
		return -ENOMEM;
	if (!r)
		r = image_read(img, head, len, 0);
	if (!r)
		r = q2_read_header(head, len, img->file_bytes, img->name, readonly, h, why);
	free(head);
	return r;
}

int image_judge(struct image *img, bool readonly, struct q2_refusal *why)
{
	struct q2_header h;

	why->text[0] = 0;
	return read_head(img, readonly, &h, why);
}

static int cannot_read(const char *name, int err)
{
	log_error("disk %s: cannot read: %s", name, strerror(err));
	return -err;
}

int image_from_fd(int fd, const char *name, struct image *out)
{
	unsigned char probe[PROBE_BYTES];
	struct q2_refusal why;
	struct stat st;
	off_t size = lseek(fd, 0, SEEK_END);
	int r;

	if (size < 0 || fstat(fd, &st) < 0)
		return cannot_read(name, errno);
	*out = (struct image){.name = name, .fd = fd, .file_bytes = (uint64_t)size};
	out->disk_bytes = S_ISBLK(st.st_mode) ? (uint64_t)size : (uint64_t)st.st_blocks * 512;
	r = image_read(out, probe, sizeof(probe), 0);
	if (r < 0)
		return cannot_read(name, -r);
	out->looks_like = probe_format(probe, MIN(out->file_bytes, sizeof(probe)));
	if (!out->looks_like || strcmp(out->looks_like, "qcow2") != 0)
		return 0;
	r = read_head(out, true, &out->header, &why);
	if (r == -ENOMEM || r == -EIO)
		return cannot_read(name, -r);
	return 0; /* what there is to say about the header is the caller's to say */
}

int image_open(const char *path, bool writable, struct image *out)
{
	/* O_NONBLOCK: a FIFO must not make us wait. */
	int fd = open(path, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NONBLOCK);
	struct stat st;
	int r = fd < 0 || fstat(fd, &st) < 0 ? -errno : 0;

	if (!r && S_ISDIR(st.st_mode))
		r = -EISDIR;
	if (!r && !S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)) {
		log_error("disk %s: neither a file nor a block device (name a disk image)", path);
		r = -EINVAL;
	} else if (r < 0) {
		log_error("disk %s: cannot open: %s", path, strerror(-r));
	} else {
		r = image_from_fd(fd, path, out);
	}
	if (r < 0 && fd >= 0)
		close(fd);
	return r;
}

void image_close(struct image *img)
{
	close(img->fd);
}

enum image_use image_use(const struct image *img)
{
	if (is_locked(img->fd, true))
		return IMAGE_WRITTEN;
	return is_locked(img->fd, false) ? IMAGE_READ : IMAGE_UNUSED;
}
