/* SPDX-License-Identifier: MIT */
/* A file on a loop; in synchronous mode by plain system calls. */
#include "block/bio.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/impl.h"
#include "util/log.h"
#include "util/util.h"

struct sync_result {
	struct loop_op *op;
	int res;
};

/* Synchronous mode, of all files of a disk. */
struct bio_sync {
	bool on;
	struct sync_result *results; /* not yet handed out */
	unsigned int count, capacity;
};

struct bio_file {
	struct bio bio;
	struct loop *loop;
	struct loop_file file;
	struct bio_sync own_sync; /* of the disk's first file */
};

static struct bio_file *to_file(struct bio *bio)
{
	return CONTAINER_OF(bio, struct bio_file, bio);
}

bool bio_is_sync(const struct bio *bio)
{
	return !bio->sync || bio->sync->on;
}

static void sync_done(struct bio_file *f, struct loop_op *op, ssize_t res)
{
	struct bio_sync *sync = f->bio.sync;

	if (sync->count == sync->capacity) {
		unsigned int capacity = sync->capacity ? 2 * sync->capacity : 64;
		struct sync_result *results = realloc(sync->results, capacity * sizeof(*results));

		if (!results)
			abort(); /* a few hundred bytes before the machine runs */
		sync->results = results;
		sync->capacity = capacity;
	}
	sync->results[sync->count++] = (struct sync_result){op, (int)res};
}

static ssize_t or_errno(ssize_t res)
{
	return res < 0 ? -errno : res;
}

static void file_readv(struct bio *bio, struct loop_op *op, const struct iovec *iov,
		       unsigned int iovcnt, uint64_t offset)
{
	struct bio_file *f = to_file(bio);

	if (bio_is_sync(bio))
		sync_done(f, op, or_errno(preadv(f->file.fd, iov, (int)iovcnt, (off_t)offset)));
	else
		loop_readv(f->loop, op, &f->file, iov, iovcnt, offset);
}

static void file_writev(struct bio *bio, struct loop_op *op, const struct iovec *iov,
			unsigned int iovcnt, uint64_t offset)
{
	struct bio_file *f = to_file(bio);

	if (bio_is_sync(bio))
		sync_done(f, op, or_errno(pwritev(f->file.fd, iov, (int)iovcnt, (off_t)offset)));
	else
		loop_writev(f->loop, op, &f->file, iov, iovcnt, offset);
}

static void file_fdatasync(struct bio *bio, struct loop_op *op)
{
	struct bio_file *f = to_file(bio);

	if (bio_is_sync(bio))
		sync_done(f, op, or_errno(fdatasync(f->file.fd)));
	else
		loop_fdatasync(f->loop, op, &f->file);
}

static void file_fallocate(struct bio *bio, struct loop_op *op, int mode, uint64_t offset,
			   uint64_t len)
{
	struct bio_file *f = to_file(bio);

	if (bio_is_sync(bio))
		sync_done(f, op, or_errno(fallocate(f->file.fd, mode, (off_t)offset, (off_t)len)));
	else
		loop_fallocate(f->loop, op, &f->file, mode, offset, len);
}

static void file_defer(struct bio *bio, struct loop_op *op)
{
	struct bio_file *f = to_file(bio);

	if (bio_is_sync(bio))
		sync_done(f, op, 0);
	else
		loop_defer(f->loop, op);
}

static void file_begin_sync(struct bio *bio)
{
	bio->sync->on = true;
}

static void file_run_sync(struct bio *bio)
{
	struct bio_sync *sync = bio->sync;

	for (unsigned int i = 0; i < sync->count; i++) {
		struct sync_result result = sync->results[i]; /* the array may move */

		result.op->done(result.op, result.res);
	}
	sync->count = 0;
	sync->on = false;
}

static int file_truncate(struct bio *bio, uint64_t size_bytes)
{
	return ftruncate(to_file(bio)->file.fd, (off_t)size_bytes) < 0 ? -errno : 0;
}

static bool file_is_hole(struct bio *bio, uint64_t offset, uint64_t *len)
{
	int fd = to_file(bio)->file.fd;
	off_t data = lseek(fd, (off_t)offset, SEEK_DATA), hole;

	if (data < 0 && errno == ENXIO)
		return true; /* to the end of the file */
	if (data < 0)
		return false;
	if ((uint64_t)data > offset) {
		*len = MIN(*len, (uint64_t)data - offset);
		return true;
	}
	hole = lseek(fd, (off_t)offset, SEEK_HOLE);
	if (hole > (off_t)offset)
		*len = MIN(*len, (uint64_t)hole - offset);
	return false;
}

static void file_destroy(struct bio *bio)
{
	struct bio_file *f = to_file(bio);

	loop_file_finish(f->loop, &f->file);
	unlock_image(f->file.fd);
	close(f->file.fd);
	free(f->own_sync.results);
	free(f);
}

static const struct bio_ops bio_file_ops = {
	.readv = file_readv,
	.writev = file_writev,
	.fdatasync = file_fdatasync,
	.fallocate = file_fallocate,
	.defer = file_defer,
	.begin_sync = file_begin_sync,
	.run_sync = file_run_sync,
	.truncate = file_truncate,
	.is_hole = file_is_hole,
	.destroy = file_destroy,
};

/* What O_DIRECT asks of addresses and lengths; 512 where the kernel does not say. */
static int direct_alignment(struct bio_file *f, const char *name)
{
	struct statx st;

	f->bio.io_align = 512;
	f->bio.mem_align = 512;
#ifdef STATX_DIOALIGN
	if (statx(f->file.fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &st) < 0 ||
	    !(st.stx_mask & STATX_DIOALIGN) || !st.stx_dio_offset_align)
		return 0;
	f->bio.mem_align = st.stx_dio_mem_align;
	if (st.stx_dio_offset_align <= 512)
		return 0;
	log_error("disk %s: direct I/O here needs blocks of %u bytes (use direct=off)", name,
		  st.stx_dio_offset_align);
	return -EINVAL;
#else
	(void)st;
	(void)name;
	return 0;
#endif
}

int bio_file_create(struct loop *loop, int fd, const char *name, bool direct, struct bio *first,
		    struct bio **out)
{
	struct bio_file *f = calloc(1, sizeof(*f));
	struct stat st;
	off_t size;
	int r;

	if (!f)
		return -ENOMEM;
	f->bio = (struct bio){.ops = &bio_file_ops, .io_align = 1, .mem_align = 1};
	f->bio.sync = first ? first->sync : &f->own_sync;
	f->loop = loop;
	f->file.fd = fd;
	size = lseek(fd, 0, SEEK_END);
	if (size < 0 || fstat(fd, &st) < 0) {
		r = -errno;
		log_error("disk %s: cannot tell its size: %s", name, strerror(-r));
		goto err_free;
	}
	f->bio.size_bytes = (uint64_t)size;
	f->bio.is_device = S_ISBLK(st.st_mode);
	r = direct ? direct_alignment(f, name) : 0;
	if (r < 0)
		goto err_free;
	loop_file_init(loop, &f->file, fd);
	*out = &f->bio;
	return 0;

err_free:
	free(f);
	return r;
}
