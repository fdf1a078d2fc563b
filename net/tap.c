/* SPDX-License-Identifier: MIT */
#include "net/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "net/link_watch.h"
#include "net/vhost.h"
#include "util/batch.h"
#include "util/log.h"
#include "util/util.h"

#define TUN_PATH "/dev/net/tun"
#define FILTER_MACS_MAX 64
/* One frame costs more by a ring than by writev; so many cost less (tests/bench/tap). */
#define BATCH_MIN 4
_Static_assert(NET_SEND_MAX <= BATCH_MAX, "send_many");

static struct tap *to_tap(struct net *net)
{
	return CONTAINER_OF(net, struct tap, net);
}

static int failure(int error)
{
	if (error == EBADFD) /* the interface was deleted while we held its file */
		return -ENODEV;
	return error == EINTR || error == ECANCELED ? -EAGAIN : -error;
}

static ssize_t result(ssize_t len)
{
	return len >= 0 ? len : failure(errno);
}

static ssize_t send_frame(struct net *net, unsigned int queue, const struct iovec *iov,
			  unsigned int iovcnt)
{
	return result(writev(net->fds[queue], iov, (int)iovcnt));
}

static ssize_t recv_frame(struct net *net, unsigned int queue, const struct iovec *iov,
			  unsigned int iovcnt)
{
	return result(readv(net->fds[queue], iov, (int)iovcnt));
}

/* The ring belongs to the thread that sends, so it is made there. */
static struct batch *batch_of(struct tap *tap)
{
	if (!tap->batch && !tap->no_batch)
		tap->no_batch = batch_create(&tap->batch) < 0;
	return tap->batch;
}

/* A TAP takes no writes that must not wait before Linux 6.4. */
static void forget_batch(struct tap *tap)
{
	batch_destroy(tap->batch);
	tap->batch = NULL;
	tap->no_batch = true;
}

static unsigned int send_many(struct net *net, unsigned int queue, const struct net_frame *frames,
			      unsigned int count, int *error)
{
	struct tap *tap = to_tap(net);
	struct batch *batch = count >= BATCH_MIN ? batch_of(tap) : NULL;
	unsigned int sent;

	if (!batch)
		return net_send_each(net, queue, frames, count, error);
	for (unsigned int i = 0; i < count; i++)
		batch_writev(batch, net->fds[queue], frames[i].iov, frames[i].iovcnt);
	sent = batch_run(batch, error);
	if (sent < count && *error == -EOPNOTSUPP) {
		forget_batch(tap);
		return sent + net_send_each(net, queue, frames + sent, count - sent, error);
	}
	if (sent < count)
		*error = failure(-*error);
	return sent;
}

/* All that is set here is the interface's, whichever of its files is asked. */
static int set_offload(struct net *net, unsigned int offloads)
{
	return ioctl(net->fds[0], TUNSETOFFLOAD, (unsigned long)offloads) < 0 ? -errno : 0;
}

static int set_filter(struct net *net, const uint8_t (*macs)[6], unsigned int count,
		      bool all_multicast)
{
	union {
		struct tun_filter filter;
		uint8_t bytes[sizeof(struct tun_filter) + FILTER_MACS_MAX * 6];
	} arg = {
		.filter.flags = all_multicast ? TUN_FLT_ALLMULTI : 0,
		.filter.count = (uint16_t)count,
	};

	if (count > FILTER_MACS_MAX) {
		arg.filter.count = count = 0;
		arg.filter.flags = 0;
	}
	if (count)
		memcpy(arg.bytes + sizeof(struct tun_filter), macs, count * sizeof(*macs));
	return ioctl(net->fds[0], TUNSETTXFILTER, &arg) < 0 ? -errno : 0;
}

static int set_queue(struct net *net, unsigned int queue, bool attached)
{
	struct ifreq req = { .ifr_flags = attached ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE };

	return ioctl(net->fds[queue], TUNSETQUEUE, &req) < 0 ? -errno : 0;
}

/* The kernel spreads flows over the queues attached, and learns from what is sent where. */
static int set_queues(struct net *net, unsigned int count)
{
	struct tap *tap = to_tap(net);
	unsigned int before = tap->attached;
	int r = 0;

	while (tap->attached > count)
		set_queue(net, --tap->attached, false); /* can only fail if it is so already */
	for (; !r && tap->attached < count; tap->attached += !r)
		r = set_queue(net, tap->attached, true);
	while (r && tap->attached > before)
		set_queue(net, --tap->attached, false);
	return r;
}

/* Where nothing can be heard of it, deleted or in another namespace, it is as it was. */
static bool link_up(struct net *net)
{
	struct tap *tap = to_tap(net);
	struct link_info link;

	if (tap->watch && link_watch_read(tap->watch, tap->index) &&
	    !link_get_index(tap->nl, tap->index, &link))
		tap->up = link.up && link.carrier;
	return tap->up;
}

/* The file of a TAP whose interface was deleted says so whatever it is asked. */
static bool gone(struct net *net)
{
	struct pollfd pfd = { .fd = net->fds[0] };

	return poll(&pfd, 1, 0) == 1 && pfd.revents & POLLERR;
}

/* An fd= may be of another network namespace, where a name or an index says nothing here. */
static void identify(const struct net *net, struct net_identity *out)
{
	const struct tap *tap = CONTAINER_OF(net, struct tap, net);
	struct ifreq req = { 0 };

	out->type = tap->nl ? "tap" : "fd";
	out->index = tap->index;
	if (!tap->nl && ioctl(net->fds[0], SIOCGIFHWADDR, &req) == 0)
		memcpy(out->address, req.ifr_hwaddr.sa_data, sizeof(out->address));
}

static void destroy(struct net *net)
{
	tap_destroy(to_tap(net));
}

static const struct net_ops tap_ops = {
	.send = send_frame,
	.recv = recv_frame,
	.send_many = send_many,
	.set_queues = set_queues,
	.set_offload = set_offload,
	.set_filter = set_filter,
	.link_up = link_up,
	.gone = gone,
	.identify = identify,
	.destroy = destroy,
};

int tap_create(struct tap **out)
{
	struct tap *tap = calloc(1, sizeof(*tap));

	if (!tap)
		return -ENOMEM;
	tap->net.ops = &tap_ops;
	tap->net.link_fd = -1;
	tap->up = true;
	*out = tap;
	return 0;
}

/* A persistent TAP keeps its settings: leave it as the next one expects a fresh one. */
static void put_back(struct tap *tap)
{
	int r;

	set_filter(&tap->net, NULL, 0, false);
	set_offload(&tap->net, 0);
	set_queues(&tap->net, tap->net.queue_count);
	ioctl(tap->net.fds[0], TUNSETVNETHDRSZ, &tap->vnet_hdr_bytes);
	if (!tap->restore.fields)
		return;
	r = link_set(tap->nl, tap->index, &tap->restore);
	if (r && r != -ENODEV)
		log_warn("tap %s: could not be put back as it was: %s", tap->net.ifname,
			 strerror(-r));
}

void tap_destroy(struct tap *tap)
{
	/* Closing deletes a TAP too, but only once nobody, a pending poll say, holds its file. */
	if (tap->created && tap->index)
		link_delete(tap->nl, tap->index);
	else if (!tap->created && tap->vnet_hdr_bytes)
		put_back(tap);
	vhost_close(&tap->net);
	for (unsigned int i = 0; !tap->keep_files && i < tap->net.queue_count; i++)
		close(tap->net.fds[i]);
	batch_destroy(tap->batch);
	link_disconnect(tap->watch);
	link_disconnect(tap->nl);
	free(tap);
}

int tap_open_file(void)
{
	int fd = open(TUN_PATH, O_RDWR | O_CLOEXEC | O_NONBLOCK);
	int r = -errno;

	if (fd >= 0)
		return fd;
	if (r == -ENOENT || r == -ENODEV || r == -ENXIO)
		log_error(TUN_PATH ": no such device (load the driver: modprobe tun)");
	else if (r == -EACCES || r == -EPERM)
		log_error(TUN_PATH ": permission denied (run as root; or pass an open TAP by fd=; or "
			  "do without one: --net user)");
	else
		log_error(TUN_PATH ": %s%s", strerror(-r), fd_remedy(-r));
	return r;
}

/* The most of what we know that this kernel knows. UDP came with 6.2. */
static unsigned int probe_offloads(struct net *net)
{
	static const unsigned int sets[] = {
		NET_OFFLOAD_CSUM | NET_OFFLOAD_TSO4 | NET_OFFLOAD_TSO6 | NET_OFFLOAD_ECN |
			NET_OFFLOAD_USO,
		NET_OFFLOAD_CSUM | NET_OFFLOAD_TSO4 | NET_OFFLOAD_TSO6 | NET_OFFLOAD_ECN,
		NET_OFFLOAD_CSUM,
	};

	for (unsigned int i = 0; i < ARRAY_LEN(sets); i++)
		if (!set_offload(net, sets[i]))
			return sets[i];
	return 0;
}

static int setup_file(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ||
	    fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
		return -errno;
	return 0;
}

static int setup_header(struct tap *tap)
{
	int hdr_bytes = sizeof(struct virtio_net_hdr_v1), old_bytes;
	int little_endian = 1;
	int fd = tap->net.fds[0];

	if (ioctl(fd, TUNGETVNETHDRSZ, &old_bytes) < 0 ||
	    ioctl(fd, TUNSETVNETHDRSZ, &hdr_bytes) < 0)
		return -errno;
	tap->vnet_hdr_bytes = old_bytes;
	/* A host of the other byte order is none of ours, but an adopted TAP may be set so. */
	ioctl(fd, TUNSETVNETLE, &little_endian);
	return 0;
}

int tap_setup(struct tap *tap, enum net_vhost vhost)
{
	int r = 0;

	for (unsigned int i = 0; !r && i < tap->net.queue_count; i++)
		r = setup_file(tap->net.fds[i]);
	if (!r)
		r = setup_header(tap);
	if (r) {
		log_error("tap %s: cannot set it up: %s", tap->net.ifname, strerror(-r));
		return r;
	}
	tap->attached = tap->net.queue_count;
	set_queue(&tap->net, 0, true); /* fails unless the caller had set it aside */
	set_queues(&tap->net, 1);
	tap->net.offloads = probe_offloads(&tap->net);
	set_offload(&tap->net, 0);
	return vhost_open(&tap->net, vhost);
}
