/* SPDX-License-Identifier: MIT */
/*
 * Resets with frames on their way by pairs=N pairs, both ways: once the status reads 0 the device
 * writes no more to memory (virtio 1.2, 2.4.1), and it works again afterwards. Between the resets
 * it does what it should not: uses pairs that are not in use, gives no buffers, sends what is no
 * frame. The runner floods it meanwhile.
 */
#include <linux/virtio_net.h>

#include "guest/lib/cpu.h"
#include "guest/lib/guest.h"
#include "guest/lib/net.h"
#include "guest/lib/virtio.h"

#define ROUNDS 60
#define DEPTH 32
#define BYTES 2048
#define MARK 0x5A
#define FRAME_BYTES (sizeof(struct virtio_net_hdr_v1) + 64)

struct pair {
	struct vqueue rx, tx;
	uint8_t *rx_data, *tx_data;
};

static struct vdev dev;
static struct vqueue ctrl;
static struct pair pairs[NET_PAIRS_MAX];
static unsigned int pair_count;

static void open_queues(void)
{
	vdev_begin(&dev, net_features(pair_count));
	net_ctrl_init(&ctrl, &dev, pair_count);
	for (unsigned int i = 0; i < pair_count; i++) {
		vqueue_init(&pairs[i].rx, &dev, (uint16_t)(2 * i), 0);
		vqueue_init(&pairs[i].tx, &dev, (uint16_t)(2 * i + 1), 0);
	}
	vdev_go(&dev);
}

static void offer_buffers(struct pair *pair)
{
	for (unsigned int i = 0; i < DEPTH; i++) {
		struct vbuf buf = {pair->rx_data + i * BYTES, BYTES};

		vqueue_chain(&pair->rx, (uint16_t)i, &buf, 0, 1);
		vqueue_offer(&pair->rx, (uint16_t)i);
	}
	vqueue_kick(&pair->rx);
}

/* Broadcasts; every third is too short, or has a header that the kernel refuses. */
static void send_frames(struct pair *pair)
{
	for (unsigned int i = 0; i < DEPTH; i++) {
		uint8_t *packet = pair->tx_data + i * BYTES;
		struct vbuf buf = {packet, i % 3 == 1 ? 20 : FRAME_BYTES};

		memset(packet, 0, FRAME_BYTES);
		memset(packet + sizeof(struct virtio_net_hdr_v1), 0xFF, 6);
		packet[sizeof(struct virtio_net_hdr_v1) + 6] = 2;
		packet[1] = i % 3 == 2 ? 0x7F : 0; /* gso_type */
		vqueue_chain(&pair->tx, (uint16_t)i, &buf, 1, 0);
		vqueue_offer(&pair->tx, (uint16_t)i);
	}
	vqueue_kick(&pair->tx);
}

static void mark(void)
{
	for (unsigned int i = 0; i < pair_count; i++)
		memset(pairs[i].rx_data, MARK, DEPTH * BYTES);
}

static void check_marks(const uint16_t *used)
{
	for (unsigned int i = 0; i < pair_count; i++) {
		CHECK_EQ(pairs[i].rx.used->idx, used[2 * i]);
		CHECK_EQ(pairs[i].tx.used->idx, used[2 * i + 1]);
		for (unsigned int j = 0; j < DEPTH * BYTES; j++)
			if (pairs[i].rx_data[j] != MARK)
				fail("byte %u of pair %u was written after the reset", j, i);
	}
}

static void traffic(unsigned int round)
{
	unsigned int in_use = 1 + round % pair_count;

	CHECK_EQ(net_set_pairs(&ctrl, pair_count + 1), VIRTIO_NET_ERR);
	CHECK_EQ(net_set_pairs(&ctrl, 0), VIRTIO_NET_ERR);
	CHECK_EQ(net_set_pairs(&ctrl, in_use), VIRTIO_NET_OK);
	for (unsigned int i = 0; i < pair_count; i++) {
		if ((round + i) % 4)
			offer_buffers(&pairs[i]);
		send_frames(&pairs[i]);
	}
	/* at different depths of what is under way */
	for (unsigned int i = 0; i < round * 500; i++)
		pause();
	for (unsigned int i = in_use; i < pair_count; i++) {
		CHECK_EQ(pairs[i].rx.used->idx, 0);
		CHECK_EQ(pairs[i].tx.used->idx, 0);
	}
}

static void reset_and_look(void)
{
	uint16_t used[2 * NET_PAIRS_MAX];

	vdev_reset(&dev);
	mark();
	for (unsigned int i = 0; i < pair_count; i++) {
		used[2 * i] = pairs[i].rx.used->idx;
		used[2 * i + 1] = pairs[i].tx.used->idx;
	}
	for (unsigned int i = 0; i < 20000; i++)
		pause();
	check_marks(used);
}

void guest_main(void)
{
	unsigned int received = 0;

	become_user();
	pair_count = (unsigned int)param("pairs", 1);
	CHECK(pair_count > 1 && pair_count <= NET_PAIRS_MAX);
	for (unsigned int i = 0; i < pair_count; i++) {
		pairs[i].rx_data = alloc(DEPTH * BYTES, 4096);
		pairs[i].tx_data = alloc(DEPTH * BYTES, 4096);
	}
	vdev_find(&dev, VIRTIO_NET, 0);
	print("ready\n");
	for (unsigned int round = 0; round < ROUNDS; round++) {
		open_queues();
		traffic(round);
		received += pairs[0].rx.used->idx;
		reset_and_look();
	}
	/* Good as new. */
	open_queues();
	CHECK_EQ(net_set_pairs(&ctrl, pair_count), VIRTIO_NET_OK);
	for (unsigned int i = 0; i < pair_count; i++) {
		send_frames(&pairs[i]);
		for (unsigned int j = 0; j < DEPTH; j++)
			vqueue_wait(&pairs[i].tx);
	}
	CHECK(received);
	print("%u received\n", received);
}
