/* SPDX-License-Identifier: MIT */
/*
 * Sends each frame for its address back to where it came from, by the queues it came by, until it
 * has sent frames=N; others it drops. With pairs=N it first asks for so many. Prints its address
 * when it is ready, and at the end what each pair sent. With "stay" it waits for ever. With "odd"
 * one of the frames it sends has a part for the device to write to. With "once" it uses each of its
 * buffers for one frame only.
 */
#include <linux/virtio_net.h>

#include "guest/lib/cpu.h"
#include "guest/lib/guest.h"
#include "guest/lib/io.h"
#include "guest/lib/net.h"
#include "guest/lib/virtio.h"

#define BUFFERS 64
#define BUFFER_BYTES 2048
#define HEADER_BYTES sizeof(struct virtio_net_hdr_v1)
#define FRAME_MIN 60
#define ODD 50

struct pair {
	struct vqueue rx, tx;
	uint8_t *rx_data, *tx_data, odd[1];
	bool tx_busy[BUFFERS];
	unsigned int next, sent;
};

static struct vdev dev;
static struct pair pairs[NET_PAIRS_MAX];
static unsigned int pair_count;
static uint8_t mac[6];

static void post(struct pair *pair, unsigned int i)
{
	struct vbuf buf = {pair->rx_data + i * BUFFER_BYTES, BUFFER_BYTES};

	vqueue_chain(&pair->rx, (uint16_t)i, &buf, 0, 1);
	vqueue_offer(&pair->rx, (uint16_t)i);
}

static void reap(struct pair *pair)
{
	struct vring_used_elem used;

	while (vqueue_poll(&pair->tx, &used)) {
		CHECK(used.id < 2 * BUFFERS && pair->tx_busy[used.id / 2]);
		pair->tx_busy[used.id / 2] = false;
	}
}

static unsigned int free_buffer(struct pair *pair)
{
	uint64_t start = rdtsc();

	pair->next = (pair->next + 1) % BUFFERS;
	while (pair->tx_busy[pair->next]) {
		CHECK(still_patient(start));
		reap(pair);
	}
	return pair->next;
}

static void send_back(struct pair *pair, const uint8_t *packet, uint32_t len)
{
	unsigned int i = free_buffer(pair);
	uint8_t *to = pair->tx_data + i * BUFFER_BYTES;
	bool odd = pair->sent == ODD && flag("odd");
	const uint8_t *frame = packet + HEADER_BYTES;

	memset(to, 0, HEADER_BYTES);
	memcpy(to + HEADER_BYTES, frame + 6, 6);
	memcpy(to + HEADER_BYTES + 6, frame, 6);
	memcpy(to + HEADER_BYTES + 12, frame + 12, len - HEADER_BYTES - 12);
	pair->tx_busy[i] = true;
	pair->sent++;
	vqueue_chain(&pair->tx, (uint16_t)(2 * i), (struct vbuf[]){{to, len}, {pair->odd, 1}}, 1,
		     odd);
	vqueue_offer(&pair->tx, (uint16_t)(2 * i));
	vqueue_kick(&pair->tx);
}

static bool is_ours(const uint8_t *packet, uint32_t len)
{
	return len >= HEADER_BYTES + FRAME_MIN && !memcmp(packet + HEADER_BYTES, mac, 6);
}

/* One frame, if there is one; true if it was sent back. */
static bool echo_one(struct pair *pair)
{
	struct vring_used_elem used;
	uint8_t *packet;
	bool ours;

	if (!vqueue_poll(&pair->rx, &used))
		return false;
	CHECK(used.id < BUFFERS);
	CHECK(used.len >= HEADER_BYTES && used.len <= BUFFER_BYTES);
	packet = pair->rx_data + used.id * BUFFER_BYTES;
	ours = is_ours(packet, used.len);
	if (ours)
		send_back(pair, packet, used.len);
	if (!flag("once"))
		post(pair, used.id);
	vqueue_kick(&pair->rx);
	return ours;
}

static void echo(uint64_t frames)
{
	uint64_t start = rdtsc();
	bool stay = flag("stay");

	while (frames) {
		bool any = false;

		for (unsigned int i = 0; i < pair_count && frames; i++) {
			bool sent = echo_one(&pairs[i]);

			frames -= sent;
			any |= sent;
		}
		if (any)
			start = rdtsc();
		CHECK(stay || still_patient(start));
	}
	for (unsigned int i = 0; i < pair_count; i++)
		for (unsigned int j = 0; j < BUFFERS; j++)
			free_buffer(&pairs[i]); /* all are out */
}

static void open_pair(struct pair *pair, unsigned int index)
{
	pair->rx_data = alloc(BUFFERS * BUFFER_BYTES, 4096);
	pair->tx_data = alloc(BUFFERS * BUFFER_BYTES, 4096);
	vqueue_init(&pair->rx, &dev, (uint16_t)(2 * index), 0);
	vqueue_init(&pair->tx, &dev, (uint16_t)(2 * index + 1), 0);
}

static void open_pairs(void)
{
	struct vqueue ctrl;

	vdev_find(&dev, VIRTIO_NET, 0);
	vdev_begin(&dev, net_features(pair_count));
	if (pair_count > 1)
		net_ctrl_init(&ctrl, &dev, pair_count);
	for (unsigned int i = 0; i < pair_count; i++)
		open_pair(&pairs[i], i);
	vdev_go(&dev);
	for (unsigned int i = 0; i < pair_count; i++) {
		for (unsigned int j = 0; j < BUFFERS; j++)
			post(&pairs[i], j);
		vqueue_kick(&pairs[i].rx);
	}
	if (pair_count > 1)
		CHECK_EQ(net_set_pairs(&ctrl, pair_count), VIRTIO_NET_OK);
}

void guest_main(void)
{
	become_user();
	pair_count = (unsigned int)param("pairs", 1);
	CHECK(pair_count && pair_count <= NET_PAIRS_MAX);
	open_pairs();
	print("mac ");
	for (unsigned int i = 0; i < 6; i++) {
		mac[i] = read8(dev.config + i);
		print("%02x%c", mac[i], i < 5 ? ':' : '\n');
	}
	echo(param("frames", 0));
	for (unsigned int i = 0; i < pair_count; i++)
		print("pair %u sent %u\n", i, pairs[i].sent);
}
