/* SPDX-License-Identifier: MIT */
/*
 * virtio-net on a real loop in its own thread, over a pair of sockets; the test that includes
 * this is the driver on one side and the network on the other.
 */
#pragma once

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "fake_net.h"
#include "ring.h"
#include "util/log.h"
#include "util/loop.h"
#include "util/run_live.h"
#include "virtio/device.h"
#include "virtio/net.h"

#define HDR 12
#define F(bit) (1ull << (bit))
#define RING_GPA 0x1000
#define BUF_GPA 0x100000
#define RAM_BYTES MIB(4)

/* Queues of the first pair; with one pair there is nothing else. */
enum { RX, TX, CTRL };
#define RX_OF(pair) ((int)(2 * (pair)))
#define TX_OF(pair) ((int)(2 * (pair) + 1))
#define RINGS_MAX (2 * NET_QUEUES_MAX + 1)

struct test {
	struct mem mem;
	struct loop *loop;
	struct fake_net fake;
	struct run_nic_live live;
	struct virtio_dev *dev;
	struct ring rings[RINGS_MAX];
	int ctrl; /* as negotiated */
	atomic_uint irqs[RINGS_MAX], config_irqs;
};

static const uint8_t mac[6] = { 2, 0, 0, 0, 0, 1 };

static inline void queue_irq(void *owner, unsigned int queue)
{
	atomic_fetch_add(&((struct test *)owner)->irqs[queue], 1);
}

static inline void config_irq(void *owner)
{
	atomic_fetch_add(&((struct test *)owner)->config_irqs, 1);
}

static inline int setup_pairs(void **state, unsigned int pairs)
{
	struct test *t = calloc(1, sizeof(*t));

	log_set_level(LOG_LEVEL_ERROR);
	guest_init(&t->mem, RAM_BYTES, 0);
	assert_int_equal(fake_net_init(&t->fake, pairs), 0);
	assert_int_equal(loop_create("net", &t->loop), 0);
	assert_int_equal(virtio_net_create("net0", t->loop, &t->mem, &t->fake.net, mac, &t->dev), 0);
	virtio_net_share(t->dev, &t->live);
	t->dev->transport =
		(struct virtio_transport){ .queue_irq = queue_irq, .config_irq = config_irq,
					   .owner = t };
	assert_int_equal(loop_start(t->loop), 0);
	*state = t;
	return 0;
}

static inline int setup(void **state)
{
	return setup_pairs(state, 1);
}

static inline int teardown(void **state)
{
	struct test *t = *state;

	virtio_dev_stop(t->dev);
	loop_stop(t->loop);
	virtio_dev_destroy(t->dev);
	net_close(&t->fake.net);
	loop_destroy(t->loop);
	guest_finish(&t->mem);
	free(t);
	return 0;
}

static inline void nothing(void *arg)
{
}

/* What the loop had to do when this was called is done when it returns, twice over. */
static inline void settle(struct test *t)
{
	for (int i = 0; i < 4; i++)
		loop_call_wait(t->loop, nothing, NULL);
}

static inline void start_sized(struct test *t, uint64_t features, uint16_t size)
{
	uint64_t gpa = RING_GPA;

	features |= F(VIRTIO_F_VERSION_1);
	virtio_set_status(t->dev, 1);
	virtio_set_status(t->dev, 3);
	virtio_set_driver_features(t->dev, 0, (uint32_t)features);
	virtio_set_driver_features(t->dev, 1, (uint32_t)(features >> 32));
	virtio_set_status(t->dev, 11);
	assert_int_equal(virtio_get_status(t->dev), 11);
	t->ctrl = features & F(VIRTIO_NET_F_MQ) ? (int)t->dev->nqueues - 1 : CTRL;
	for (unsigned int i = 0; i < t->dev->nqueues; i++) {
		gpa = align_up(ring_init(&t->rings[i], &t->mem, size, gpa), 16);
		t->rings[i].event_idx = features & F(VIRTIO_RING_F_EVENT_IDX);
		t->rings[i].indirect = features & F(VIRTIO_RING_F_INDIRECT_DESC);
		t->dev->queues[i].config = ring_config(&t->rings[i]);
		t->dev->queues[i].enabled = true;
	}
	assert_true(gpa < BUF_GPA);
	virtio_set_status(t->dev, 15);
	settle(t);
}

static inline void start(struct test *t, uint64_t features)
{
	start_sized(t, features, 64);
}

static inline void reset(struct test *t)
{
	virtio_set_status(t->dev, 0);
	for (int i = 0; i < 5000 && virtio_get_status(t->dev); i++)
		usleep(1000);
	assert_int_equal(virtio_get_status(t->dev), 0);
}

/* Kick if the device wants that, as a driver does. */
static inline void kick(struct test *t, int queue)
{
	if (ring_wants_kick(&t->rings[queue]))
		virtio_kick(t->dev, (unsigned int)queue);
}

static inline struct ring_elem wait_used(struct test *t, int queue)
{
	struct ring_elem elem = { 0 };

	for (int i = 0; i < 50000; i++) {
		if (ring_used(&t->rings[queue], &elem))
			return elem;
		usleep(100);
	}
	fail_msg("nothing used in time");
	return elem;
}

static inline void none_used(struct test *t, int queue)
{
	struct ring_elem elem;

	settle(t);
	assert_false(ring_used(&t->rings[queue], &elem));
}

static inline void loop_cpu_us(void *arg)
{
	struct rusage usage;

	getrusage(RUSAGE_THREAD, &usage);
	*(long *)arg = (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000 +
		       usage.ru_utime.tv_usec + usage.ru_stime.tv_usec;
}

/* The loop waits, and does not try on and on. */
static inline void sleeps(struct test *t)
{
	long before, after;

	settle(t);
	loop_call_wait(t->loop, loop_cpu_us, &before);
	usleep(100000);
	loop_call_wait(t->loop, loop_cpu_us, &after);
	assert_true(after - before < 20000);
}

static inline uint8_t *at(struct test *t, uint64_t gpa)
{
	return mem_at(&t->mem, gpa, 1);
}

struct net_stats {
	uint64_t rx_frames, rx_bytes, rx_dropped, rx_filtered;
	uint64_t tx_frames, tx_bytes, tx_dropped;
	uint64_t ctrl_commands, ctrl_refused;
};

/* What is counted once the loop has done what it had to. */
static inline struct net_stats stats(struct test *t)
{
	loop_call_wait(t->loop, nothing, NULL);
	return (struct net_stats){
		.rx_frames = counter_get(&t->live.rx.frames),
		.rx_bytes = counter_get(&t->live.rx.bytes),
		.rx_dropped = counter_get(&t->live.rx.dropped),
		.rx_filtered = counter_get(&t->live.rx_filtered),
		.tx_frames = counter_get(&t->live.tx.frames),
		.tx_bytes = counter_get(&t->live.tx.bytes),
		.tx_dropped = counter_get(&t->live.tx.dropped),
		.ctrl_commands = counter_get(&t->live.ctrl_commands),
		.ctrl_refused = counter_get(&t->live.ctrl_refused),
	};
}

static inline uint16_t link_status(struct test *t)
{
	uint16_t status;

	virtio_config_read(t->dev, offsetof(struct virtio_net_config, status), &status, 2);
	return status;
}

static inline uint8_t pattern(unsigned int seed, unsigned int i)
{
	return (uint8_t)(seed * 31 + i * 7 + i / 256);
}

/* A frame from the network: `len` bytes with the header. */
static inline void network_sends_to(struct test *t, unsigned int pair, unsigned int seed,
				    size_t len)
{
	static uint8_t frame[70000];
	struct pollfd pfd = { .fd = t->fake.peers[pair], .events = POLLOUT };

	memset(frame, 0, HDR);
	frame[0] = VIRTIO_NET_HDR_F_DATA_VALID;
	frame[10] = frame[11] = 0xee; /* num_buffers is ours to set */
	for (unsigned int i = HDR; i < len; i++)
		frame[i] = pattern(seed, i);
	while (write(pfd.fd, frame, len) < 0) {
		assert_int_equal(errno, EAGAIN);
		assert_int_equal(poll(&pfd, 1, 5000), 1);
	}
}

static inline void network_sends(struct test *t, unsigned int seed, size_t len)
{
	network_sends_to(t, 0, seed, len);
}

/* Put a frame of `len` bytes at `gpa`, and offer it in pieces of `piece` bytes. */
static inline void guest_sends_by(struct test *t, unsigned int pair, unsigned int seed,
				  uint64_t gpa, size_t len, size_t piece)
{
	struct ring_buf bufs[64];
	unsigned int count = 0;

	memset(at(t, gpa), 0, MIN(len, HDR));
	for (unsigned int i = HDR; i < len; i++)
		at(t, gpa)[i] = pattern(seed, i);
	for (size_t done = 0; done < len; done += bufs[count++].len)
		bufs[count] = (struct ring_buf){ gpa + done, (uint32_t)MIN(piece, len - done) };
	ring_add(&t->rings[TX_OF(pair)], bufs, count, 0);
}

static inline void guest_sends(struct test *t, unsigned int seed, uint64_t gpa, size_t len,
			       size_t piece)
{
	guest_sends_by(t, 0, seed, gpa, len, piece);
}

static inline void network_gets_from(struct test *t, unsigned int pair, unsigned int seed,
				     size_t len)
{
	static uint8_t frame[70000];

	assert_int_equal(fake_net_sent(&t->fake, pair, frame, sizeof(frame)), len);
	for (unsigned int i = HDR; i < len; i++)
		if (frame[i] != pattern(seed, i))
			fail_msg("byte %u differs", i);
}

static inline void network_gets(struct test *t, unsigned int seed, size_t len)
{
	network_gets_from(t, 0, seed, len);
}

static inline void guest_offers_to(struct test *t, unsigned int pair, uint64_t gpa, uint32_t len)
{
	ring_add(&t->rings[RX_OF(pair)], (struct ring_buf[]){ { gpa, len } }, 0, 1);
}

static inline void guest_offers(struct test *t, uint64_t gpa, uint32_t len)
{
	guest_offers_to(t, 0, gpa, len);
}

/* A frame in one buffer. */
static inline void guest_gets_from(struct test *t, unsigned int pair, unsigned int seed,
				   uint64_t gpa, size_t len)
{
	struct ring_elem elem = wait_used(t, RX_OF(pair));

	assert_int_equal(elem.len, len);
	assert_int_equal(at(t, gpa)[10] | at(t, gpa)[11] << 8, 1);
	for (unsigned int i = HDR; i < len; i++)
		if (at(t, gpa)[i] != pattern(seed, i))
			fail_msg("byte %u differs", i);
}

static inline void guest_gets(struct test *t, unsigned int seed, uint64_t gpa, size_t len)
{
	guest_gets_from(t, 0, seed, gpa, len);
}

static inline int command(struct test *t, const void *data, uint32_t len)
{
	struct ring_buf bufs[] = { { BUF_GPA, len }, { BUF_GPA + 0x10000, 1 } };
	struct ring_elem elem;

	memcpy(at(t, BUF_GPA), data, len);
	*at(t, BUF_GPA + 0x10000) = 0xaa;
	ring_add(&t->rings[t->ctrl], bufs, 1, 1);
	kick(t, t->ctrl);
	elem = wait_used(t, t->ctrl);
	assert_int_equal(elem.len, 1);
	return *at(t, BUF_GPA + 0x10000);
}

#define CTRL_FEATURES                                                                              \
	(F(VIRTIO_NET_F_CTRL_VQ) | F(VIRTIO_NET_F_CTRL_RX) | F(VIRTIO_NET_F_CTRL_MAC_ADDR) |       \
	 F(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS) | F(VIRTIO_NET_F_GUEST_CSUM) |                        \
	 F(VIRTIO_NET_F_GUEST_TSO4))

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
