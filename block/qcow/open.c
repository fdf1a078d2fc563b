/* SPDX-License-Identifier: MIT */
/* Disks that libqcow reads: what was asked for, and the password. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "block/qcow/client.h"
#include "util/log.h"
#include "util/util.h"

#define PASSWORD_MAX 1024

bool qcow_is_wanted(const struct blk_options *opts, enum blk_format format)
{
	return format == BLK_FORMAT_QCOW || opts->reader != BLK_READER_OWN ||
	       opts->password_file || opts->has_password_fd;
}

int qcow_check_options(const struct blk_options *opts, enum blk_format format)
{
	const char *path = opts->path;

	if (format == BLK_FORMAT_RAW)
		log_error("disk %s: reader= and a password go with format=qcow2 or format=qcow",
			  path);
	else if (opts->password_file && opts->has_password_fd)
		log_error("disk %s: password-file= and password-fd= are one too many", path);
	else if (!opts->readonly)
		log_error("disk %s: libqcow, by which such images are read, cannot write (add "
			  "readonly or snapshot; or first: qemu-img convert -O qcow2)", path);
	else if (opts->direct)
		log_error("disk %s: libqcow, by which such images are read, has no direct I/O "
			  "(leave out direct=on)", path);
	else
		return 0;
	return -EINVAL;
}

/* --- the password --- */

static int bad_password(const struct blk_options *opts, const char *why)
{
	if (opts->password_file)
		log_error("disk %s: password-file=%s: %s", opts->path, opts->password_file, why);
	else
		log_error("disk %s: password-fd=%d: %s", opts->path, opts->password_fd, why);
	return -EINVAL;
}

/* Up to `len` bytes. How many, or -errno. */
static ssize_t read_all(int fd, char *buf, size_t len)
{
	size_t got = 0;
	ssize_t n = 1;

	while (n && got < len) {
		n = read(fd, buf + got, len - got);
		if (n < 0 && errno != EINTR)
			return -errno;
		got += n > 0 ? (size_t)n : 0;
	}
	return (ssize_t)got;
}

/* The key is the password's first 16 bytes, as they are: so this format has it. */
static int make_key(const struct blk_options *opts, const char *text, ssize_t len, uint8_t *key)
{
	if (len < 0)
		return bad_password(opts, strerror((int)-len));
	if (len > PASSWORD_MAX)
		return bad_password(opts, "too long for a password");
	if (len && text[len - 1] == '\n')
		len--;
	if (!len)
		return bad_password(opts, "holds no password");
	memcpy(key, text, MIN((size_t)len, (size_t)QCOW_KEY_BYTES));
	return 0;
}

static int read_key(const struct blk_options *opts, uint8_t *key)
{
	char text[PASSWORD_MAX + 1];
	int fd = opts->password_fd, r;

	if (opts->password_file)
		fd = open(opts->password_file, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return bad_password(opts, strerror(errno));
	r = make_key(opts, text, read_all(fd, text, sizeof(text)), key);
	explicit_bzero(text, sizeof(text));
	if (opts->password_file)
		close(fd);
	return r;
}

int qcow_open(struct loop *loop, const struct blk_options *opts, int fd, struct bio *bio,
	      struct blk **out)
{
	struct qcow_options qcow = {
		.name = opts->path,
		.loop = loop,
		.fd = fd,
		.program = opts->reader_program,
		.has_key = opts->password_file || opts->has_password_fd,
		.compare = opts->reader == BLK_READER_LIBQCOW_ANYHOW,
	};
	int r = qcow.has_key ? read_key(opts, qcow.key) : 0;

	if (!r)
		r = qcow_client_create(bio, &qcow, out);
	explicit_bzero(qcow.key, sizeof(qcow.key));
	return r;
}
