/* SPDX-License-Identifier: MIT */
/* For tests of TAPs: how one looks, and how net_open fails. */
#pragma once

#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include <cmocka.h>

#include "net/net.h"
#include "netns.h"

static inline struct net *open_ok(const char *tap, const char *bridge)
{
	struct net_options opts = { .tap = tap, .bridge = bridge };
	struct net *net = NULL;

	assert_int_equal(net_open(&opts, &net), 0);
	assert_non_null(net);
	return net;
}

static inline bool shown(const char *name, const char *pattern)
{
	return netns_run("ip -d link show %s | grep -q -- '%s'", name, pattern);
}

/* net_open fails with `error` and one line that has every one of the NULL-ended texts in it;
 * no interface more or less is there afterwards. */
static inline void open_fails(const struct net_options *opts, int error, ...)
{
	struct net *net = NULL;
	unsigned int links = count_links();
	const char *said;
	va_list texts;
	int r;

	stderr_begin();
	r = net_open(opts, &net);
	said = stderr_end();
	assert_int_equal(r, error);
	assert_null(net);
	va_start(texts, error);
	assert_one_line(said, texts);
	va_end(texts);
	assert_int_equal(count_links(), links);
}

static inline int open_tap(const char *name, int flags)
{
	struct ifreq req = { .ifr_flags = (short)flags };
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

	snprintf(req.ifr_name, sizeof(req.ifr_name), "%s", name);
	assert_int_equal(ioctl(fd, TUNSETIFF, &req), 0);
	return fd;
}
