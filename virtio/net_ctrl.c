/* SPDX-License-Identifier: MIT */
/* The control queue (5.1.6.5): receive filter, address, VLANs, announcing, queue pairs,
 * offloads. */
#include <errno.h>
#include <linux/virtio_net.h>
#include <string.h>

#include "util/util.h"
#include "virtio/net_impl.h"

/* Both tables of MAC_TABLE_SET with far more addresses than we keep. */
#define COMMAND_BYTES_MAX 4096

/* A command, copied out of guest memory; `data` is what follows its class and number. */
struct command {
	struct virtio_net_ctrl_hdr hdr;
	const uint8_t *data;
	size_t len;
	bool cut; /* longer than we read */
};

static const uint8_t broadcast[6] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };

/* The filter only saves work (5.1.6.5.1: best effort): where it fails, every frame passes. */
static void apply_filter(struct virtio_net *net)
{
	struct net_filter *filter = &net->filter;
	unsigned int count = filter->count + 2;

	counter_set(&net->live->promiscuous, filter->promisc || filter->overflow);
	counter_set(&net->live->all_multicast, filter->all_multicast);
	counter_set(&net->live->filter_macs, filter->count);
	if (!net->net->ops->set_filter)
		return;
	memcpy(filter->macs[0], net->config.mac, 6); /* only the loop writes it */
	memcpy(filter->macs[1], broadcast, 6);
	if (filter->promisc || filter->overflow)
		count = 0;
	net->net->ops->set_filter(net->net, (const uint8_t (*)[6])filter->macs, count,
				  filter->all_multicast);
}

static void change_mac(struct virtio_net *net, const uint8_t mac[6])
{
	pthread_mutex_lock(&net->dev.lock);
	memcpy(net->config.mac, mac, 6);
	pthread_mutex_unlock(&net->dev.lock);
	counter_set(&net->live->mac, run_mac(mac));
}

void net_ctrl_reset(struct virtio_net *net)
{
	change_mac(net, net->own_mac);
	net->filter = (struct net_filter){ .promisc = true };
	apply_filter(net);
}

static int set_rx_mode(struct virtio_net *net, const struct command *command)
{
	if (command->len != 1)
		return -EINVAL;
	if (command->hdr.cmd == VIRTIO_NET_CTRL_RX_PROMISC)
		net->filter.promisc = command->data[0];
	else if (command->hdr.cmd == VIRTIO_NET_CTRL_RX_ALLMULTI)
		net->filter.all_multicast = command->data[0];
	else
		return -EINVAL; /* RX_EXTRA is not offered */
	apply_filter(net);
	return 0;
}

/* Two tables, unicast then multicast, each a 32-bit count and that many addresses. */
static int set_mac_table(struct virtio_net *net, const struct command *command)
{
	struct net_filter table = net->filter;
	size_t at = 0;

	table.count = 0;
	table.overflow = command->cut;
	for (unsigned int i = 0; i < 2 && !table.overflow; i++) {
		uint32_t count;

		if (command->len - at < sizeof(count))
			return -EINVAL;
		memcpy(&count, command->data + at, sizeof(count));
		at += sizeof(count);
		if (count > (command->len - at) / 6)
			return -EINVAL;
		if (count > NET_MACS_MAX - table.count) {
			table.overflow = true;
			break;
		}
		memcpy(table.macs[2 + table.count], command->data + at, (size_t)count * 6);
		table.count += count;
		at += (size_t)count * 6;
	}
	net->filter = table;
	apply_filter(net);
	return 0;
}

static int set_mac(struct virtio_net *net, const struct command *command)
{
	if (command->len != 6 || command->data[0] & 1 || !memcmp(command->data, "\0\0\0\0\0", 6))
		return -EINVAL;
	change_mac(net, command->data);
	apply_filter(net);
	return 0;
}

static int set_offloads(struct virtio_net *net, const struct command *command)
{
	uint64_t bits;

	if (command->hdr.cmd != VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET || command->len != sizeof(bits))
		return -EINVAL;
	memcpy(&bits, command->data, sizeof(bits));
	/* Only receive offloads that were negotiated (5.1.6.5.6.2). */
	if (bits & ~(net->dev.features & net_guest_offload_bits()))
		return -EINVAL;
	return net_set_guest_offloads(net, bits);
}

/* Tags are filtered only where the driver says which it wants: none at first (5.1.6.5.3). */
static int set_vlan(struct virtio_net *net, const struct command *command)
{
	uint16_t vlan;
	uint64_t bit;

	if (command->len != sizeof(vlan))
		return -EINVAL;
	memcpy(&vlan, command->data, sizeof(vlan));
	if (vlan >= 4096)
		return -EINVAL;
	bit = 1ull << vlan % 64;
	if (command->hdr.cmd == VIRTIO_NET_CTRL_VLAN_ADD)
		net->filter.vlans[vlan / 64] |= bit;
	else if (command->hdr.cmd == VIRTIO_NET_CTRL_VLAN_DEL)
		net->filter.vlans[vlan / 64] &= ~bit;
	else
		return -EINVAL;
	return 0;
}

/* 0 is no VLAN: such a tag only has a priority. */
bool net_vlan_wanted(const struct virtio_net *net, uint16_t vlan)
{
	return vlan == 0 || net->filter.promisc || net->filter.vlans[vlan / 64] >> vlan % 64 & 1;
}

static int acknowledge(struct virtio_net *net, const struct command *command)
{
	if (command->hdr.cmd != VIRTIO_NET_CTRL_ANNOUNCE_ACK || command->len)
		return -EINVAL;
	return net_announced(net);
}

static int set_pairs(struct virtio_net *net, const struct command *command)
{
	uint16_t count;

	if (command->hdr.cmd != VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET || command->len != sizeof(count))
		return -EINVAL;
	memcpy(&count, command->data, sizeof(count));
	if (count < VIRTIO_NET_CTRL_MQ_VQ_PAIRS_MIN || count > net->pair_count)
		return -EINVAL;
	return net_use_pairs(net, count);
}

static int run_command(struct virtio_net *net, const struct command *command)
{
	const struct virtio_dev *dev = &net->dev;

	switch (command->hdr.class) {
	case VIRTIO_NET_CTRL_RX:
		if (virtio_has(dev, VIRTIO_NET_F_CTRL_RX))
			return set_rx_mode(net, command);
		break;
	case VIRTIO_NET_CTRL_MAC:
		if (command->hdr.cmd == VIRTIO_NET_CTRL_MAC_TABLE_SET &&
		    virtio_has(dev, VIRTIO_NET_F_CTRL_RX))
			return set_mac_table(net, command);
		if (command->hdr.cmd == VIRTIO_NET_CTRL_MAC_ADDR_SET &&
		    virtio_has(dev, VIRTIO_NET_F_CTRL_MAC_ADDR))
			return set_mac(net, command);
		break;
	case VIRTIO_NET_CTRL_VLAN:
		if (virtio_has(dev, VIRTIO_NET_F_CTRL_VLAN))
			return set_vlan(net, command);
		break;
	case VIRTIO_NET_CTRL_ANNOUNCE:
		if (virtio_has(dev, VIRTIO_NET_F_GUEST_ANNOUNCE))
			return acknowledge(net, command);
		break;
	case VIRTIO_NET_CTRL_MQ:
		if (virtio_has(dev, VIRTIO_NET_F_MQ))
			return set_pairs(net, command);
		break;
	case VIRTIO_NET_CTRL_GUEST_OFFLOADS:
		if (virtio_has(dev, VIRTIO_NET_F_CTRL_GUEST_OFFLOADS))
			return set_offloads(net, command);
		break;
	}
	return -EINVAL;
}

/* Gather up to `size` bytes of the chain's readable part. */
static size_t copy_out(const struct vq_chain *chain, uint8_t *buf, size_t size)
{
	size_t len = 0;

	for (unsigned int i = 0; i < chain->out_count && len < size; i++) {
		size_t part = MIN(chain->iov[i].iov_len, size - len);

		memcpy(buf + len, chain->iov[i].iov_base, part);
		len += part;
	}
	return len;
}

static void handle(struct virtio_net *net, const struct vq_chain *chain)
{
	uint8_t buf[COMMAND_BYTES_MAX];
	size_t len = copy_out(chain, buf, sizeof(buf));
	struct command command = { .cut = chain->out_bytes > sizeof(buf) };
	int r = -EINVAL;

	if (len >= sizeof(command.hdr)) {
		memcpy(&command.hdr, buf, sizeof(command.hdr));
		command.data = buf + sizeof(command.hdr);
		command.len = len - sizeof(command.hdr);
		r = run_command(net, &command);
	}
	counter_add(&net->live->ctrl_commands, 1);
	if (r)
		counter_add(&net->live->ctrl_refused, 1);
	if (chain->in_count)
		*(uint8_t *)chain->iov[chain->out_count].iov_base =
			r ? VIRTIO_NET_ERR : VIRTIO_NET_OK;
	vq_push(net->dev.queues[net_ctrl_queue(net)].vq, chain->head, chain->in_count ? 1 : 0);
}

/* As many as the ring holds at most; what comes meanwhile is awaited. */
void net_ctrl_kick(struct virtio_net *net)
{
	unsigned int queue = net_ctrl_queue(net);
	struct virtqueue *vq = net->dev.queues[queue].vq;
	struct vq_chain chain;
	int r;

	vq_disarm(vq);
	while ((r = vq_pop(vq, &chain)) == 1)
		handle(net, &chain);
	virtio_publish(&net->dev, queue);
	if (r < 0)
		net_broken(net, vq_error(vq));
	else
		virtio_await(&net->dev, queue);
}
