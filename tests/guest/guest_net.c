/* SPDX-License-Identifier: MIT */
/*
 * Sends each frame of the experimental Ethernet type back to where it came from, until it has
 * sent frames=N; others it drops. Prints its address first.
 */
#include <linux/virtio_net.h>

#include "tests/guest/lib/cpu.h"
#include "tests/guest/lib/guest.h"
#include "tests/guest/lib/io.h"
#include "tests/guest/lib/virtio.h"

#define RX 0
#define TX 1
#define BUFFERS 64
#define BUFFER_BYTES 2048
#define HEADER_BYTES sizeof(struct virtio_net_hdr_v1)
#define FRAME_MIN 60

static struct vdev dev;
static struct vqueue rx, tx;
static uint8_t *rx_data, *tx_data;
static bool tx_busy[BUFFERS];

static void post(unsigned int i)
{
	vqueue_chain(&rx, (uint16_t)i, &(struct vbuf){rx_data + i * BUFFER_BYTES, BUFFER_BYTES}, 0,
		     1);
	vqueue_offer(&rx, (uint16_t)i);
}

static void reap(void)
{
	struct vring_used_elem used;

	while (vqueue_poll(&tx, &used)) {
		CHECK(used.id < BUFFERS && tx_busy[used.id]);
		tx_busy[used.id] = false;
	}
}

static unsigned int free_buffer(void)
{
	static unsigned int next;
	uint64_t start = rdtsc();

	next = (next + 1) % BUFFERS;
	while (tx_busy[next]) {
		CHECK(still_patient(start));
		reap();
	}
	return next;
}

static void send_back(const uint8_t *packet, uint32_t len)
{
	unsigned int i = free_buffer();
	uint8_t *to = tx_data + i * BUFFER_BYTES;
	const uint8_t *frame = packet + HEADER_BYTES;

	memset(to, 0, HEADER_BYTES);
	memcpy(to + HEADER_BYTES, frame + 6, 6);
	memcpy(to + HEADER_BYTES + 6, frame, 6);
	memcpy(to + HEADER_BYTES + 12, frame + 12, len - HEADER_BYTES - 12);
	tx_busy[i] = true;
	vqueue_chain(&tx, (uint16_t)i, &(struct vbuf){to, len}, 1, 0);
	vqueue_offer(&tx, (uint16_t)i);
	vqueue_kick(&tx);
}

static bool is_ours(const uint8_t *packet, uint32_t len)
{
	const uint8_t *type = packet + HEADER_BYTES + 12;

	return len >= HEADER_BYTES + FRAME_MIN && type[0] == 0x88 && type[1] == 0xB5;
}

static void echo(uint64_t frames)
{
	uint64_t start = rdtsc();

	while (frames) {
		struct vring_used_elem used;
		uint8_t *packet;

		if (!vqueue_poll(&rx, &used)) {
			CHECK(still_patient(start));
			continue;
		}
		start = rdtsc();
		CHECK(used.id < BUFFERS);
		CHECK(used.len >= HEADER_BYTES && used.len <= BUFFER_BYTES);
		packet = rx_data + used.id * BUFFER_BYTES;
		if (is_ours(packet, used.len)) {
			send_back(packet, used.len);
			frames--;
		}
		post(used.id);
		vqueue_kick(&rx);
	}
	for (unsigned int i = 0; i < BUFFERS; i++)
		free_buffer(); /* all are out */
}

void guest_main(void)
{
	become_user();
	rx_data = alloc(BUFFERS * BUFFER_BYTES, 4096);
	tx_data = alloc(BUFFERS * BUFFER_BYTES, 4096);
	vdev_find(&dev, VIRTIO_NET, 0);
	vdev_begin(&dev, BIT(VIRTIO_NET_F_MAC));
	vqueue_init(&rx, &dev, RX, 0);
	vqueue_init(&tx, &dev, TX, 0);
	vdev_go(&dev);
	for (unsigned int i = 0; i < BUFFERS; i++)
		post(i);
	vqueue_kick(&rx);
	print("mac ");
	for (unsigned int i = 0; i < 6; i++)
		print("%02x%c", read8(dev.config + i), i < 5 ? ':' : '\n');
	echo(param("frames", 0));
}
