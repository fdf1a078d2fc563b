/* SPDX-License-Identifier: MIT */
#include "net/link_watch.h"

#include <errno.h>
#include <fcntl.h>
#include <libmnl/libmnl.h>
#include <linux/rtnetlink.h>

#define BUF_BYTES 8192
/* Messages per call; where there are more, the socket is still readable. */
#define BUDGET 64

int link_watch_open(struct mnl_socket **out)
{
	struct mnl_socket *watch = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC | SOCK_NONBLOCK);
	int r;

	if (!watch)
		return -errno;
	if (mnl_socket_bind(watch, RTMGRP_LINK, MNL_SOCKET_AUTOPID) < 0) {
		r = -errno;
		mnl_socket_close(watch);
		return r;
	}
	*out = watch;
	return 0;
}

int link_watch_fd(const struct mnl_socket *watch)
{
	return mnl_socket_get_fd(watch);
}

static bool is_about(const char *buf, ssize_t len, int index)
{
	const struct nlmsghdr *msg = (const void *)buf;
	int left = (int)len;

	for (; mnl_nlmsg_ok(msg, left); msg = mnl_nlmsg_next(msg, &left)) {
		const struct ifinfomsg *info = mnl_nlmsg_get_payload(msg);

		if (mnl_nlmsg_get_payload_len(msg) >= sizeof(*info) && info->ifi_index == index)
			return true;
	}
	return false;
}

bool link_watch_read(struct mnl_socket *watch, int index)
{
	char buf[BUF_BYTES] __attribute__((aligned(NLMSG_ALIGNTO)));
	bool changed = false;

	for (unsigned int i = 0; i < BUDGET; i++) {
		ssize_t len = mnl_socket_recvfrom(watch, buf, sizeof(buf));

		if (len < 0 && errno == EAGAIN)
			break;
		/* An error is an overrun, or a message cut off: there was something. */
		changed |= len < 0 || is_about(buf, len, index);
	}
	return changed;
}
