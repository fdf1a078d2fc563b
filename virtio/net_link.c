/* SPDX-License-Identifier: MIT */
/*
 * The link (5.1.4): up as long as the back end's is; gone for good with it. When it comes back
 * the network may have forgotten the guest, or be another one: so it is asked to announce itself
 * (5.1.6.5.4).
 *
 * A back end that is gone says so when frames are asked of it; but nobody asks while the kernel
 * moves them, or while the guest has no buffers. So the link's watch looks for that, too, or a
 * timer if the link has none.
 */
#include <errno.h>
#include <poll.h>

#include "util/log.h"
#include "virtio/net_impl.h"

#define GONE_PERIOD_MS 1000

static void set_status(struct virtio_net *net, uint16_t status)
{
	pthread_mutex_lock(&net->dev.lock);
	net->config.status = status;
	pthread_mutex_unlock(&net->dev.lock);
	counter_set(&net->live->link, !!(status & VIRTIO_NET_S_LINK_UP));
}

/* Only the loop writes it. */
static bool shown_up(const struct virtio_net *net)
{
	return net->config.status & VIRTIO_NET_S_LINK_UP;
}

void net_link_look(struct virtio_net *net)
{
	if (net->lost || !net->net->ops->gone || !net->net->ops->gone(net->net))
		return;
	net_lost(net);
	net_leave_kernel(net);
}

static bool nobody_asks(const struct virtio_net *net)
{
	bool starved = false;

	for (unsigned int i = 0; i < net->pairs_used; i++)
		starved |= net->pairs[i].rx.starved;
	return net->vhost || starved;
}

static void look_for_gone(void *arg)
{
	struct virtio_net *net = arg;

	net_link_look(net);
	if (net->lost || !nobody_asks(net))
		loop_watch_pause(net->dev.loop, net->gone_watch);
}

void net_link_doubt(struct virtio_net *net)
{
	if (net->gone_watch)
		loop_watch_resume(net->dev.loop, net->gone_watch);
}

static void look(void *arg)
{
	struct virtio_net *net = arg;
	bool up = net->net->ops->link_up(net->net);
	uint16_t status = up ? VIRTIO_NET_S_LINK_UP : 0;

	net_link_look(net);
	if (net->lost || up == shown_up(net))
		return;
	if (up && virtio_has(&net->dev, VIRTIO_NET_F_GUEST_ANNOUNCE))
		status |= VIRTIO_NET_S_ANNOUNCE;
	log_debug("%s: link %s, as %s is", net->dev.name, up ? "up" : "down", net->net->ifname);
	set_status(net, status);
	virtio_config_changed(&net->dev);
}

int net_link_start(struct virtio_net *net)
{
	struct loop *loop = net->dev.loop;

	if (net->net->link_fd < 0) {
		net->gone_watch = loop_watch_timer(loop, GONE_PERIOD_MS, look_for_gone, net);
		return net->gone_watch ? 0 : -ENOMEM;
	}
	net->link_watch = loop_watch_ready(loop, net->net->link_fd, POLLIN, look, net);
	if (!net->link_watch)
		return -ENOMEM;
	look(net);
	return 0;
}

void net_link_stop(struct virtio_net *net)
{
	loop_unwatch(net->dev.loop, net->link_watch);
	loop_unwatch(net->dev.loop, net->gone_watch);
	net->link_watch = net->gone_watch = NULL;
	set_status(net, net->config.status & VIRTIO_NET_S_LINK_UP);
}

void net_lost(struct virtio_net *net)
{
	if (net->lost)
		return;
	net->lost = true;
	/* The transmit queues go on, and drop. */
	for (unsigned int i = 0; i < net->pairs_used; i++)
		net_rx_stop(&net->pairs[i].rx);
	if (net->net->lost[0])
		log_warn("%s: %s: link down for the guest", net->dev.name, net->net->lost);
	else
		log_warn("%s: interface %s is gone: link down for the guest", net->dev.name,
			 net->net->ifname);
	set_status(net, 0);
	virtio_config_changed(&net->dev);
}

int net_announced(struct virtio_net *net)
{
	if (!(net->config.status & VIRTIO_NET_S_ANNOUNCE))
		return -EINVAL;
	set_status(net, net->config.status & (uint16_t)~VIRTIO_NET_S_ANNOUNCE);
	return 0;
}
