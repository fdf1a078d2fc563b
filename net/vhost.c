/* SPDX-License-Identifier: MIT */
/*
 * Only the files: which rings and which memory they are to serve virtio/net_vhost.c tells them. One
 * has one ring each way, so each queue has a file, and in the kernel a thread of its own.
 */
#include "net/vhost.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vhost.h>
#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "util/log.h"
#include "util/util.h"

#define VHOST_PATH "/dev/vhost-net"

/* What virtio-net may negotiate that concerns it; there since Linux 4.0. */
#define NEEDED                                                                                     \
	(1ull << VIRTIO_F_VERSION_1 | 1ull << VIRTIO_NET_F_MRG_RXBUF |                             \
	 1ull << VIRTIO_RING_F_INDIRECT_DESC | 1ull << VIRTIO_RING_F_EVENT_IDX)

/* Of this process from now on: the kernel's thread reads and writes our memory. */
static int own(int fd)
{
	uint64_t features;

	if (ioctl(fd, VHOST_SET_OWNER) < 0 || ioctl(fd, VHOST_GET_FEATURES, &features) < 0)
		return -errno;
	return (features & NEEDED) == NEEDED ? 0 : -EOPNOTSUPP;
}

static int open_one(int *out)
{
	int fd = open(VHOST_PATH, O_RDWR | O_CLOEXEC);
	int r = fd < 0 ? -errno : own(fd);

	if (!r)
		*out = fd;
	else if (fd >= 0)
		close(fd);
	return r;
}

static const char *remedy(int r)
{
	switch (r) {
	case -ENOENT:
	case -ENODEV:
	case -ENXIO:
		return "load the driver: modprobe vhost_net";
	case -EACCES:
	case -EPERM:
		return "run as root, or get the right to it: setfacl -m u:NAME:rw " VHOST_PATH;
	case -EMFILE:
	case -ENFILE:
		return "raise the limit: ulimit -n";
	default:
		return "use another kernel";
	}
}

int vhost_open(struct net *net, enum net_vhost mode)
{
	unsigned int count = 0;
	int r = 0;

	if (mode == NET_VHOST_OFF)
		return 0;
	while (!r && count < net->queue_count) {
		r = open_one(&net->vhost_fds[count]);
		count += !r;
	}
	net->vhost = !r;
	if (!r)
		return 0;
	while (count)
		close(net->vhost_fds[--count]);
	if (mode == NET_VHOST_ON) {
		log_error("net: vhost=on: " VHOST_PATH ": %s (%s; or leave vhost=on out)",
			  strerror(-r), remedy(r));
		return r;
	}
	log_debug("net: %s: frames go through minivmm: " VHOST_PATH ": %s (%s)", net->ifname,
		  strerror(-r), remedy(r));
	return 0;
}

void vhost_close(struct net *net)
{
	for (unsigned int i = 0; net->vhost && i < net->queue_count; i++)
		close(net->vhost_fds[i]);
	net->vhost = false;
}
