/* SPDX-License-Identifier: MIT */
/* virtio-net: frames to the guest, into buffers of every kind. */
#include <stdio.h>

#include "net_driver.h"

static void receives_into_one_buffer(void **state)
{
	struct test *t = *state;

	start(t, 0);
	guest_offers(t, BUF_GPA, 1526);
	guest_offers(t, BUF_GPA + 4096, 1526);
	kick(t, RX);
	network_sends(t, 1, 100);
	guest_gets(t, 1, BUF_GPA, 100);
	assert_int_equal(at(t, BUF_GPA)[0], 0); /* no flags without GUEST_CSUM (5.1.6.4.1) */
	network_sends(t, 2, 1526);
	guest_gets(t, 2, BUF_GPA + 4096, 1526);
	assert_true(t->irqs[RX] > 0);
	assert_int_equal(stats(t).rx_frames, 2);
	assert_int_equal(stats(t).rx_bytes, 88 + 1514);
}

static void keeps_flags_the_guest_knows(void **state)
{
	struct test *t = *state;

	start(t, F(VIRTIO_NET_F_GUEST_CSUM));
	guest_offers(t, BUF_GPA, 1526);
	kick(t, RX);
	network_sends(t, 1, 100);
	guest_gets(t, 1, BUF_GPA, 100);
	assert_int_equal(at(t, BUF_GPA)[0], VIRTIO_NET_HDR_F_DATA_VALID);
}

static void drops_what_does_not_fit(void **state)
{
	struct test *t = *state;

	start(t, 0);
	guest_offers(t, BUF_GPA, 100);
	kick(t, RX);
	network_sends(t, 1, 101);
	network_sends(t, 2, 70000); /* longer than any frame */
	network_sends(t, 3, 20);    /* and shorter */
	network_sends(t, 4, 100);
	guest_gets(t, 4, BUF_GPA, 100); /* the same buffer, since none was used */
	assert_int_equal(stats(t).rx_dropped, 3);
	assert_int_equal(stats(t).rx_frames, 1);
}

static void header_over_many_descriptors(void **state)
{
	struct ring_buf bufs[] = { { BUF_GPA, 1 }, { BUF_GPA + 1, 9 }, { BUF_GPA + 10, 1 },
				   { BUF_GPA + 11, 1 }, { BUF_GPA + 12, 2000 } };
	struct test *t = *state;

	start(t, F(VIRTIO_NET_F_MRG_RXBUF));
	ring_add(&t->rings[RX], bufs, 0, 5);
	kick(t, RX);
	network_sends(t, 1, 500);
	guest_gets(t, 1, BUF_GPA, 500);
}

/* Buffers of any size, frames of any size: each frame is complete and in its own buffers. */
struct merge {
	struct test *t;
	uint64_t gpa[64]; /* by head */
	uint32_t len[64];
	unsigned int slot, offered;
};

static void offer_odd(struct merge *m)
{
	while (m->t->rings[RX].free_count) {
		uint32_t len = (uint32_t)(rand() % 8 ? 1 + rand() % 700 : 1 + rand() % 12);
		uint64_t gpa = BUF_GPA + (m->slot++ % 128) * 1024;
		uint16_t head = ring_add(&m->t->rings[RX], (struct ring_buf[]){ { gpa, len } }, 0, 1);

		m->gpa[head] = gpa;
		m->len[head] = len;
	}
	kick(m->t, RX);
}

static void get_merged(struct merge *m, unsigned int seed, size_t len)
{
	static uint8_t frame[70000];
	unsigned int buffers = 0;
	size_t got = 0;

	while (got < len) {
		struct ring_elem elem = wait_used(m->t, RX);

		assert_true(elem.len <= m->len[elem.id]);
		assert_true(elem.len == m->len[elem.id] || got + elem.len == len);
		memcpy(frame + got, at(m->t, m->gpa[elem.id]), elem.len);
		got += elem.len;
		buffers++;
		if (rand() % 4 == 0 || m->t->rings[RX].free_count == 64)
			offer_odd(m);
	}
	assert_int_equal(got, len);
	assert_int_equal(frame[10] | frame[11] << 8, buffers);
	for (unsigned int i = HDR; i < len; i++)
		if (frame[i] != pattern(seed, i))
			fail_msg("frame %u of %zu: byte %u differs", seed, len, i);
}

static void merge_with(struct test *t, uint64_t features)
{
	struct merge m = { .t = t };

	srand(1);
	start(t, features | F(VIRTIO_NET_F_MRG_RXBUF));
	offer_odd(&m);
	for (unsigned int i = 0; i < 1500; i++) {
		size_t len = (size_t)(26 + (rand() % 3 ? rand() % 1500 : rand() % 8000));

		network_sends(t, i, len);
		get_merged(&m, i, len);
	}
	assert_int_equal(stats(t).rx_dropped, 0);
	assert_int_equal(stats(t).rx_frames, 1500);
}

static void merges_odd_buffers(void **state)
{
	merge_with(*state, F(VIRTIO_RING_F_EVENT_IDX));
}

static void merges_odd_buffers_for_segments(void **state)
{
	merge_with(*state, F(VIRTIO_NET_F_GUEST_CSUM) | F(VIRTIO_NET_F_GUEST_TSO4));
}

static void waits_for_the_rest_of_a_frame(void **state)
{
	struct test *t = *state;
	static uint8_t frame[6000];
	size_t got = 0;

	start(t, F(VIRTIO_NET_F_MRG_RXBUF) | F(VIRTIO_RING_F_EVENT_IDX));
	for (unsigned int i = 0; i < 2; i++)
		guest_offers(t, BUF_GPA + i * 1024, 1000);
	kick(t, RX);
	network_sends(t, 7, 5500);
	none_used(t, RX);
	for (unsigned int i = 2; i < 6; i++) { /* one at a time: 6000 in all */
		none_used(t, RX);
		guest_offers(t, BUF_GPA + i * 1024, 1000);
		kick(t, RX);
	}
	for (unsigned int i = 0; i < 6; i++) {
		uint32_t len = wait_used(t, RX).len;

		memcpy(frame + got, at(t, BUF_GPA + i * 1024), len);
		got += len;
	}
	assert_int_equal(got, 5500);
	assert_int_equal(frame[10], 6);
	for (unsigned int i = HDR; i < got; i++)
		assert_int_equal(frame[i], pattern(7, i));
	assert_int_equal(stats(t).rx_dropped, 0);
}

static void forgets_a_waiting_frame_at_reset(void **state)
{
	struct test *t = *state;

	start(t, F(VIRTIO_NET_F_MRG_RXBUF));
	guest_offers(t, BUF_GPA, 1000);
	kick(t, RX);
	network_sends(t, 1, 3000);
	none_used(t, RX);
	reset(t);
	start(t, F(VIRTIO_NET_F_MRG_RXBUF));
	guest_offers(t, BUF_GPA, 4096);
	guest_offers(t, BUF_GPA + 4096, 4096);
	kick(t, RX);
	none_used(t, RX);
	network_sends(t, 2, 200);
	guest_gets(t, 2, BUF_GPA, 200);
}

static void drops_what_the_ring_cannot_hold(void **state)
{
	struct test *t = *state;

	start_sized(t, F(VIRTIO_NET_F_MRG_RXBUF), 4);
	for (unsigned int i = 0; i < 4; i++)
		guest_offers(t, BUF_GPA + i * 1024, 100);
	kick(t, RX);
	network_sends(t, 1, 401);
	network_sends(t, 2, 90);
	guest_gets(t, 2, BUF_GPA, 90);
	assert_int_equal(stats(t).rx_dropped, 1);
}

/* 64 chains of 64 descriptors of one byte: more pieces than one readv takes. */
static void survives_dust(void **state)
{
	struct test *t = *state;
	unsigned int buffers;

	start_sized(t, F(VIRTIO_NET_F_MRG_RXBUF) | F(VIRTIO_RING_F_INDIRECT_DESC) |
		       F(VIRTIO_NET_F_GUEST_CSUM) | F(VIRTIO_NET_F_GUEST_TSO4), 64);
	for (unsigned int i = 0; i < 64; i++) {
		struct ring_buf bufs[64];

		for (unsigned int j = 0; j < 64; j++)
			bufs[j] = (struct ring_buf){ BUF_GPA + i * 64 + j, 1 };
		ring_add_indirect(&t->rings[RX], 0x80000 + i * 1024, bufs, 0, 64);
	}
	kick(t, RX);
	network_sends(t, 1, 2000); /* cannot fit into 1023 */
	network_sends(t, 2, 900);
	for (buffers = 0; buffers < 15; buffers++)
		assert_int_equal(wait_used(t, RX).len, buffers < 14 ? 64 : 900 - 14 * 64);
	assert_int_equal(at(t, BUF_GPA)[10], 15);
	for (unsigned int i = HDR; i < 900; i++)
		assert_int_equal(at(t, BUF_GPA)[i], pattern(2, i));
	/* What was popped and did not fit was not lost: 49 chains are left, each of them good. */
	for (unsigned int i = 0; i < 49; i++) {
		network_sends(t, i, 50);
		assert_int_equal(wait_used(t, RX).len, 50);
	}
	assert_int_equal(stats(t).rx_dropped, 1);
}

static void ignores_buffers_to_read(void **state)
{
	struct test *t = *state;
	struct ring_buf bufs[] = { { BUF_GPA, 50 }, { BUF_GPA + 1024, 1526 } };

	start(t, 0);
	ring_add(&t->rings[RX], bufs, 1, 0); /* no use at all: returned */
	ring_add(&t->rings[RX], bufs, 1, 1); /* only the second is for us */
	kick(t, RX);
	network_sends(t, 1, 100);
	assert_int_equal(wait_used(t, RX).len, 0);
	guest_gets(t, 1, BUF_GPA + 1024, 100);
}

/* A guest that never gives buffers costs nothing; when it does, all goes on. */
static void sleeps_without_buffers(void **state)
{
	struct test *t = *state;
	start(t, F(VIRTIO_RING_F_EVENT_IDX));
	network_sends(t, 1, 100);
	network_sends(t, 2, 200);
	settle(t);
	sleeps(t);
	guest_offers(t, BUF_GPA, 1526);
	kick(t, RX);
	guest_gets(t, 1, BUF_GPA, 100);
	none_used(t, RX);
	guest_offers(t, BUF_GPA, 1526);
	kick(t, RX);
	guest_gets(t, 2, BUF_GPA, 200);
}

static void link_goes_down(struct test *t)
{
	for (int i = 0; i < 5000 && link_status(t); i++)
		usleep(1000);
	settle(t);
	assert_int_equal(link_status(t), 0);
	assert_int_equal(t->config_irqs, 1);
	sleeps(t);
}

/* With no buffers nothing is asked of the back end, by which it could say that it is gone. */
static void notices_the_end_without_buffers(void **state)
{
	struct test *t = *state;

	start(t, 0);
	network_sends(t, 1, 100);
	settle(t);
	atomic_store(&t->fake.gone, true);
	fake_net_set_link(&t->fake, true);
	link_goes_down(t);
	guest_offers(t, BUF_GPA, 1526);
	virtio_kick(t->dev, RX);
	none_used(t, RX);
	reset(t);
	start(t, 0);
	assert_int_equal(link_status(t), 0);
}

static void notices_the_end_without_a_link(void **state)
{
	struct test *t = *state;
	int link_fd = t->fake.net.link_fd;

	t->fake.net.link_fd = -1;
	start(t, 0);
	usleep(1100000); /* long enough to have stopped looking */
	network_sends(t, 1, 100);
	settle(t);
	assert_int_equal(link_status(t), VIRTIO_NET_S_LINK_UP);
	atomic_store(&t->fake.gone, true);
	link_goes_down(t);
	reset(t);
	t->fake.net.link_fd = link_fd;
}

/* A network that has its next frame ready whenever one was read, until the last, a long one. */
static struct {
	struct test *t;
	unsigned int left;
} burst;

static void burst_sends(void)
{
	if (!burst.left)
		return;
	burst.left--;
	network_sends(burst.t, burst.left, burst.left ? 100 : 3000);
}

static ssize_t burst_recv(struct net *net, unsigned int queue, const struct iovec *iov,
			  unsigned int iovcnt)
{
	ssize_t len = fake_net_recv(net, queue, iov, iovcnt);

	if (len > 0)
		burst_sends();
	return len;
}

static const struct net_ops burst_ops = {
	.send = fake_net_send,
	.recv = burst_recv,
	.set_offload = fake_net_set_offload,
	.set_filter = fake_net_set_filter,
	.link_up = fake_net_link_up,
	.destroy = fake_net_destroy,
};

/* The last frame of a turn finds too few buffers: the guest's refill must bring the rest. */
static void last_frame_of_a_turn_waits_for_buffers(void **state)
{
	struct test *t = *state;

	t->fake.net.ops = &burst_ops;
	start(t, F(VIRTIO_NET_F_MRG_RXBUF) | F(VIRTIO_RING_F_EVENT_IDX));
	for (unsigned int i = 0; i < 64; i++)
		guest_offers(t, BUF_GPA + i * 1024, 1000);
	burst.t = t;
	burst.left = 64; /* NET_BUDGET */
	burst_sends();
	for (unsigned int i = 0; i < 63; i++)
		assert_int_equal(wait_used(t, RX).len, 100);
	none_used(t, RX);
	guest_offers(t, BUF_GPA + 64 * 1024, 1000);
	guest_offers(t, BUF_GPA + 65 * 1024, 1000);
	kick(t, RX);
	for (unsigned int i = 0; i < 3; i++)
		assert_int_equal(wait_used(t, RX).len, 1000);
	assert_int_equal(at(t, BUF_GPA + 63 * 1024)[10], 3);
	assert_int_equal(stats(t).rx_dropped, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(receives_into_one_buffer),
		TEST(keeps_flags_the_guest_knows),
		TEST(drops_what_does_not_fit),
		TEST(header_over_many_descriptors),
		TEST(merges_odd_buffers),
		TEST(merges_odd_buffers_for_segments),
		TEST(waits_for_the_rest_of_a_frame),
		TEST(forgets_a_waiting_frame_at_reset),
		TEST(drops_what_the_ring_cannot_hold),
		TEST(survives_dust),
		TEST(ignores_buffers_to_read),
		TEST(sleeps_without_buffers),
		TEST(notices_the_end_without_buffers),
		TEST(notices_the_end_without_a_link),
		TEST(last_frame_of_a_turn_waits_for_buffers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
