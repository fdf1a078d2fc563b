/* SPDX-License-Identifier: MIT */
/*
 * virtio-net against a hostile driver: chains of any shape on all queues of two pairs, bytes over
 * rings, frames and commands while they are used, resets at any time, a network that sends
 * anything of any length. As long as the driver itself only kept the rules, what the
 * first pair receives adds up: used lengths in ring order, num_buffers, and each frame whole.
 */
#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <stdlib.h>

#include "../unit/fake_loop.h"
#include "../unit/fake_net.h"
#include "../unit/ring.h"
#include "script.h"
#include "util/log.h"
#include "virtio/device.h"
#include "virtio/net.h"

#define RAM KIB(256)
#define SIZE 16
#define PAIRS 2
#define QUEUES (2 * PAIRS + 1)
#define TABLES 0x2000
#define BUFS 0x4800
#define BUFS_MAX 6
#define HDR 12
#define FRAME_MAX (SIZE * 6000 + 4096)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

struct target {
	struct loop loop;
	struct mem mem;
	struct ring rings[QUEUES];
	struct fake_net fake;
	struct virtio_dev *dev;
	unsigned int ctrl; /* the control queue, as negotiated */
	bool mergeable;
	bool honest; /* the driver kept the rules since the start */
	/* receive buffers by head, while honest */
	uint64_t gpa[SIZE];
	uint32_t len[SIZE];
	uint16_t next_frame, last_frame; /* numbers: sent, received */
};

static uint8_t scratch[FRAME_MAX];

static void demand(bool condition)
{
	if (!condition)
		abort();
}

static void ignore_queue(void *owner, unsigned int queue)
{
}

static void ignore(void *owner)
{
}

static void start(struct target *t, uint8_t refused)
{
	/* GUEST_CSUM, GUEST_TSO4, MRG_RXBUF, CTRL_RX, CTRL_MAC_ADDR, INDIRECT, EVENT_IDX, MQ */
	static const uint8_t bits[] = {1, 7, 15, 18, 23, 28, 29, 22};
	uint64_t features = t->dev->offered, gpa = 0x100;

	for (unsigned int i = 0; i < ARRAY_LEN(bits); i++)
		if (refused >> i & 1)
			features &= ~(1ull << bits[i]);
	t->mergeable = features >> VIRTIO_NET_F_MRG_RXBUF & 1;
	t->ctrl = features >> VIRTIO_NET_F_MQ & 1 ? QUEUES - 1 : 2;
	t->honest = true;
	virtio_set_status(t->dev, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
	virtio_set_driver_features(t->dev, 0, (uint32_t)features);
	virtio_set_driver_features(t->dev, 1, (uint32_t)(features >> 32));
	virtio_set_status(t->dev, VIRTIO_CONFIG_S_FEATURES_OK);
	for (unsigned int i = 0; i < QUEUES; i++) {
		gpa = ring_init(&t->rings[i], &t->mem, SIZE, gpa);
		t->rings[i].event_idx = features >> VIRTIO_RING_F_EVENT_IDX & 1;
		t->rings[i].indirect = features >> VIRTIO_RING_F_INDIRECT_DESC & 1;
		t->dev->queues[i].config = ring_config(&t->rings[i]);
		t->dev->queues[i].enabled = true;
	}
	virtio_set_status(t->dev, VIRTIO_CONFIG_S_DRIVER_OK);
	fake_loop_turn(&t->loop);
}

/* Turns of the loop until nothing happens any more; it must not go on for ever. */
static void settle(struct target *t)
{
	for (unsigned int i = 0; i < 8; i++) {
		fake_loop_turn(&t->loop);
		for (unsigned int j = 0; j < PAIRS; j++)
			while (read(t->fake.peers[j], scratch, sizeof(scratch)) > 0)
				;
	}
}

static void reset(struct target *t)
{
	virtio_set_status(t->dev, 0);
	fake_loop_turn(&t->loop);
	demand(virtio_get_status(t->dev) == 0);
	demand(!t->loop.deferred && !t->loop.posted);
}

static void add_chain(struct target *t, struct script *script)
{
	uint8_t queue = script_u8(script) % QUEUES;
	uint8_t shape = script_u8(script);
	unsigned int out_count = shape % 4, in_count = shape / 4 % 4;
	struct ring *ring = &t->rings[queue];
	struct ring_buf bufs[BUFS_MAX];
	bool direct = !ring->indirect || !(shape & 0x80);

	if (out_count + in_count == 0 || ring->free_count < out_count + in_count)
		return;
	for (unsigned int i = 0; i < out_count + in_count; i++) {
		uint16_t len = script_u16(script);

		bufs[i].gpa = BUFS + len % KIB(64);
		bufs[i].len = (len >> 12) % 4 ? 1 + len % 4096 : 1 + len % 64;
	}
	/* All that a guest's mistake is not held against: bytes at odd places. */
	t->honest = t->honest && queue % 2 && queue < 2 * PAIRS;
	if (direct)
		ring_add(ring, bufs, out_count, in_count);
	else
		ring_add_indirect(ring, TABLES + queue * 0x800 + 0x80 * ring->free_head, bufs,
				  out_count, in_count);
}

/* A receive buffer of its own, so that what arrives can be checked. */
static void add_buffer(struct target *t, struct script *script)
{
	struct ring *ring = &t->rings[0];
	struct ring_buf buf = {.len = 1 + script_u16(script) % 6000};
	uint16_t head;

	if (!ring->free_count || !t->honest)
		return;
	buf.gpa = 0x20000 + ring->free_head * 6000ull;
	head = ring_add(ring, &buf, 0, 1);
	t->gpa[head] = buf.gpa;
	t->len[head] = buf.len;
}

static void add_command(struct target *t, struct script *script)
{
	static const uint8_t classes[][2] = {{0, 0}, {0, 1}, {1, 0}, {1, 1}, {5, 0}, {4, 0},
					     {2, 0}, {2, 1}, {3, 0}};
	struct ring *ring = &t->rings[t->ctrl];
	struct ring_buf bufs[] = {{BUFS, script_u8(script)}, {BUFS + 0x1000, 1}};
	uint8_t bytes[256];

	script_bytes(script, bytes, 32);
	memset(bytes + 32, 0, sizeof(bytes) - 32);
	memcpy(bytes, classes[bytes[0] % ARRAY_LEN(classes)], 2);
	mem_write(&t->mem, BUFS, bytes, sizeof(bytes));
	if (bufs[0].len && ring->free_count >= 2)
		ring_add(ring, bufs, 1, 1);
}

/* Frames are full of their own number. */
static uint8_t frame_byte(uint16_t number, size_t i)
{
	return (uint8_t)(i % 2 ? number >> 8 : number);
}

static void send_from_network(struct target *t, struct script *script)
{
	uint32_t len = script_u16(script);
	uint8_t bits = script_u8(script);
	unsigned int pair = bits >> 1 & 1;

	len += bits & 1 ? 5000 : 0;
	for (uint32_t i = 0; i < len; i++)
		scratch[i] = i < HDR ? 0 : frame_byte(t->next_frame, i);
	if (len && write(t->fake.peers[pair], scratch, len) == (ssize_t)len && pair == 0)
		t->next_frame++;
}

/* Take one frame off the ring; true if there was one. */
static bool take_frame(struct target *t)
{
	struct ring_elem elem;
	unsigned int buffers = 0, wanted = 1;
	size_t got = 0;
	uint16_t number;

	while (buffers < wanted) {
		if (!ring_used(&t->rings[0], &elem)) {
			demand(buffers == 0); /* frames are published whole */
			return false;
		}
		demand(elem.id < SIZE && elem.len && elem.len <= t->len[elem.id]);
		demand(buffers + 1 >= wanted || got + elem.len < HDR ||
		       elem.len == t->len[elem.id]);
		mem_read(&t->mem, t->gpa[elem.id], scratch + got, elem.len);
		got += elem.len;
		buffers++;
		/* num_buffers may itself lie over several. */
		wanted = got < HDR ? buffers + 1 : scratch[10] | (unsigned int)scratch[11] << 8;
	}
	demand(buffers == wanted && got >= HDR + 14);
	demand(t->mergeable || buffers == 1);
	number = (uint16_t)(scratch[HDR] | scratch[HDR + 1] << 8);
	for (size_t i = HDR; i < got; i++)
		demand(scratch[i] == frame_byte(number, i));
	demand((uint16_t)(number - t->last_frame) < 0x8000); /* in order; some may be lost */
	t->last_frame = number;
	return true;
}

static void take_used(struct target *t)
{
	struct ring_elem elem;

	if (t->honest)
		while (take_frame(t))
			;
	for (unsigned int i = t->honest ? 1 : 0; i < QUEUES; i++)
		while (t->rings[i].free_count < SIZE && ring_used(&t->rings[i], &elem))
			;
}

static void write_raw(struct target *t, struct script *script)
{
	uint64_t gpa = script_u16(script) % 0x5800;
	uint8_t bytes[8];

	t->honest = false;
	script_bytes(script, bytes, sizeof(bytes));
	mem_write(&t->mem, gpa, bytes, sizeof(bytes));
}

static void kick(struct target *t, unsigned int queue)
{
	virtio_kick(t->dev, queue);
	fake_loop_turn(&t->loop);
}

static void offer_any(struct target *t, struct script *script)
{
	uint8_t queue = script_u8(script) % QUEUES;

	t->honest = false;
	ring_offer(&t->rings[queue], script_u8(script) % (SIZE + 1));
}

static void disturb_link(struct target *t, uint8_t how)
{
	if (how == 0xee)
		atomic_store(&t->fake.gone, true);
	else
		fake_net_set_link(&t->fake, how & 1);
}

static void step(struct target *t, struct script *script)
{
	switch (script_u8(script) % 12) {
	case 0:
		write_raw(t, script);
		break;
	case 1:
		offer_any(t, script);
		break;
	case 2:
		kick(t, script_u8(script) % QUEUES);
		break;
	case 3:
		settle(t);
		break;
	case 4:
		take_used(t);
		break;
	case 5:
		reset(t);
		start(t, script_u8(script));
		break;
	case 6: /* a reset that nobody waits for, and a start that comes too early */
		virtio_set_status(t->dev, 0);
		start(t, script_u8(script));
		t->honest = false;
		break;
	case 7:
		add_command(t, script);
		break;
	case 8:
		disturb_link(t, script_u8(script));
		break;
	case 9:
		add_chain(t, script);
		break;
	case 10:
		add_buffer(t, script);
		kick(t, 0);
		break;
	default:
		send_from_network(t, script);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static const uint8_t mac[6] = {2, 0, 0, 0, 0, 1};
	struct script script = {data, len};
	struct target *t = calloc(1, sizeof(*t));

	demand(t != NULL);
	log_set_level(LOG_LEVEL_ERROR);
	fake_loop_init(&t->loop);
	guest_init(&t->mem, RAM, 0);
	demand(fake_net_init(&t->fake, PAIRS) == 0);
	demand(virtio_net_create("net0", &t->loop, &t->mem, &t->fake.net, mac, &t->dev) == 0);
	t->dev->transport = (struct virtio_transport){
		.queue_irq = ignore_queue, .config_irq = ignore, .owner = t};
	start(t, script_u8(&script));
	while (script.left)
		step(t, &script);
	settle(t);
	take_used(t);
	reset(t);
	virtio_dev_destroy(t->dev);
	net_close(&t->fake.net);
	guest_finish(&t->mem);
	free(t);
	return 0;
}
