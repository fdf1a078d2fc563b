/* SPDX-License-Identifier: MIT */
/*
 * A network back end without a network: one end of a pair of datagram sockets. What the device
 * sends is read from `peer`, what it is to receive written there. It is as small as a socket's
 * buffers, so it fills up; and it remembers what was asked of it.
 */
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/net.h"
#include "util/util.h"

struct fake_net {
	struct net net;
	int peer;
	atomic_bool gone;      /* as if the interface had been deleted */
	atomic_uint sends;     /* attempts */
	atomic_uint offloads;  /* as last set */
	atomic_uint filters;   /* set so many times */
	unsigned int filter_count; /* as last set */
	bool filter_all_multicast;
	uint8_t filter_macs[64][6];
};

static inline ssize_t fake_net_send(struct net *net, const struct iovec *iov, unsigned int iovcnt)
{
	struct fake_net *fake = CONTAINER_OF(net, struct fake_net, net);
	ssize_t len;

	atomic_fetch_add(&fake->sends, 1);
	if (atomic_load(&fake->gone))
		return -ENODEV;
	len = writev(net->fd, iov, (int)iovcnt);
	return len < 0 ? -errno : len;
}

static inline ssize_t fake_net_recv(struct net *net, const struct iovec *iov, unsigned int iovcnt)
{
	struct fake_net *fake = CONTAINER_OF(net, struct fake_net, net);
	ssize_t len;

	if (atomic_load(&fake->gone))
		return -ENODEV;
	len = readv(net->fd, iov, (int)iovcnt);
	return len < 0 ? -errno : len;
}

static inline int fake_net_set_offload(struct net *net, unsigned int offloads)
{
	atomic_store(&CONTAINER_OF(net, struct fake_net, net)->offloads, offloads);
	return 0;
}

static inline int fake_net_set_filter(struct net *net, const uint8_t (*macs)[6],
				      unsigned int count, bool all_multicast)
{
	struct fake_net *fake = CONTAINER_OF(net, struct fake_net, net);

	fake->filter_count = count;
	fake->filter_all_multicast = all_multicast;
	if (count <= 64)
		memcpy(fake->filter_macs, macs, (size_t)count * 6);
	atomic_fetch_add(&fake->filters, 1);
	return 0;
}

static inline void fake_net_destroy(struct net *net)
{
	struct fake_net *fake = CONTAINER_OF(net, struct fake_net, net);

	close(fake->net.fd);
	close(fake->peer);
}

static const struct net_ops fake_net_ops = {
	.send = fake_net_send,
	.recv = fake_net_recv,
	.set_offload = fake_net_set_offload,
	.set_filter = fake_net_set_filter,
	.destroy = fake_net_destroy,
};

static inline int fake_net_init(struct fake_net *fake)
{
	int fds[2];

	memset(fake, 0, sizeof(*fake));
	if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) < 0)
		return -errno;
	fake->net.ops = &fake_net_ops;
	fake->net.fd = fds[0];
	fake->peer = fds[1];
	fake->net.mtu = 1500;
	fake->net.offloads = NET_OFFLOAD_CSUM | NET_OFFLOAD_TSO4 | NET_OFFLOAD_TSO6 |
			     NET_OFFLOAD_ECN | NET_OFFLOAD_USO;
	strcpy(fake->net.ifname, "fake0");
	return 0;
}

/* The next frame the device sent, waiting up to 5 s. Its length, or -errno. */
static inline ssize_t fake_net_sent(struct fake_net *fake, void *buf, size_t size)
{
	struct pollfd pfd = { .fd = fake->peer, .events = POLLIN };
	ssize_t len;

	if (poll(&pfd, 1, 5000) != 1)
		return -ETIMEDOUT;
	len = read(fake->peer, buf, size);
	return len < 0 ? -errno : len;
}
