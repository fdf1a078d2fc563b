/* SPDX-License-Identifier: MIT */
/* --net user: a passt of our own, or one that listens already. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "net/passt.h"
#include "net/stream.h"
#include "util/log.h"
#include "util/util.h"

static int connect_to(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd, r;

	if (strlen(path) >= sizeof(addr.sun_path)) {
		log_error("net: socket=%s: too long for a socket's path (%zu bytes at most)", path,
			  sizeof(addr.sun_path) - 1);
		return -ENAMETOOLONG;
	}
	strcpy(addr.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0)
		return fd;
	r = -errno;
	log_error("net: socket=%s: cannot connect: %s%s (start a server there: passt -f -s %s)",
		  path, strerror(-r), fd_remedy(-r), path);
	if (fd >= 0)
		close(fd);
	return r;
}

static int check(const struct net_options *opts)
{
	if (!opts->tap && !opts->bridge && !opts->fd_count)
		return 0;
	log_error("net: user goes with neither tap= nor bridge= nor fd=");
	return -EINVAL;
}

int user_open(const struct net_options *opts, struct net **out)
{
	struct passt *passt = NULL;
	int fd, r = check(opts);

	if (r)
		return r;
	if (opts->socket)
		r = fd = connect_to(opts->socket);
	else
		r = passt_start(opts, &passt, &fd);
	if (r < 0)
		return r;
	r = stream_create(fd, passt, passt ? "passt" : opts->socket, passt ? PASST_MTU : 0, out);
	if (r) {
		close(fd);
		passt_destroy(passt);
	}
	return r;
}
