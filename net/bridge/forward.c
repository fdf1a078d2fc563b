/* SPDX-License-Identifier: MIT */
#include "net/bridge/forward.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "util/log.h"

#define FORWARD "/proc/sys/net/ipv4/ip_forward"
#define REDIRECTS "/proc/sys/net/ipv4/conf/all/accept_redirects"
#define FORWARD_ONE "/proc/sys/net/ipv4/conf/%s/forwarding"
#define PATH_BYTES 80

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

/* "default" is among them: what interfaces to come will have. */
int forward_get_any(bool *on)
{
	char pattern[PATH_BYTES];
	glob_t found;
	int r = 0;

	*on = false;
	snprintf(pattern, sizeof(pattern), FORWARD_ONE, "*");
	if (glob(pattern, GLOB_NOSORT, NULL, &found))
		return fail(pattern, -EIO);
	for (size_t i = 0; !r && !*on && i < found.gl_pathc; i++)
		if (access(found.gl_pathv[i], F_OK) == 0) /* it may have gone meanwhile */
			r = get(found.gl_pathv[i], on);
	globfree(&found);
	return r;
}

int forward_get_one(const char *interface, bool *on)
{
	char path[PATH_BYTES];

	snprintf(path, sizeof(path), FORWARD_ONE, interface);
	return get(path, on);
}

int forward_set_one(const char *interface, bool on)
{
	char path[PATH_BYTES];

	snprintf(path, sizeof(path), FORWARD_ONE, interface);
	return set(path, on);
}
