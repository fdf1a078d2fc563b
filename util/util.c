/* SPDX-License-Identifier: MIT */
#include "util/util.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* -ERANGE with `end` set all the same: whether it is a number at all is the caller's to see. */
static int parse_digits(const char *text, const char **end, uint64_t *out)
{
	char *stop;

	if (!isdigit((unsigned char)text[0]))
		return -EINVAL;
	errno = 0;
	*out = strtoull(text, &stop, 10);
	*end = stop;
	return errno == ERANGE ? -ERANGE : 0;
}

static int size_shift(char suffix)
{
	switch (toupper((unsigned char)suffix)) {
	case '\0':
		return 0;
	case 'K':
		return 10;
	case 'M':
		return 20;
	case 'G':
		return 30;
	case 'T':
		return 40;
	}
	return -1;
}

int parse_size(const char *text, uint64_t *out)
{
	const char *end;
	uint64_t value;
	int shift, r;

	r = parse_digits(text, &end, &value);
	if (r == -EINVAL)
		return r;
	shift = size_shift(*end);
	if (shift < 0 || (*end && end[1]))
		return -EINVAL;
	if (r < 0 || value > UINT64_MAX >> shift)
		return -ERANGE;
	*out = value << shift;
	return 0;
}

int parse_uint(const char *text, uint64_t min, uint64_t max, uint64_t *out)
{
	const char *end;
	uint64_t value;
	int r;

	r = parse_digits(text, &end, &value);
	if (r == -EINVAL || *end)
		return -EINVAL;
	if (r < 0 || value < min || value > max)
		return -ERANGE;
	*out = value;
	return 0;
}

const char *fd_remedy(int err)
{
	switch (err) {
	case EMFILE:
		return " (raise the limit: ulimit -n)";
	case ENFILE:
		return " (raise the host's limit: sysctl fs.file-max)";
	default:
		return "";
	}
}

bool ends_with(const char *text, const char *suffix)
{
	size_t n = strlen(text), m = strlen(suffix);

	return n >= m && !strcmp(text + n - m, suffix);
}

uint64_t monotonic_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

int pread_full(int fd, void *buf, size_t len, uint64_t offset)
{
	while (len) {
		ssize_t n = pread(fd, buf, len, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -ENODATA;
		buf = (char *)buf + n;
		len -= (size_t)n;
		offset += (uint64_t)n;
	}
	return 0;
}

int pwrite_full(int fd, const void *buf, size_t len, uint64_t offset)
{
	while (len) {
		ssize_t n = pwrite(fd, buf, len, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		buf = (const char *)buf + n;
		len -= (size_t)n;
		offset += (uint64_t)n;
	}
	return 0;
}
