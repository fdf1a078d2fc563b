/* SPDX-License-Identifier: MIT */
/*
 * `minivmm disk create`. A file is made under a name that nobody has, and removed again where that
 * fails; one that is to replace another is made beside it and takes its name when it is complete.
 */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/block.h"
#include "block/impl.h"
#include "block/qcow2/make.h"
#include "cmd/disk.h"
#include "util/log.h"
#include "util/loop.h"
#include "util/util.h"

static const char help[] =
	"Usage: minivmm disk create FILE [SIZE] [OPTION]...\n"
	"Make an empty disk image of SIZE, as 512M, 8G or 2T.\n"
	"\n"
	"  -f, --format qcow2|raw    without it, a name in .qcow2 is qcow2, any other raw\n"
	"  -b, --backing FILE        what the disk begins with: FILE, which must not change any\n"
	"                            more; a relative name is relative to the image. SIZE is\n"
	"                            FILE's if not given\n"
	"  -F, --backing-format qcow2|raw\n"
	"                            FILE's format; without it by its name\n"
	"  -c, --cluster-size SIZE   qcow2's unit of allocation, 512 to 2M (default 64K)\n"
	"      --compat v2|v3        qcow2's version (default v3)\n"
	"      --force               replace a file of that name\n";

enum {
	OPTION_COMPAT = 256,
	OPTION_FORCE,
};

static const struct option options[] = {
	{"format", required_argument, NULL, 'f'},
	{"backing", required_argument, NULL, 'b'},
	{"backing-format", required_argument, NULL, 'F'},
	{"cluster-size", required_argument, NULL, 'c'},
	{"compat", required_argument, NULL, OPTION_COMPAT},
	{"force", no_argument, NULL, OPTION_FORCE},
	COMMAND_OPTIONS_END,
};

struct create {
	struct qcow2_make_options make;
	enum blk_format format;
	enum blk_format backing_format;
	const char *path;
	bool force;
};

/* --- the command line --- */

static int parse_cluster(const char *text, struct create *c)
{
	uint64_t bytes;

	if (parse_size(text, &bytes) < 0 || bytes < 512 || bytes > MIB(2) ||
	    (bytes & (bytes - 1))) {
		log_error("disk create: --cluster-size %s: a power of two from 512 to 2M is "
			  "expected", text);
		return -EINVAL;
	}
	c->make.cluster_bits = (unsigned int)__builtin_ctzll(bytes);
	return 0;
}

static int parse_compat(const char *text, struct create *c)
{
	if (strcmp(text, "v2") == 0 || strcmp(text, "0.10") == 0)
		c->make.version = 2;
	else if (strcmp(text, "v3") == 0 || strcmp(text, "1.1") == 0)
		c->make.version = 3;
	else {
		log_error("disk create: --compat %s: v2 or v3 is expected", text);
		return -EINVAL;
	}
	return 0;
}

static int parse_option(int option, struct create *c)
{
	switch (option) {
	case 'f':
		return disk_parse_format("disk create", "--format", optarg, &c->format);
	case 'b':
		c->make.backing = optarg;
		return 0;
	case 'F':
		return disk_parse_format("disk create", "--backing-format", optarg,
					 &c->backing_format);
	case 'c':
		return parse_cluster(optarg, c);
	case OPTION_COMPAT:
		return parse_compat(optarg, c);
	case OPTION_FORCE:
		c->force = true;
		return 0;
	}
	return -EINVAL;
}

static int parse_disk_size(const char *text, struct create *c)
{
	uint64_t bytes;
	int r = parse_size(text, &bytes);

	if (r == -EINVAL) {
		log_error("disk create: '%s': not a size (write 512M, 8G or 2T)", text);
		return r;
	}
	if (r < 0 || bytes > INT64_MAX - 511) {
		log_error("disk create: '%s': too large", text);
		return -ERANGE;
	}
	if (!bytes) {
		log_error("disk create: '%s': a disk must have a size", text);
		return -EINVAL;
	}
	c->make.size_bytes = align_up(bytes, 512);
	return 0;
}

/* What does not go with a raw disk, or without a backing file. */
static int check_options(const struct create *c)
{
	const char *what = NULL;

	if (!*c->path || (c->make.backing && !*c->make.backing)) {
		log_error("disk create: a file's name is expected");
		return -EINVAL;
	}
	if (c->backing_format != BLK_FORMAT_BY_NAME && !c->make.backing) {
		log_error("disk create: --backing-format: there is no --backing");
		return -EINVAL;
	}
	if (!c->make.size_bytes && !c->make.backing) {
		log_error("disk create: a size is expected after the name (as 8G)");
		return -EINVAL;
	}
	if (c->format == BLK_FORMAT_QCOW2)
		return 0;
	if (c->make.backing)
		what = "--backing";
	else if (c->make.cluster_bits)
		what = "--cluster-size";
	else if (c->make.version)
		what = "--compat";
	if (!what)
		return 0;
	log_error("disk create: %s: a raw disk has none (use --format qcow2)", what);
	return -EINVAL;
}

static int parse(int argc, char **argv, struct create *c)
{
	int option;

	while ((option = command_getopt(argc, argv, ":f:b:F:c:h", options, help)) != -1) {
		if (option == '?' || parse_option(option, c) < 0)
			return -EINVAL;
	}
	if (command_operands("a file's name", argc, argv, 1, 2) < 0)
		return -EINVAL;
	c->path = c->make.name = argv[optind];
	if (c->format == BLK_FORMAT_BY_NAME)
		c->format = blk_format_by_name(c->path);
	if (optind + 1 < argc && parse_disk_size(argv[optind + 1], c) < 0)
		return -EINVAL;
	return check_options(c);
}

/* --- making it --- */

static int check_below(struct create *c)
{
	uint64_t bytes;
	struct loop *loop;
	int r;

	if (!c->make.backing)
		return 0;
	r = loop_create("disk", &loop);
	if (r < 0)
		return r;
	r = blk_check_below(loop, c->path, c->make.backing, &c->backing_format, &bytes);
	loop_destroy(loop);
	c->make.backing_format = c->backing_format == BLK_FORMAT_QCOW2 ? "qcow2" : "raw";
	if (!r && !c->make.size_bytes)
		c->make.size_bytes = bytes;
	return r;
}

static int cannot(const struct create *c, int err)
{
	if (err == EEXIST)
		log_error("disk %s: exists already (take another name, or replace it with --force)",
			  c->path);
	else
		log_error("disk %s: cannot be made: %s", c->path, strerror(err));
	return -err;
}

static int make_raw(int fd, const struct create *c)
{
	if (ftruncate(fd, (off_t)c->make.size_bytes) < 0 || fsync(fd) < 0)
		return cannot(c, errno);
	return 0;
}

static int make(int fd, const struct create *c)
{
	return c->format == BLK_FORMAT_QCOW2 ? qcow2_make(fd, &c->make) : make_raw(fd, c);
}

/* So that the file keeps its name. */
static int sync_folder(const struct create *c, const char *path)
{
	char copy[PATH_MAX];
	int fd, r = 0;

	snprintf(copy, sizeof(copy), "%s", path);
	fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return errno == EACCES ? 0 : cannot(c, errno);
	if (fsync(fd) < 0 && errno != EINVAL)
		r = cannot(c, errno);
	close(fd);
	return r;
}

static int create_new(const struct create *c)
{
	int fd = open(c->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
	int r;

	if (fd < 0)
		return cannot(c, errno);
	r = make(fd, c);
	close(fd);
	if (!r)
		r = sync_folder(c, c->path);
	if (r < 0)
		unlink(c->path);
	return r;
}

/* The new file is whose the old one was, where we may say so. */
static int take_over(int fd, const struct stat *old)
{
	if (fchown(fd, old->st_uid, old->st_gid) < 0 && errno != EPERM)
		return -errno;
	return fchmod(fd, old->st_mode & 07777) < 0 ? -errno : 0;
}

/* `path` is in nobody's use. */
static int replace(const struct create *c, const char *path, const struct stat *old)
{
	char beside[PATH_MAX];
	int fd, r;

	if (snprintf(beside, sizeof(beside), "%s.XXXXXX", path) >= (int)sizeof(beside))
		return cannot(c, ENAMETOOLONG);
	fd = mkostemp(beside, O_CLOEXEC);
	if (fd < 0)
		return cannot(c, errno);
	r = make(fd, c);
	if (!r && (take_over(fd, old) < 0 || rename(beside, path) < 0))
		r = cannot(c, errno);
	close(fd);
	if (r < 0)
		unlink(beside);
	return r ? r : sync_folder(c, path);
}

/* Replace the file, wherever symbolic links lead, unless somebody uses it. */
static int create_anew(const struct create *c)
{
	char path[PATH_MAX];
	struct stat st;
	int fd, r = 0;

	if (!realpath(c->path, path))
		return cannot(c, errno);
	fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return cannot(c, errno);
	if (fstat(fd, &st) < 0)
		r = cannot(c, errno);
	if (!r && !S_ISREG(st.st_mode)) {
		log_error("disk %s: not a regular file, and is not replaced", c->path);
		r = -EINVAL;
	}
	if (!r)
		r = lock_image(fd, c->path, false);
	if (!r)
		r = replace(c, path, &st);
	close(fd);
	return r;
}

int disk_create(int argc, char **argv)
{
	struct create c = {.format = BLK_FORMAT_BY_NAME};
	struct stat st;
	int r;

	if (parse(argc, argv, &c) < 0)
		return COMMAND_USAGE;
	r = check_below(&c);
	if (!r)
		r = c.force && stat(c.path, &st) == 0 ? create_anew(&c) : create_new(&c);
	return r < 0 ? COMMAND_FAILED : COMMAND_OK;
}
