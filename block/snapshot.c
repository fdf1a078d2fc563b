/* SPDX-License-Identifier: MIT */
/*
 * Snapshots: what is written goes to a temporary qcow2 overlay, a file without a name in
 * $TMPDIR or /var/tmp, and the disk below stays as it is.
 *
 * An overlay that may be merged lies where the disk does, and the disk is opened, and locked,
 * for writing from the start: nobody else may change it meanwhile. Merging must not lose what
 * the guest wrote, whatever happens on the way. So the overlay is synced and gets a name first,
 * and loses it once all is written to the disk, and synced. Whoever is killed between finds a
 * complete overlay, of which a part was written to the disk already; to merge it again does no
 * harm. Until that is done the disk is not opened (snapshot_check_left).
 *
 * A file system may have no files without a name. There an overlay that may be merged has another
 * name first: what is left of it tells of nothing that was to be kept.
 */
#include "block/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/bio.h"
#include "block/impl.h"
#include "block/qcow2/make.h"
#include "block/qcow2/qcow2.h"
#include "util/util.h"

#define LINKS_MAX 9

struct snapshot {
	bool merges;
	int fd;              /* of the overlay */
	char disk[PATH_MAX]; /* the disk's file, without symbolic links */
	char dir[PATH_MAX];  /* of the overlay */
	char temp[PATH_MAX]; /* its name before it is merged, where it needs one, or "" */
	char name[PATH_MAX]; /* its name while it is merged, or "" */
};

/* --- the overlay's file --- */

static int link_name(const struct snapshot *s, unsigned int number, char *out)
{
	char disk[PATH_MAX];
	int n;

	snprintf(disk, sizeof(disk), "%s", s->disk);
	n = snprintf(out, PATH_MAX, "%s/%s.snapshot-%u.qcow2", s->dir, basename(disk), number);
	return n < PATH_MAX ? 0 : -ENAMETOOLONG;
}

/* Beside the disk, if it is to be merged; not in /dev, though. */
static int choose_dir(struct snapshot *s)
{
	const char *dir = getenv("TMPDIR");
	struct stat st;

	if (!s->merges || stat(s->disk, &st) < 0 || !S_ISREG(st.st_mode)) {
		snprintf(s->dir, sizeof(s->dir), "%s", dir && *dir ? dir : "/var/tmp");
		return 0;
	}
	snprintf(s->dir, sizeof(s->dir), "%s", s->disk);
	dirname(s->dir);
	return 0;
}

static void remove_name(char *name)
{
	if (name[0])
		unlink(name);
	name[0] = 0;
}

/* Where file systems have no files without a name. */
static int make_named(struct snapshot *s)
{
	char disk[PATH_MAX];
	int n;

	snprintf(disk, sizeof(disk), "%s", s->disk);
	n = snprintf(s->temp, PATH_MAX, "%s/%s.temporary-XXXXXX", s->dir, basename(disk));
	s->fd = n < PATH_MAX ? mkostemp(s->temp, O_CLOEXEC) : -1;
	if (s->fd < 0) {
		s->temp[0] = 0;
		return n < PATH_MAX ? -errno : -ENAMETOOLONG;
	}
	if (!s->merges)
		remove_name(s->temp);
	return 0;
}

static int make_file(struct snapshot *s, const struct blk_options *opts)
{
	int r;

	choose_dir(s);
	s->fd = open(s->dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	r = s->fd < 0 ? -errno : 0;
	if (r == -EOPNOTSUPP || r == -EISDIR || r == -EINVAL)
		r = make_named(s);
	if (r < 0)
		log_error("disk %s: cannot make a temporary file in %s: %s%s", opts->path, s->dir,
			  strerror(-r), s->merges ? "" : " (TMPDIR can name another directory)");
	return r;
}

static int format_file(struct snapshot *s, const struct blk_options *opts, struct blk *disk)
{
	const struct blk_info *info = blk_info(disk);
	const struct qcow2_make_options make = {
		.name = opts->path,
		.size_bytes = info->size_bytes,
		.backing = s->merges ? s->disk : "disk", /* else nobody will see it */
		.backing_format = s->merges ? info->format : "raw",
		.temporary = true,
	};
	int r = qcow2_make(s->fd, &make);

	/* Where it cannot be had it is done without: that is the disk's matter. */
	if (!r && opts->direct && fcntl(s->fd, F_SETFL, O_DIRECT) < 0)
		r = errno == EINVAL ? 1 : -errno;
	return r;
}

/* --- opening --- */

/* The backing file is open already. */
static int give_disk(void *arg, const char *file, const char *format, struct blk **out)
{
	struct blk **disk = arg;

	*out = *disk;
	*disk = NULL;
	return 0;
}

/* On top of `*disk`, which is NULL where the overlay, or nobody, has it afterwards. */
static int open_overlay(struct snapshot *s, struct loop *loop, const struct blk_options *opts,
			struct blk **disk, struct blk **out)
{
	struct qcow2_options qcow2 = {
		.name = opts->path,
		.loop = loop,
		.cache_bytes = opts->cache_bytes,
		.open_backing = give_disk,
		.arg = disk,
	};
	struct bio *bio;
	int r = format_file(s, opts, *disk);

	/* The disk's file is the first, though it is closed before this one: see bio_file.c. */
	if (r >= 0)
		r = bio_file_create(loop, s->fd, opts->path, opts->direct && !r, (*disk)->bio, &bio);
	if (r < 0) {
		close(s->fd);
		return r;
	}
	bio->temporary = true;
	r = qcow2_create(bio, &qcow2, out);
	if (r < 0)
		bio_destroy(bio);
	return r;
}

static int find_disk(struct snapshot *s, const struct blk_options *opts)
{
	int r = realpath(opts->path, s->disk) ? 0 : -errno;

	if (r < 0)
		log_error("disk %s: has no name in the file system: %s (a snapshot needs one)",
			  opts->path, strerror(-r));
	return r;
}

int snapshot_open(struct loop *loop, const struct blk_options *opts, struct blk **out)
{
	struct blk_options below = *opts;
	struct snapshot *s = calloc(1, sizeof(*s));
	struct blk *disk = NULL;
	int r;

	if (!s)
		return -ENOMEM;
	s->merges = opts->snapshot == BLK_SNAPSHOT_COMMIT;
	below.snapshot = BLK_SNAPSHOT_OFF;
	below.readonly = !s->merges;
	r = blk_open(loop, &below, &disk);
	if (!r)
		r = find_disk(s, opts);
	if (!r)
		r = make_file(s, opts);
	if (!r)
		r = open_overlay(s, loop, opts, &disk, out);
	if (r < 0) {
		blk_close(disk);
		snapshot_finish(s);
		return r;
	}
	(*out)->snapshot = s;
	return 0;
}

void snapshot_finish(struct snapshot *s)
{
	if (s)
		remove_name(s->temp);
	free(s);
}

/* --- merging --- */

static void sync_dir(const struct snapshot *s)
{
	int fd = open(s->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return;
	fsync(fd);
	close(fd);
}

/* Give the overlay a name. */
static int make_link(struct snapshot *s)
{
	char proc[32];
	int r = -EEXIST;

	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", s->fd);
	for (unsigned int i = 1; r == -EEXIST && i <= LINKS_MAX; i++) {
		r = link_name(s, i, s->name);
		if (!r && linkat(AT_FDCWD, s->temp[0] ? s->temp : proc, AT_FDCWD, s->name,
				 AT_SYMLINK_FOLLOW) < 0)
			r = -errno;
	}
	if (r < 0)
		s->name[0] = 0;
	else
		remove_name(s->temp);
	sync_dir(s);
	return r;
}

static void drop_link(struct snapshot *s)
{
	remove_name(s->name);
	sync_dir(s);
}

/* All that was written is on disk, in the overlay. */
static int sync_overlay(struct blk *blk)
{
	int r;

	blk->bio->temporary = false;
	r = blk_request_sync(blk, BLK_FLUSH, NULL, 0, 0);
	blk->bio->temporary = true;
	return r;
}

int blk_commit(struct blk *blk)
{
	struct snapshot *s = blk->snapshot;
	const char *what = "sync", *kept;
	int r, named;

	if (!s || !s->merges)
		return 0;
	/* In this order: what has the name is complete, even after a power cut. */
	r = sync_overlay(blk);
	named = make_link(s);
	if (named < 0 && !r)
		log_warn("disk %s: no name could be given to its changes (%s): they are merged "
			 "without", s->disk, strerror(-named));
	if (!r) {
		what = "merge";
		r = qcow2_merge(blk);
	}
	if (!r) {
		drop_link(s);
		return 0;
	}
	kept = named < 0 ? s->temp : s->name;
	log_error("disk %s: the %s of its changes failed: %s (%s%s%s%s)", s->disk, what,
		  strerror(-r), *kept ? "finish with: qemu-img commit " : "they are lost", kept,
		  *kept ? " && rm " : "", kept);
	s->temp[0] = 0; /* it stays */
	return r;
}

/* Ours, or root's: in a directory for everybody anyone may make a file of that name. */
static bool is_left(const char *name)
{
	struct stat st;

	return lstat(name, &st) == 0 && S_ISREG(st.st_mode) &&
	       (st.st_uid == geteuid() || st.st_uid == 0);
}

int snapshot_check_left(const char *path)
{
	struct snapshot s = {.merges = true};
	char name[PATH_MAX];

	if (!realpath(path, s.disk))
		return 0; /* told by who opens it */
	choose_dir(&s);
	for (unsigned int i = 1; i <= LINKS_MAX; i++) {
		if (link_name(&s, i, name) < 0 || !is_left(name))
			continue;
		log_error("disk %s: %s has changes of it that were not merged to the end (finish "
			  "with: qemu-img commit %s && rm %s)", path, name, name, name);
		return -EBUSY;
	}
	return 0;
}
