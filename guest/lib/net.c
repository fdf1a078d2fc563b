/* SPDX-License-Identifier: MIT */
#include "guest/lib/net.h"

#include "guest/lib/guest.h"
#include "guest/lib/io.h"

uint64_t net_features(unsigned int pairs)
{
	uint64_t features = BIT(VIRTIO_NET_F_MAC);

	if (flag("merge"))
		features |= BIT(VIRTIO_NET_F_MRG_RXBUF) | BIT(VIRTIO_NET_F_GUEST_CSUM);
	if (pairs > 1)
		features |= BIT(VIRTIO_NET_F_CTRL_VQ) | BIT(VIRTIO_NET_F_MQ);
	return features;
}

void net_ctrl_init(struct vqueue *ctrl, struct vdev *dev, unsigned int pairs)
{
	CHECK(dev->features & BIT(VIRTIO_NET_F_MQ));
	CHECK_EQ(read16(dev->config + offsetof(struct virtio_net_config, max_virtqueue_pairs)),
		 pairs);
	vqueue_init(ctrl, dev, (uint16_t)(2 * pairs), 0);
}

uint8_t net_command(struct vqueue *ctrl, const void *bytes, uint32_t len)
{
	static uint8_t command[16], ack;

	CHECK(len <= sizeof(command));
	memcpy(command, bytes, len);
	ack = 0xAA;
	vqueue_chain(ctrl, 0, (struct vbuf[]){{command, len}, {&ack, 1}}, 1, 1);
	vqueue_offer(ctrl, 0);
	vqueue_kick(ctrl);
	CHECK_EQ(vqueue_wait(ctrl).len, 1);
	return ack;
}

uint8_t net_set_pairs(struct vqueue *ctrl, unsigned int pairs)
{
	uint8_t bytes[] = {VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, (uint8_t)pairs,
			   (uint8_t)(pairs >> 8)};

	return net_command(ctrl, bytes, sizeof(bytes));
}
