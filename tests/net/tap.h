/* SPDX-License-Identifier: MIT */
/* For tests of TAPs: what there is in the namespace, and how net_open fails. */
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

#define BRIDGE_UP "ip link add br0 type bridge && ip link set br0 up"

static inline struct net *open_ok(const char *tap, const char *bridge)
{
	struct net_options opts = { .tap = tap, .bridge = bridge };
	struct net *net = NULL;

	assert_int_equal(net_open(&opts, &net), 0);
	assert_non_null(net);
	return net;
}

static inline bool exists(const char *name)
{
	return netns_run("ip link show %s >/dev/null 2>&1", name);
}

static inline bool shown(const char *name, const char *pattern)
{
	return netns_run("ip -d link show %s | grep -q -- '%s'", name, pattern);
}

static inline unsigned int count_links(void)
{
	struct if_nameindex *list = if_nameindex();
	unsigned int count = 0;

	assert_non_null(list);
	while (list[count].if_index)
		count++;
	if_freenameindex(list);
	return count;
}

/* net_open fails with `error` and one line that has every one of the NULL-ended texts in it;
 * no interface more or less is there afterwards. */
static inline void open_fails(const struct net_options *opts, int error, ...)
{
	struct net *net = NULL;
	const char *said, *want;
	unsigned int links = count_links();
	va_list args;
	int r;

	stderr_begin();
	r = net_open(opts, &net);
	said = stderr_end();
	assert_int_equal(r, error);
	assert_null(net);
	assert_non_null(strchr(said, '\n'));
	assert_string_equal(strchr(said, '\n'), "\n");
	va_start(args, error);
	while ((want = va_arg(args, const char *)))
		if (!strstr(said, want))
			fail_msg("no \"%s\" in: %s", want, said);
	va_end(args);
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
