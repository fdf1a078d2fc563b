/* SPDX-License-Identifier: MIT */
#include "net/bridge/forward.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "util/log.h"

#define FORWARD "/proc/sys/net/ipv4/ip_forward"
#define REDIRECTS "/proc/sys/net/ipv4/conf/all/accept_redirects"

static int fail(const char *path, int r)
{
	log_error("%s: %s%s", path, strerror(-r),
		  r == -EROFS ? " (in a container: have it turned on from outside)" : "");
	return r;
}

static int get(const char *path, bool *on)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t len;
	char digit;

	if (fd < 0)
		return fail(path, -errno);
	len = read(fd, &digit, 1);
	close(fd);
	if (len != 1)
		return fail(path, -EIO);
	*on = digit != '0';
	return 0;
}

static int set(const char *path, bool on)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	int r = 0;

	if (fd < 0)
		return fail(path, -errno);
	if (write(fd, on ? "1" : "0", 1) != 1)
		r = fail(path, -errno);
	close(fd);
	return r;
}

int forward_get(bool *on)
{
	return get(FORWARD, on);
}

int forward_get_redirects(bool *on)
{
	return get(REDIRECTS, on);
}

int forward_turn_on(void)
{
	return set(FORWARD, true);
}

int forward_turn_off(bool redirects)
{
	int r = set(FORWARD, false);

	return r ? r : set(REDIRECTS, redirects);
}
