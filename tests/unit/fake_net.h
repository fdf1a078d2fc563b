/* SPDX-License-Identifier: MIT */
/*
 * A network back end without a network: each queue is one end of a pair of datagram sockets. What
 * the device sends is read from `peers`, what it is to receive written there. It is as small as
 * a socket's buffers, so it fills up; and it remembers what was asked of it.
 */
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/net.h"
#include "util/util.h"

struct fake_net {
	struct net net;
	int peers[NET_QUEUES_MAX];
	atomic_bool gone;      /* as if the interface had been deleted */
	atomic_bool down;      /* the link */
	atomic_uint queues;    /* as last set */
	atomic_int queues_error; /* what setting them gives */
	atomic_uint sends;     /* attempts */
	atomic_uint in_part;   /* flush so many times says that a frame is not whole yet */
	atomic_uint at_once;   /* the most frames handed in together */
	atomic_uint offloads;  /* as last set */
	atomic_uint filters;   /* set so many times */
	unsigned int filter_count; /* as last set */
	bool filter_all_multicast;
	uint8_t filter_macs[64][6];
};

static inline ssize_t fake_net_send(struct net *net, unsigned int queue, const struct iovec *iov,
				    unsigned int iovcnt)
{
	struct fake_net *fake = CONTAINER_OF(net, struct fake_net, net);
	ssize_t len;

	atomic_fetch_add(&fake->sends, 1);
	if (atomic_load(&fake->gone))
		return -ENODEV;
	len = writev(net->fds[queue], iov, (int)iovcnt);
	return len < 0 ? -errno : len;
}

static inline unsigned int fake_net_send_many(struct net *net, unsigned int queue,
					      const struct net_frame *frames, unsigned int count,
					      int *error)
{
	struct fake_net *fake = CONTAINER_OF(net, struct fake_net, net);

	fake->at_once = MAX(fake->at_once, count);
	return net_send_each(net, queue, frames, count, error);
}

static inline ssize_t fake_net_recv(struct net *net, unsigned int queue, const struct iovec *iov,
				    unsigned int iovcnt)
{
	struct fake_net *fake = CONTAINER_OF(net, struct fake_net, net);
	ssize_t len;

	if (atomic_load(&fake->gone))
		return -ENODEV;
	len = readv(net->fds[queue], iov, (int)iovcnt);
	return len < 0 ? -errno : len;
}

static inline int fake_net_set_queues(struct net *net, unsigned int count)
{
	struct fake_net *fake = CONTAINER_OF(net, struct fake_net, net);
	int r = atomic_load(&fake->queues_error);

	if (!r)
		atomic_store(&fake->queues, count);
	return r;
}

static inline int fake_net_flush(struct net *net)
{
	struct fake_net *fake = CONTAINER_OF(net, struct fake_net, net);

	if (!atomic_load(&fake->in_part))
		return 0;
	atomic_fetch_sub(&fake->in_part, 1);
	return -EAGAIN;
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

static inline bool fake_net_link_up(struct net *net)
{
	eventfd_t count;

	eventfd_read(net->link_fd, &count);
	return !atomic_load(&CONTAINER_OF(net, struct fake_net, net)->down);
}

static inline bool fake_net_gone(struct net *net)
{
	return atomic_load(&CONTAINER_OF(net, struct fake_net, net)->gone);
}

static inline void fake_net_set_link(struct fake_net *fake, bool up)
{
	atomic_store(&fake->down, !up);
	eventfd_write(fake->net.link_fd, 1);
}

static inline void fake_net_identify(const struct net *net, struct net_identity *out)
{
	out->type = "fake";
}

static inline void fake_net_destroy(struct net *net)
{
	struct fake_net *fake = CONTAINER_OF(net, struct fake_net, net);

	for (unsigned int i = 0; i < net->queue_count; i++) {
		close(net->fds[i]);
		close(fake->peers[i]);
	}
	close(net->link_fd);
}

static const struct net_ops fake_net_ops = {
	.send = fake_net_send,
	.recv = fake_net_recv,
	.send_many = fake_net_send_many,
	.set_queues = fake_net_set_queues,
	.flush = fake_net_flush,
	.set_offload = fake_net_set_offload,
	.set_filter = fake_net_set_filter,
	.link_up = fake_net_link_up,
	.gone = fake_net_gone,
	.identify = fake_net_identify,
	.destroy = fake_net_destroy,
};

static inline int fake_net_init(struct fake_net *fake, unsigned int queues)
{
	int fds[2];

	memset(fake, 0, sizeof(*fake));
	fake->net.ops = &fake_net_ops;
	for (unsigned int i = 0; i < queues; i++) {
		if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) < 0)
			return -errno;
		fake->net.fds[i] = fds[0];
		fake->peers[i] = fds[1];
	}
	fake->net.link_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (fake->net.link_fd < 0)
		return -errno;
	fake->net.queue_count = queues;
	fake->queues = 1;
	fake->net.mtu = 1500;
	fake->net.offloads = NET_OFFLOAD_CSUM | NET_OFFLOAD_TSO4 | NET_OFFLOAD_TSO6 |
			     NET_OFFLOAD_ECN | NET_OFFLOAD_USO;
	strcpy(fake->net.ifname, "fake0");
	return 0;
}

/* The next frame the device sent by a queue, waiting up to 5 s. Its length, or -errno. */
static inline ssize_t fake_net_sent(struct fake_net *fake, unsigned int queue, void *buf,
				    size_t size)
{
	struct pollfd pfd = { .fd = fake->peers[queue], .events = POLLIN };
	ssize_t len;

	if (poll(&pfd, 1, 5000) != 1)
		return -ETIMEDOUT;
	len = read(fake->peers[queue], buf, size);
	return len < 0 ? -errno : len;
}
