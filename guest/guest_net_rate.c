/* SPDX-License-Identifier: MIT */
/*
 * Frames for some cycles of the TSC, the next as soon as one is done: for tests/bench/guest_net,
 * and under other VMMs too. The driver does what Linux does, but polls: a header and a frame are
 * one buffer, and no kick the device does not ask for. Each line from the console is a job,
 *
 *	[echo] bytes=N depth=N cycles=N
 *
 * which a line answers, with what came of it in how many cycles. An empty one is the end. A frame
 * is done when the device has sent it, or, with "echo", when it has come back: the host returns
 * frames of the type ECHO, and drops others.
 */
#include <linux/virtio_net.h>

#include "guest/lib/cpu.h"
#include "guest/lib/guest.h"
#include "guest/lib/io.h"
#include "guest/lib/net.h"
#include "guest/lib/virtio.h"

#define DEPTH_MAX 256
#define BUFFER_BYTES 2048
#define HEADER_BYTES sizeof(struct virtio_net_hdr_v1)
#define FRAME_MIN 60
#define FRAME_MAX 1514
#define TYPE_AT 12
#define NUMBER_AT 14
#define ECHO 0xB588 /* as they lie in memory */
#define DROP 0xB688

static struct vdev dev;
static struct vqueue rx, tx;
static uint8_t *rx_data, *tx_data;
static uint16_t idle[DEPTH_MAX]; /* buffers to send from */
static unsigned int idle_count, unposted;
static uint32_t sent, returned; /* frames, of all jobs */
static unsigned int bytes;
static bool echo;

static void post(unsigned int i)
{
	struct vbuf buf = {rx_data + i * BUFFER_BYTES, BUFFER_BYTES};

	vqueue_chain(&rx, (uint16_t)i, &buf, 0, 1);
	vqueue_offer(&rx, (uint16_t)i);
}

static void send(void)
{
	uint16_t i = idle[--idle_count];
	uint8_t *packet = tx_data + i * BUFFER_BYTES;
	uint8_t *frame = packet + HEADER_BYTES;

	memset(packet, 0, HEADER_BYTES);
	*(uint16_t *)(frame + TYPE_AT) = echo ? ECHO : DROP;
	*(uint32_t *)(frame + NUMBER_AT) = sent++;
	vqueue_chain(&tx, i, &(struct vbuf){packet, (uint32_t)HEADER_BYTES + bytes}, 1, 0);
	vqueue_offer(&tx, i);
	vqueue_tell(&tx);
}

static void reap(void)
{
	struct vring_used_elem used;

	while (vqueue_poll(&tx, &used)) {
		CHECK(used.id < DEPTH_MAX && idle_count < DEPTH_MAX);
		idle[idle_count++] = (uint16_t)used.id;
	}
}

/* Buffers go back by halves, as Linux does. */
static void repost(unsigned int i)
{
	post(i);
	if (++unposted < rx.size / 2)
		return;
	unposted = 0;
	vqueue_tell(&rx);
}

static void receive(void)
{
	struct vring_used_elem used;

	while (vqueue_poll(&rx, &used)) {
		const uint8_t *frame = rx_data + used.id * BUFFER_BYTES + HEADER_BYTES;

		CHECK(used.id < rx.size && used.len >= HEADER_BYTES + FRAME_MIN);
		if (*(uint16_t *)(frame + TYPE_AT) == ECHO) {
			CHECK_EQ(used.len, HEADER_BYTES + bytes);
			CHECK_EQ(*(uint32_t *)(frame + NUMBER_AT), returned);
			returned++;
		}
		repost(used.id);
	}
}

static unsigned int in_flight(unsigned int depth)
{
	unsigned int sending = DEPTH_MAX - idle_count, away = echo ? sent - returned : 0;

	CHECK(away <= depth);
	return sending > away ? sending : away;
}

/* Returns when all are back. */
static void run(unsigned int depth, uint64_t until)
{
	uint64_t start = rdtsc(), now = start;

	while (now < until || in_flight(depth)) {
		uint32_t before = sent + returned;

		while (now < until && idle_count && in_flight(depth) < depth)
			send();
		reap();
		receive();
		if (before != sent + returned)
			start = now;
		now = rdtsc();
		CHECK(still_patient(start));
	}
}

static void do_job(void)
{
	unsigned int depth = (unsigned int)param("depth", 1);
	unsigned int kicks = tx.kicks + rx.kicks;
	uint32_t before = sent;
	uint64_t start;

	bytes = (unsigned int)param("bytes", FRAME_MIN);
	echo = flag("echo");
	CHECK(depth >= 1 && depth <= DEPTH_MAX && bytes >= FRAME_MIN && bytes <= FRAME_MAX);
	returned = sent;
	start = rdtsc();
	run(depth, start + param("cycles", 1000000000));
	print("cycles=%lu requests=%u kicks=%u\n", rdtsc() - start, sent - before,
	      tx.kicks + rx.kicks - kicks);
}

static void open_card(void)
{
	vdev_find(&dev, VIRTIO_NET, 0);
	vdev_begin(&dev, BIT(VIRTIO_NET_F_MRG_RXBUF) | BIT(VIRTIO_NET_F_GUEST_CSUM) |
				 BIT(VIRTIO_RING_F_EVENT_IDX) | BIT(VIRTIO_RING_F_INDIRECT_DESC));
	CHECK(dev.features & BIT(VIRTIO_NET_F_MRG_RXBUF));
	vqueue_init(&rx, &dev, 0, 0);
	vqueue_init(&tx, &dev, 1, 0);
	CHECK(tx.size >= DEPTH_MAX);
	rx_data = alloc(rx.size * BUFFER_BYTES, 4096);
	tx_data = alloc(DEPTH_MAX * BUFFER_BYTES, 4096);
	vdev_go(&dev);
	for (unsigned int i = 0; i < rx.size; i++)
		post(i);
	vqueue_tell(&rx);
	while (idle_count < DEPTH_MAX) {
		/* to whom the host has no route, from an address that is nobody's */
		memcpy(tx_data + idle_count * BUFFER_BYTES + HEADER_BYTES,
		       "\x02\0\0\0\0\x02\x02\0\0\0\0\x01", 12);
		idle[idle_count] = (uint16_t)idle_count;
		idle_count++;
	}
}

void guest_main(void)
{
	become_user();
	open_card();
	do_jobs(do_job);
}
