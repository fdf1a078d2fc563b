/* SPDX-License-Identifier: MIT */
#include "net/net.h"

#include <errno.h>

#include "net/passt.h"
#include "net/tap.h"
#include "util/log.h"

int net_open(const struct net_options *opts, struct net **out)
{
	if (opts->user)
		return user_open(opts, out);
	if (!opts->fd_count)
		return tap_open_link(opts, out);
	if (opts->tap || opts->bridge) {
		log_error("net: fd=%d: goes with neither tap= nor bridge= (whoever opened it sets it "
			  "up)", opts->fds[0]);
		return -EINVAL;
	}
	return tap_open_fds(opts, out);
}
