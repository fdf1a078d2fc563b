/* SPDX-License-Identifier: MIT */
/*
 * The link (5.1.4): up as long as the back end's is; gone for good with it. When it comes back
 * the network may have forgotten the guest, or be another one: so it is asked to announce itself
 * (5.1.6.5.4).
 */
#include <errno.h>
#include <poll.h>

#include "util/log.h"
#include "virtio/net_impl.h"

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

static void look(void *arg)
{
	struct virtio_net *net = arg;
	bool up = net->net->ops->link_up(net->net);
	uint16_t status = up ? VIRTIO_NET_S_LINK_UP : 0;

	net_vhost_look(net);
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
	if (net->net->link_fd < 0)
		return 0;
	net->link_watch = loop_watch_ready(net->dev.loop, net->net->link_fd, POLLIN, look, net);
	if (!net->link_watch)
		return -ENOMEM;
	look(net);
	return 0;
}

void net_link_stop(struct virtio_net *net)
{
	loop_unwatch(net->dev.loop, net->link_watch);
	net->link_watch = NULL;
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
