/* SPDX-License-Identifier: MIT */
/* For the files of net/ that speak netlink themselves. */
#pragma once

#include <libmnl/libmnl.h>

/*
 * Send `msg`, which asks for an answer or an ACK or (NLM_F_DUMP) for a list, and run `cb`, if not
 * NULL, on what comes back. 0 or -errno.
 */
int link_talk(struct mnl_socket *nl, struct nlmsghdr *msg, mnl_cb_t cb, void *arg);

/*
 * The same on a socket of its own, for a list: one that changed meanwhile is asked for again, and
 * `cb` then sees some of it twice.
 */
int link_dump(int bus, struct nlmsghdr *msg, mnl_cb_t cb, void *arg);
