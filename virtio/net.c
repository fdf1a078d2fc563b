/* SPDX-License-Identifier: MIT */
/*
 * The device as a whole: features, configuration space, life and link. A frame goes, header
 * and all, between guest memory and the back end in one system call; net_rx.c and net_tx.c say
 * how. The header (5.1.6) is made and checked by the host's kernel, which copies it once.
 *
 * A pair of virtqueues is a queue of the back end, which spreads the flows. The driver says how
 * many are in use (5.1.6.5.5), one at first; the rest are deaf: nothing is popped from them,
 * and the back end does not receive there. All are on the device's one loop: one after the
 * other, a turn each.
 *
 * Watches exist while they are in use, so that a reset has nothing to wait for but turns that
 * were deferred.
 */
#include "virtio/net.h"

#include <errno.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <string.h>

#include "util/log.h"
#include "util/util.h"
#include "virtio/net_impl.h"
#include "virtio/stats.h"

#define FEATURE(bit) (1ull << (bit))
#define NO_WATCH "no memory to watch the back end"
#define SKIPPED "a chain that vhost-net does not take"
/* Config space as far as the features offered define it. */
#define CONFIG_BYTES offsetof(struct virtio_net_config, rss_max_key_size)

/* What newer kernels say of a TAP (tun, since 6.2); nothing is as slow or as fast for it. */
#define SPEED_MBPS 10000
#define DUPLEX_FULL 1

static struct virtio_net *to_net(struct virtio_dev *dev)
{
	return CONTAINER_OF(dev, struct virtio_net, dev);
}

/* What the back end's offloads are as features: ours for the guest, and the guest's for us. */
static const struct {
	unsigned int offloads;
	uint64_t host, guest;
} offload_features[] = {
	{ NET_OFFLOAD_CSUM, FEATURE(VIRTIO_NET_F_CSUM), FEATURE(VIRTIO_NET_F_GUEST_CSUM) },
	{ NET_OFFLOAD_TSO4, FEATURE(VIRTIO_NET_F_HOST_TSO4), FEATURE(VIRTIO_NET_F_GUEST_TSO4) },
	{ NET_OFFLOAD_TSO6, FEATURE(VIRTIO_NET_F_HOST_TSO6), FEATURE(VIRTIO_NET_F_GUEST_TSO6) },
	{ NET_OFFLOAD_ECN, FEATURE(VIRTIO_NET_F_HOST_ECN), FEATURE(VIRTIO_NET_F_GUEST_ECN) },
	{ NET_OFFLOAD_USO, FEATURE(NET_F_HOST_USO),
	  FEATURE(NET_F_GUEST_USO4) | FEATURE(NET_F_GUEST_USO6) },
};

static uint64_t offered(const struct net *net)
{
	uint64_t features = FEATURE(VIRTIO_NET_F_MAC) | FEATURE(VIRTIO_NET_F_STATUS) |
			    FEATURE(VIRTIO_NET_F_MRG_RXBUF) | FEATURE(VIRTIO_NET_F_CTRL_VQ) |
			    FEATURE(VIRTIO_NET_F_CTRL_RX) | FEATURE(VIRTIO_NET_F_CTRL_MAC_ADDR) |
			    FEATURE(VIRTIO_NET_F_SPEED_DUPLEX);

	if (!net->vhost) /* the kernel filters by addresses alone */
		features |= FEATURE(VIRTIO_NET_F_CTRL_VLAN);
	if (net->link_fd >= 0)
		features |= FEATURE(VIRTIO_NET_F_GUEST_ANNOUNCE);
	if (net->queue_count > 1)
		features |= FEATURE(VIRTIO_NET_F_MQ);
	if (net->mtu >= 68 && net->mtu <= UINT16_MAX) /* 5.1.4.1 */
		features |= FEATURE(VIRTIO_NET_F_MTU);
	if (net->offloads)
		features |= FEATURE(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS);
	for (unsigned int i = 0; i < ARRAY_LEN(offload_features); i++)
		if ((net->offloads & offload_features[i].offloads) == offload_features[i].offloads)
			features |= offload_features[i].host | offload_features[i].guest;
	return features;
}

int net_set_guest_offloads(struct virtio_net *net, uint64_t bits)
{
	unsigned int offloads = 0;

	for (unsigned int i = 0; i < ARRAY_LEN(offload_features); i++)
		if ((bits & offload_features[i].guest) == offload_features[i].guest)
			offloads |= offload_features[i].offloads;
	/* All others need it (5.1.3.1), and the kernel thinks so too. */
	if (!(offloads & NET_OFFLOAD_CSUM))
		offloads = 0;
	return net->net->ops->set_offload(net->net, offloads);
}

uint64_t net_guest_offload_bits(void)
{
	uint64_t bits = 0;

	for (unsigned int i = 0; i < ARRAY_LEN(offload_features); i++)
		bits |= offload_features[i].guest;
	return bits;
}

static void config_read(struct virtio_dev *dev, size_t offset, void *data, size_t len)
{
	memcpy(data, (const uint8_t *)&to_net(dev)->config + offset, len);
}

unsigned int net_ctrl_queue(const struct virtio_net *net)
{
	return 2 * (virtio_has(&net->dev, VIRTIO_NET_F_MQ) ? net->pair_count : 1); /* 5.1.2 */
}

/* --- pairs --- */

static int start_pair(struct net_pair *pair)
{
	int r;

	if (net_vhost_start(pair))
		return 0;
	r = net_rx_start(&pair->rx);
	return r ? r : net_tx_start(&pair->tx);
}

/* False: the kernel had it, and skipped chains. */
static bool stop_pair(struct net_pair *pair)
{
	bool whole = net_vhost_stop(pair);

	net_rx_stop(&pair->rx);
	net_tx_stop(&pair->tx);
	return whole;
}

/* The driver's buffers may have been there, and kicked for, before. */
static void kick_pair(struct net_pair *pair)
{
	net_rx_kick(&pair->rx);
	net_tx_kick(&pair->tx);
}

static bool pairs_live(const struct virtio_net *net, unsigned int count)
{
	for (unsigned int i = 0; i < NET_QUEUE_RX(count); i++)
		if (!net->dev.queues[i].vq)
			return false;
	return true;
}

static int set_back_end_queues(struct virtio_net *net, unsigned int count)
{
	if (net->pair_count == 1 || net->lost)
		return 0;
	return net->net->ops->set_queues(net->net, count);
}

/* Those up to `count`, too. */
static int start_pairs(struct virtio_net *net, unsigned int count)
{
	unsigned int before = net->pairs_used, i;
	int r = 0;

	net->pairs_used = count;
	for (i = before; !r && i < count; i++)
		r = start_pair(&net->pairs[i]);
	for (i = before; !r && i < count; i++)
		kick_pair(&net->pairs[i]);
	if (r)
		net_broken(net, NO_WATCH);
	return r;
}

/* Those from `count` on. False as stop_pair. */
static bool stop_pairs(struct virtio_net *net, unsigned int count)
{
	bool whole = true;

	for (unsigned int i = count; i < net->pairs_used; i++)
		whole &= stop_pair(&net->pairs[i]);
	net->pairs_used = MIN(count, net->pairs_used);
	return whole;
}

int net_use_pairs(struct virtio_net *net, unsigned int count)
{
	unsigned int before = net->pairs_used;
	int refused, r;

	/* The command may be one of several, and those before may have broken it. */
	if (atomic_load(&net->dev.broken) || !pairs_live(net, count))
		return -EINVAL;
	/* First: the kernel hands back what it took ahead, and that must not come later. */
	if (!stop_pairs(net, count) && !net->lost) {
		net_broken(net, SKIPPED);
		return -EPROTO;
	}
	refused = set_back_end_queues(net, count);
	r = start_pairs(net, refused ? before : count);
	return refused ? refused : r;
}

void net_leave_kernel(struct virtio_net *net)
{
	unsigned int lent = 0;
	bool whole = true;

	net->vhost = false;
	for (unsigned int i = 0; i < net->pairs_used; i++) {
		lent |= (unsigned int)net->pairs[i].lent << i;
		whole &= net_vhost_stop(&net->pairs[i]);
	}
	if (!whole && !net->lost) {
		net_broken(net, SKIPPED);
		return;
	}
	/* None is in use any more once the device is broken. */
	for (unsigned int i = 0; i < net->pairs_used; i++)
		if (lent & 1u << i && start_pair(&net->pairs[i]))
			net_broken(net, NO_WATCH);
	for (unsigned int i = 0; i < net->pairs_used; i++)
		if (lent & 1u << i)
			kick_pair(&net->pairs[i]);
}

/* --- life --- */

static void activate(struct virtio_dev *dev)
{
	struct virtio_net *net = to_net(dev);
	int r;

	net_ctrl_reset(net);
	r = net_set_guest_offloads(net, dev->features);
	if (r)
		log_warn("%s: %s does not take the guest's offloads: %s", dev->name,
			 net->net->ifname, strerror(-r));
	for (unsigned int i = 0; i < net->pair_count; i++) {
		net_rx_init(&net->pairs[i].rx);
		net_tx_init(&net->pairs[i].tx);
	}
	net_vhost_init(net);
	net->pairs_used = 1;
	if (start_pair(&net->pairs[0]) || net_link_start(net))
		net_broken(net, NO_WATCH);
}

static void kick(struct virtio_dev *dev, unsigned int index)
{
	struct virtio_net *net = to_net(dev);

	if (index == net_ctrl_queue(net))
		net_ctrl_kick(net);
	else if (index / 2 >= net->pairs_used)
		return;
	else if (index == NET_QUEUE_RX(index / 2))
		net_rx_kick(&net->pairs[index / 2].rx);
	else
		net_tx_kick(&net->pairs[index / 2].tx);
}

static void quiesce(struct virtio_dev *dev)
{
	struct virtio_net *net = to_net(dev);

	stop_pairs(net, 0);
	net_vhost_finish(net);
	net_link_stop(net);
	set_back_end_queues(net, 1);
	net_ctrl_reset(net);
	if (!net->turns)
		virtio_quiesced(dev); /* else by the last of them */
}

static void irqs_moved(struct virtio_dev *dev)
{
	net_vhost_irqs_moved(to_net(dev));
}

static void count(struct virtio_dev *dev)
{
	dev->stats->frames = to_net(dev)->live;
	dev->stats->by_kernel = to_net(dev)->net->vhost;
}

static void destroy(struct virtio_dev *dev)
{
	virtio_dev_finish(dev);
	free(to_net(dev));
}

void net_broken(struct virtio_net *net, const char *why)
{
	stop_pairs(net, 0);
	virtio_broken(&net->dev, why);
}

static const struct virtio_ops net_virtio_ops = {
	.name = "net",
	.id = VIRTIO_ID_NET,
	.pci_class = 0x020000, /* Ethernet */
	.queue_size_max = NET_QUEUE_SIZE,
	.config_bytes = CONFIG_BYTES,
	.config_read = config_read,
	.activate = activate,
	.kick = kick,
	.irqs_moved = irqs_moved,
	.quiesce = quiesce,
	.count = count,
	.destroy = destroy,
};

static void init_pairs(struct virtio_net *vnet)
{
	for (unsigned int i = 0; i < vnet->pair_count; i++) {
		struct net_pair *pair = &vnet->pairs[i];

		pair->rx.net = pair->tx.net = vnet;
		pair->rx.pair = pair->tx.pair = i;
		pair->lent_rx = (struct net_lent){ .net = vnet, .queue = NET_QUEUE_RX(i) };
		pair->lent_tx = (struct net_lent){ .net = vnet, .queue = NET_QUEUE_TX(i) };
	}
}

int virtio_net_create(const char *name, struct loop *loop, const struct mem *mem, struct net *net,
		      const uint8_t mac[6], struct virtio_dev **out)
{
	unsigned int pairs = net->queue_count;
	/* The arrays of a queue's window stay untouched, and cost nothing, until used. */
	struct virtio_net *vnet = calloc(1, sizeof(*vnet) + pairs * sizeof(vnet->pairs[0]));
	int r;

	if (!vnet)
		return -ENOMEM;
	r = virtio_dev_init(&vnet->dev, &net_virtio_ops, name, loop, mem, offered(net),
			    2 * pairs + 1);
	if (r) {
		free(vnet);
		return r;
	}
	vnet->net = net;
	memcpy(vnet->own_mac, mac, sizeof(vnet->own_mac));
	memcpy(vnet->config.mac, mac, sizeof(vnet->config.mac));
	vnet->config.status = VIRTIO_NET_S_LINK_UP;
	vnet->config.max_virtqueue_pairs = (uint16_t)pairs;
	vnet->config.speed = SPEED_MBPS;
	vnet->config.duplex = DUPLEX_FULL;
	vnet->config.mtu = (uint16_t)MIN(net->mtu, UINT16_MAX);
	vnet->pair_count = pairs;
	init_pairs(vnet);
	virtio_net_share(&vnet->dev, &vnet->own);
	*out = &vnet->dev;
	return 0;
}

void virtio_net_share(struct virtio_dev *dev, struct run_nic_live *live)
{
	struct virtio_net *net = to_net(dev);

	net->live = live;
	counter_set(&live->mac, run_mac(net->config.mac));
	counter_set(&live->link, !!(net->config.status & VIRTIO_NET_S_LINK_UP));
	counter_set(&live->vhost_left, 0);
}
