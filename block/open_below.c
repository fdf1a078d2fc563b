/* SPDX-License-Identifier: MIT */
/*
 * The files that an image names: what lies below it, and its data file.
 *
 * Who made the image may be the guest: so its backing file is opened only where the user said
 * so, only in a format that is said and not guessed, and only if it is a regular file, below the
 * directory that was given if one was. The same goes for its data file, unless the user names
 * that.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/bio.h"
#include "block/impl.h"
#include "block/open_impl.h"
#include "block/qcow2/qcow2.h"
#include "block/snapshot.h"
#include "util/util.h"

#define DEPTH_MAX 8

/* "file:x" and "json:{}" are QEMU's ways to name what is no plain file. */
static bool has_protocol(const char *name)
{
	size_t colon = strcspn(name, ":/");

	return name[colon] == ':';
}

static int check_name(const struct open_layer *layer, const char *name, const char *format,
		      enum blk_format *out)
{
	const char *path = layer->path;

	if (layer->opts->backing == BLK_BACKING_OFF) {
		log_error("disk %s: has a backing file (%.200s), which is followed only with "
			  "backing=on or backing=DIR (or make it whole: qemu-img convert -O qcow2 "
			  "%s new.qcow2)", path, name, path);
		return -ENOTSUP;
	}
	if (has_protocol(name)) {
		log_error("disk %s: its backing file is not a plain file (%.200s)", path, name);
		return -ENOTSUP;
	}
	if (layer->depth == DEPTH_MAX) {
		log_error("disk %s: more than %d backing files below each other (join some: "
			  "qemu-img rebase)", path, DEPTH_MAX);
		return -EINVAL;
	}
	if (!strcmp(format, "qcow2"))
		*out = BLK_FORMAT_QCOW2;
	else if (!strcmp(format, "raw"))
		*out = BLK_FORMAT_RAW;
	else
		log_error("disk %s: its backing file's format is %s (say which: qemu-img rebase "
			  "-u -b FILE -F FORMAT %s)", path, *format ? "not raw or qcow2"
			  : "not in the image, and is not guessed", path);
	return *out == BLK_FORMAT_BY_NAME ? -ENOTSUP : 0;
}

/* Relative names are relative to the image that has them. */
static int join_path(const struct open_layer *layer, const char *name, char *out, size_t out_len)
{
	const char *slash = strrchr(layer->path, '/');
	int dir_len = *name == '/' || !slash ? 0 : (int)(slash + 1 - layer->path);

	if ((size_t)snprintf(out, out_len, "%.*s%s", dir_len, layer->path, name) < out_len)
		return 0;
	log_error("disk %s: the name of a file that it names is too long", layer->path);
	return -ENAMETOOLONG;
}

/* What was opened, wherever symbolic links led, lies below the directory allowed. */
static int check_dir(const struct open_layer *layer, int fd)
{
	const char *dir = layer->opts->backing_dir;
	char real[PATH_MAX], opened[PATH_MAX], proc[32];
	size_t len;
	ssize_t n;

	if (!dir)
		return 0;
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
	n = readlink(proc, opened, sizeof(opened) - 1);
	if (n < 0 || !realpath(dir, real)) {
		log_error("disk %s: backing=%s: %s", layer->path, dir, strerror(errno));
		return -errno;
	}
	opened[n] = 0;
	len = strlen(real);
	len -= real[len - 1] == '/';
	if (!strncmp(opened, real, len) && opened[len] == '/')
		return 0;
	log_error("disk %s: does not lie below backing=%s", layer->path, dir);
	return -EACCES;
}

static bool is_in_chain(const struct open_layer *layer, const struct stat *st)
{
	for (; layer; layer = layer->above) {
		if ((layer->dev == st->st_dev && layer->ino == st->st_ino) ||
		    (layer->has_data && layer->data_dev == st->st_dev &&
		     layer->data_ino == st->st_ino))
			return true;
	}
	return false;
}

/* Note who the file is; a file that is in the chain already would never end. */
int open_identify(struct open_layer *layer, int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	layer->dev = st.st_dev;
	layer->ino = st.st_ino;
	if (layer->above && !S_ISREG(st.st_mode)) {
		log_error("disk %s: a backing file must be a regular file", layer->path);
		return -EINVAL;
	}
	if (is_in_chain(layer->above, &st)) {
		log_error("disk %s: lies below itself", layer->path);
		return -ELOOP;
	}
	return 0;
}

static int open_backing(void *arg, const char *name, const char *format, struct blk **out)
{
	const struct open_layer *above = arg;
	char path[PATH_MAX];
	struct open_layer layer = {.above = above, .opts = above->opts,
				   .loop = above->loop, .path = path,
			    .depth = above->depth + 1};
	struct blk_options opts = {.path = path, .readonly = true, .direct = above->opts->direct};
	enum blk_format kind = BLK_FORMAT_BY_NAME;
	struct bio *bio;
	int fd, r;

	if (above->opts->backing == BLK_BACKING_UNREAD) {
		*out = NULL;
		return 0;
	}
	r = check_name(above, name, format, &kind);
	if (!r)
		r = join_path(above, name, path, sizeof(path));
	if (!r)
		r = snapshot_check_left(path);
	if (!r)
		r = open_file(&opts, &fd);
	if (r)
		return r;
	r = open_identify(&layer, fd);
	if (!r)
		r = check_dir(&layer, fd);
	if (!r)
		r = bio_file_create(layer.loop, fd, path, opts.direct, above->first, &bio);
	if (r < 0) {
		close(fd);
		return r;
	}
	r = open_format(&layer, kind, true, bio, out);
	if (r < 0)
		bio_destroy(bio);
	return r;
}

/* --- data files --- */

int open_data_unused(const char *path)
{
	log_error("disk %s: has no data file (data-file= is of no use)", path);
	return -EINVAL;
}

/* That the image itself names. */
static int check_data_name(const struct open_layer *image, const char *name)
{
	const char *path = image->path;

	if (!*name) {
		log_error("disk %s: does not say which its data file is (say so: data-file=FILE)",
			  path);
		return -EINVAL;
	}
	if (image->opts->backing != BLK_BACKING_ON) {
		log_error("disk %s: has a data file (%.200s), which is opened only with "
			  "data-file=FILE, backing=on or backing=DIR", path, name);
		return -ENOTSUP;
	}
	if (has_protocol(name)) {
		log_error("disk %s: its data file is not a plain file (%.200s)", path, name);
		return -ENOTSUP;
	}
	return 0;
}

static int check_data_file(struct open_layer *image, const char *path, bool named_by_user, int fd)
{
	struct open_layer file = {.opts = image->opts, .path = path};
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (is_in_chain(image, &st)) {
		log_error("disk %s: its data file %s is one of the disk's other files",
			  image->path, path);
		return -ELOOP;
	}
	image->data_dev = st.st_dev;
	image->data_ino = st.st_ino;
	image->has_data = true;
	if (named_by_user)
		return 0;
	if (!S_ISREG(st.st_mode)) {
		log_error("disk %s: its data file %s is not a regular file (if it is meant: "
			  "data-file=%s)", image->path, path, path);
		return -EINVAL;
	}
	return check_dir(&file, fd);
}

static int open_data_file(struct open_layer *image, const char *path, bool named_by_user,
			  struct blk **out)
{
	struct blk_options opts = {.path = path, .direct = image->opts->direct,
				   .readonly = image->above || image->opts->readonly};
	struct bio *bio;
	int fd, r = open_file(&opts, &fd);

	if (r < 0)
		return r;
	r = check_data_file(image, path, named_by_user, fd);
	if (!r)
		r = bio_file_create(image->loop, fd, path, opts.direct, image->first, &bio);
	if (r < 0) {
		close(fd);
		return r;
	}
	r = raw_create(bio, path, opts.readonly, out);
	if (r < 0)
		bio_destroy(bio);
	return r;
}

static int open_data(void *arg, const char *name, struct blk **out)
{
	struct open_layer *image = arg;
	const char *given = image->above ? NULL : image->opts->data_file;
	char path[PATH_MAX];
	int r;

	if (!out && given)
		return open_data_unused(image->path);
	if (!out)
		return 0;
	if (given)
		return open_data_file(image, given, true, out);
	r = check_data_name(image, name);
	if (!r)
		r = join_path(image, name, path, sizeof(path));
	return r ? r : open_data_file(image, path, false, out);
}

/* --- any layer --- */

int open_format(struct open_layer *layer, enum blk_format format, bool readonly, struct bio *bio,
		struct blk **out)
{
	struct qcow2_options qcow2 = {
		.name = layer->path,
		.readonly = readonly,
		.loop = layer->loop,
		.cache_bytes = layer->opts->cache_bytes,
		.open_backing = open_backing,
		.open_data = open_data,
		.arg = layer,
	};

	layer->first = layer->above ? layer->above->first : bio;
	if (format == BLK_FORMAT_QCOW2)
		return qcow2_create(bio, &qcow2, out);
	return raw_create(bio, layer->path, readonly, out);
}

/* --- for who makes an image --- */

/* Where the format is not said but comes from the name, the content must agree. */
static int choose_below(const struct open_layer *top, const char *name, enum blk_format *format)
{
	char path[PATH_MAX];
	unsigned char head[PROBE_BYTES];
	struct blk_options opts = {.path = path, .readonly = true};
	const char *found;
	ssize_t n;
	int fd, r;

	*format = blk_format_by_name(name);
	if (has_protocol(name))
		return 0; /* refused later on */
	r = join_path(top, name, path, sizeof(path));
	if (!r)
		r = open_file(&opts, &fd);
	if (r < 0)
		return r;
	n = pread(fd, head, sizeof(head), 0);
	close(fd);
	found = n > 0 ? probe_format(head, (size_t)n) : NULL;
	if (*format == BLK_FORMAT_QCOW2 ? found && !strcmp(found, "qcow2") : !found)
		return 0;
	log_error("disk %s: its name is that of a %s disk, its content looks like %s (say which "
		  "it is: --backing-format)", path, *format == BLK_FORMAT_QCOW2 ? "qcow2" : "raw",
		  found ? found : "raw");
	return -EINVAL;
}

int blk_check_below(struct loop *loop, const char *path, const char *name,
		    enum blk_format *format, uint64_t *size_bytes)
{
	struct blk_options opts = {.path = path, .backing = BLK_BACKING_ON};
	struct open_layer top = {.opts = &opts, .loop = loop, .path = path};
	struct blk *below;
	struct stat st;
	int r = 0;

	if (stat(path, &st) == 0) {
		top.dev = st.st_dev;
		top.ino = st.st_ino;
	}
	if (*format == BLK_FORMAT_BY_NAME)
		r = choose_below(&top, name, format);
	if (!r)
		r = open_backing(&top, name, *format == BLK_FORMAT_QCOW2 ? "qcow2" : "raw", &below);
	if (r < 0)
		return r;
	*size_bytes = blk_info(below)->size_bytes;
	return blk_close(below);
}
