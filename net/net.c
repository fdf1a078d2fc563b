/* SPDX-License-Identifier: MIT */
#include "net/net.h"

#include <errno.h>

#include "net/tap.h"
#include "util/log.h"

int net_open(const struct net_options *opts, struct net **out)
{
	if (opts->fd < 0)
		return tap_open_link(opts, out);
	if (opts->tap || opts->bridge) {
		log_error("net: fd=%d: goes with neither tap= nor bridge= (whoever opened it sets it "
			  "up)", opts->fd);
		return -EINVAL;
	}
	return tap_open_fd(opts->fd, out);
}

void net_close(struct net *net)
{
	if (net)
		net->ops->destroy(net);
}
