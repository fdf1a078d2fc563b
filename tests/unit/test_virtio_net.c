/* SPDX-License-Identifier: MIT */
/* virtio-net: what it offers, frames from the guest, resets and the end of a link. */
#include "net_driver.h"

static void offers_what_the_back_end_can(void **state)
{
	struct test *t = *state;
	struct virtio_dev *plain;
	struct fake_net poor;
	uint64_t offloads = F(VIRTIO_NET_F_CSUM) | F(VIRTIO_NET_F_GUEST_CSUM) |
			    F(VIRTIO_NET_F_HOST_TSO4) | F(VIRTIO_NET_F_GUEST_TSO6) | F(54) | F(56);
	uint64_t always = F(VIRTIO_NET_F_MAC) | F(VIRTIO_NET_F_STATUS) |
			  F(VIRTIO_NET_F_MRG_RXBUF) | F(VIRTIO_NET_F_CTRL_VQ) |
			  F(VIRTIO_NET_F_CTRL_VLAN) | F(VIRTIO_NET_F_SPEED_DUPLEX) |
			  F(VIRTIO_F_VERSION_1) | F(VIRTIO_RING_F_EVENT_IDX) |
			  F(VIRTIO_RING_F_INDIRECT_DESC);

	assert_true((t->dev->offered & always) == always);
	assert_true((t->dev->offered & offloads) == offloads);
	assert_true(t->dev->offered & F(VIRTIO_NET_F_MTU));
	assert_true(t->dev->offered & F(VIRTIO_NET_F_GUEST_ANNOUNCE));

	assert_int_equal(fake_net_init(&poor, 1), 0);
	poor.net.offloads = 0;
	poor.net.mtu = 0;
	close(poor.net.link_fd);
	poor.net.link_fd = -1;
	assert_int_equal(virtio_net_create("net1", t->loop, &t->mem, &poor.net, mac, &plain), 0);
	assert_true((plain->offered & always) == always);
	assert_false(plain->offered & offloads);
	assert_false(plain->offered & F(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS));
	assert_false(plain->offered & F(VIRTIO_NET_F_MTU));
	assert_false(plain->offered & F(VIRTIO_NET_F_GUEST_ANNOUNCE));
	virtio_dev_destroy(plain);
	net_close(&poor.net);
}

/* 5.1.4.1: not less than 68; and it has 16 bits. */
static void offers_an_mtu_there_can_be(void **state)
{
	static const struct {
		unsigned int mtu;
		bool offered;
	} mtus[] = { { 67, false }, { 68, true }, { 65535, true }, { 65536, false } };
	struct test *t = *state;
	struct virtio_dev *dev;
	uint16_t mtu;
	int r;

	for (unsigned int i = 0; i < ARRAY_LEN(mtus); i++) {
		t->fake.net.mtu = mtus[i].mtu;
		r = virtio_net_create("net1", t->loop, &t->mem, &t->fake.net, mac, &dev);
		assert_int_equal(r, 0);
		assert_int_equal(!!(dev->offered & F(VIRTIO_NET_F_MTU)), mtus[i].offered);
		virtio_config_read(dev, offsetof(struct virtio_net_config, mtu), &mtu, sizeof(mtu));
		if (mtus[i].offered)
			assert_int_equal(mtu, mtus[i].mtu);
		virtio_dev_destroy(dev);
	}
}

static void shows_its_config(void **state)
{
	struct test *t = *state;
	struct virtio_net_config config;
	uint8_t zero = 0;

	memset(&config, 0xff, sizeof(config));
	virtio_config_read(t->dev, 0, &config, sizeof(config));
	assert_memory_equal(config.mac, mac, 6);
	assert_int_equal(config.status, VIRTIO_NET_S_LINK_UP);
	assert_int_equal(config.max_virtqueue_pairs, 1);
	assert_int_equal(config.mtu, 1500);
	assert_int_equal(config.speed, 10000);
	assert_int_equal(config.duplex, 1);
	virtio_config_write(t->dev, 0, &zero, 1);
	virtio_config_read(t->dev, 0, &config, sizeof(config));
	assert_memory_equal(config.mac, mac, 6);
}

static void sets_the_offloads_negotiated(void **state)
{
	struct test *t = *state;

	start(t, F(VIRTIO_NET_F_GUEST_CSUM) | F(VIRTIO_NET_F_GUEST_TSO4) |
		 F(VIRTIO_NET_F_GUEST_ECN));
	assert_int_equal(t->fake.offloads, NET_OFFLOAD_CSUM | NET_OFFLOAD_TSO4 | NET_OFFLOAD_ECN);
	reset(t);
	start(t, F(VIRTIO_NET_F_GUEST_TSO4)); /* without CSUM it means nothing */
	assert_int_equal(t->fake.offloads, 0);
	reset(t);
	start(t, F(VIRTIO_NET_F_GUEST_CSUM) | F(54)); /* UDP: both or none */
	assert_int_equal(t->fake.offloads, NET_OFFLOAD_CSUM);
	reset(t);
	start(t, F(VIRTIO_NET_F_GUEST_CSUM) | F(54) | F(55));
	assert_int_equal(t->fake.offloads, NET_OFFLOAD_CSUM | NET_OFFLOAD_USO);
}

/* --- transmit --- */

static void sends_frames(void **state)
{
	static const size_t lens[] = { 26, 60, 1514, 9000, 12 + 14 + 65535 };
	static const size_t pieces[] = { 1, 5, 12, 13, 100, 4096, 65536 };
	struct test *t = *state;

	start(t, F(VIRTIO_RING_F_EVENT_IDX));
	for (unsigned int l = 0; l < 5; l++) {
		for (unsigned int p = 0; p < 7; p++) {
			if (lens[l] > pieces[p] * 60)
				continue;
			guest_sends(t, l + p, BUF_GPA, lens[l], pieces[p]);
			kick(t, TX);
			network_gets(t, l + p, lens[l]);
			assert_int_equal(wait_used(t, TX).len, 0);
		}
	}
	assert_int_equal(stats(t).tx_dropped, 0);
}

static void drops_what_is_no_frame(void **state)
{
	static const size_t bad[] = { 1, 11, 12, 13, 25, 12 + 14 + 8 + 65536, 1000000 };
	struct test *t = *state;

	start(t, 0);
	for (unsigned int i = 0; i < 7; i++) {
		guest_sends(t, 1, BUF_GPA, bad[i], bad[i]);
		kick(t, TX);
		assert_int_equal(wait_used(t, TX).len, 0);
	}
	/* Only for the device to write: there is no frame in it. */
	ring_add(&t->rings[TX], (struct ring_buf[]){ { BUF_GPA, 2000 } }, 0, 1);
	kick(t, TX);
	assert_int_equal(wait_used(t, TX).len, 0);
	assert_int_equal(stats(t).tx_dropped, 8);
	assert_int_equal(stats(t).tx_frames, 0);
	guest_sends(t, 2, BUF_GPA, 100, 100);
	kick(t, TX);
	network_gets(t, 2, 100);
	assert_int_equal(stats(t).tx_frames, 1);
	assert_int_equal(stats(t).tx_bytes, 88);
}

/* More than a turn's budget, and far more than the sockets hold. */
static void waits_for_room(void **state)
{
	struct test *t = *state;

	start_sized(t, F(VIRTIO_RING_F_EVENT_IDX), 256);
	for (unsigned int i = 0; i < 256; i++)
		guest_sends(t, i, BUF_GPA + i * 4096, 3000, 3000);
	kick(t, TX);
	usleep(20000);
	settle(t);
	sleeps(t);
	for (unsigned int i = 0; i < 256; i++)
		network_gets(t, i, 3000);
	for (unsigned int i = 0; i < 256; i++)
		wait_used(t, TX);
	assert_int_equal(stats(t).tx_frames, 256);
	assert_int_equal(stats(t).tx_dropped, 0);
	sleeps(t); /* there is room now, and nothing to do with it */
}

/* What the back end has of a frame leaves without another one, and after a reset too. */
static void goes_on_with_a_frame_in_part(void **state)
{
	struct test *t = *state;

	for (unsigned int round = 0; round < 2; round++) {
		start(t, 0);
		atomic_store(&t->fake.in_part, 5);
		guest_sends(t, round, BUF_GPA, 100, 100);
		kick(t, TX);
		wait_used(t, TX);
		network_gets(t, round, 100);
		for (int i = 0; i < 5000 && atomic_load(&t->fake.in_part); i++)
			usleep(1000);
		assert_int_equal(t->fake.in_part, 0);
		sleeps(t);
		reset(t);
	}
	atomic_store(&t->fake.in_part, 2);
	start(t, 0);
	for (int i = 0; i < 5000 && atomic_load(&t->fake.in_part); i++)
		usleep(1000);
	assert_int_equal(t->fake.in_part, 0);
}

/* What is there goes together, and what is bad among it alone is lost. */
static void sends_many_at_once(void **state)
{
	struct test *t = *state;

	start_sized(t, F(VIRTIO_RING_F_EVENT_IDX), 256);
	for (unsigned int i = 0; i < 40; i++)
		guest_sends(t, i, BUF_GPA + i * 4096, i % 5 == 3 ? 20 : 100 + i, 30);
	kick(t, TX);
	for (unsigned int i = 0; i < 40; i++) {
		if (i % 5 != 3)
			network_gets(t, i, 100 + i);
		wait_used(t, TX);
	}
	assert_int_equal(t->fake.at_once, NET_SEND_MAX);
	assert_int_equal(stats(t).tx_frames, 32);
	assert_int_equal(stats(t).tx_dropped, 8);
}

/* Frames of many descriptors each: more than a batch has room for. */
static void sends_many_of_many_pieces(void **state)
{
	struct test *t = *state;
	struct ring_buf bufs[60];

	start_sized(t, F(VIRTIO_RING_F_INDIRECT_DESC), 64);
	for (unsigned int i = 0; i < 40; i++) {
		for (unsigned int j = 0; j < 60; j++)
			bufs[j] = (struct ring_buf){ BUF_GPA + i * 1024 + j, 1 };
		memset(at(t, BUF_GPA + i * 1024), 0, HDR);
		for (unsigned int j = HDR; j < 60; j++)
			at(t, BUF_GPA + i * 1024)[j] = pattern(i, j);
		ring_add_indirect(&t->rings[TX], 0x80000 + i * 1024, bufs, 60, 0);
	}
	kick(t, TX);
	for (unsigned int i = 0; i < 40; i++) {
		network_gets(t, i, 60);
		wait_used(t, TX);
	}
	assert_int_equal(t->fake.at_once, 1024 / 60);
	assert_int_equal(stats(t).tx_frames, 40);
}

static void turns_follow_each_other(void **state)
{
	struct test *t = *state;

	start_sized(t, 0, 256);
	for (unsigned int i = 0; i < 256; i++)
		guest_sends(t, 1, BUF_GPA, 20, 20); /* dropped, so never short of room */
	kick(t, TX);
	for (unsigned int i = 0; i < 256; i++)
		wait_used(t, TX);
	assert_int_equal(stats(t).tx_dropped, 256);
}

/* --- life --- */

static void resets_at_any_time(void **state)
{
	struct test *t = *state;

	for (unsigned int round = 0; round < 50; round++) {
		start_sized(t, F(VIRTIO_NET_F_MRG_RXBUF), 256);
		for (unsigned int i = 0; i < 3; i++)
			guest_offers(t, BUF_GPA + i * 1024, 100);
		kick(t, RX);
		network_sends(t, round, 2000); /* will wait for more buffers */
		for (unsigned int i = 0; i < 200; i++)
			guest_sends(t, 1, BUF_GPA + MIB(1), round % 2 ? 20 : 3000, 3000);
		kick(t, TX);
		if (round % 3)
			settle(t);
		reset(t);
		/* What the device sent, and what it did not receive. */
		while (read(t->fake.peers[0], (uint8_t[4096]){ 0 }, 4096) > 0)
			;
		while (read(t->fake.net.fds[0], (uint8_t[4096]){ 0 }, 4096) > 0)
			;
	}
	start(t, 0);
	guest_offers(t, BUF_GPA, 1526);
	kick(t, RX);
	network_sends(t, 9, 100);
	guest_gets(t, 9, BUF_GPA, 100);
}

/* On the loop, so that the reset comes while a further turn is on its way. */
static void send_and_reset(void *arg)
{
	struct test *t = arg;

	for (unsigned int i = 0; i < 256; i++)
		guest_sends(t, 1, BUF_GPA, 20, 20);
	t->dev->ops->kick(t->dev, TX);
	virtio_set_status(t->dev, 0);
}

static void resets_between_turns(void **state)
{
	struct test *t = *state;
	struct ring_elem elem;

	for (unsigned int round = 0; round < 10; round++) {
		unsigned int sent = 0;

		start_sized(t, F(VIRTIO_RING_F_EVENT_IDX), 256);
		loop_call_wait(t->loop, send_and_reset, t);
		reset(t);
		settle(t);
		while (ring_used(&t->rings[TX], &elem))
			sent++;
		assert_true(sent >= 64 && sent < 256);
	}
}

static void breaks_and_recovers(void **state)
{
	struct test *t = *state;

	for (int queue = RX; queue <= CTRL; queue++) {
		start(t, CTRL_FEATURES);
		ring_offer(&t->rings[queue], 1000); /* no such descriptor */
		virtio_kick(t->dev, (unsigned int)queue);
		network_sends(t, 1, 100);
		for (int i = 0; i < 5000 && !(virtio_get_status(t->dev) & 0x40); i++)
			usleep(1000);
		assert_true(virtio_get_status(t->dev) & VIRTIO_CONFIG_S_NEEDS_RESET);
		guest_offers(t, BUF_GPA, 1526);
		virtio_kick(t->dev, RX);
		none_used(t, RX);
		reset(t);
		while (read(t->fake.net.fds[0], (uint8_t[4096]){ 0 }, 4096) > 0)
			;
	}
	start(t, 0);
	guest_offers(t, BUF_GPA, 1526);
	kick(t, RX);
	network_sends(t, 2, 100);
	guest_gets(t, 2, BUF_GPA, 100);
}

static void lives_without_its_link(void **state)
{
	struct test *t = *state;
	unsigned int sends;

	start(t, 0);
	guest_offers(t, BUF_GPA, 1526);
	kick(t, RX);
	assert_int_equal(link_status(t), VIRTIO_NET_S_LINK_UP);
	assert_int_equal(counter_get(&t->live.link), 1);
	atomic_store(&t->fake.gone, true);
	network_sends(t, 1, 100); /* wakes it */
	for (int i = 0; i < 5000 && link_status(t); i++)
		usleep(1000);
	assert_int_equal(link_status(t), 0);
	settle(t);
	assert_int_equal(counter_get(&t->live.link), 0);
	assert_int_equal(t->config_irqs, 1);
	sends = t->fake.sends;
	for (unsigned int i = 0; i < 5; i++) {
		guest_sends(t, 1, BUF_GPA + 4096, 100, 100);
		kick(t, TX);
		wait_used(t, TX);
	}
	assert_int_equal(t->fake.sends, sends);
	assert_int_equal(stats(t).tx_dropped, 5);
	none_used(t, RX);
	reset(t);
	start(t, 0);
	assert_int_equal(link_status(t), 0);
	guest_sends(t, 1, BUF_GPA + 4096, 100, 100);
	kick(t, TX);
	wait_used(t, TX);
}

/* The board after a reboot is another device, and counts on. */
static void counts_on_after_a_reboot(void **state)
{
	static const uint8_t other[6] = { 2, 0, 0, 0, 0, 2 };
	struct test *t = *state;
	struct virtio_dev *next;

	start(t, 0);
	guest_sends(t, 1, BUF_GPA, 100, 100);
	kick(t, TX);
	wait_used(t, TX);
	assert_int_equal(stats(t).tx_frames, 1);
	assert_int_equal(virtio_net_create("net0", t->loop, &t->mem, &t->fake.net, other, &next), 0);
	virtio_net_share(next, &t->live);
	assert_int_equal(stats(t).tx_frames, 1);
	assert_int_equal(stats(t).tx_bytes, 100 - HDR);
	assert_int_equal(counter_get(&t->live.mac), run_mac(other));
	virtio_dev_destroy(next);
}

/* The driver need not use every queue. */
static void works_with_one_queue(void **state)
{
	struct test *t = *state;

	virtio_set_status(t->dev, 3);
	virtio_set_driver_features(t->dev, 1, 1);
	virtio_set_status(t->dev, 11);
	ring_init(&t->rings[TX], &t->mem, 8, RING_GPA);
	t->dev->queues[TX].config = ring_config(&t->rings[TX]);
	t->dev->queues[TX].enabled = true;
	virtio_set_status(t->dev, 15);
	settle(t);
	network_sends(t, 1, 100);
	virtio_kick(t->dev, RX);
	virtio_kick(t->dev, CTRL);
	guest_sends(t, 3, BUF_GPA, 100, 100);
	kick(t, TX);
	network_gets(t, 3, 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(offers_what_the_back_end_can),
		TEST(offers_an_mtu_there_can_be),
		TEST(shows_its_config),
		TEST(sets_the_offloads_negotiated),
		TEST(sends_frames),
		TEST(drops_what_is_no_frame),
		TEST(waits_for_room),
		TEST(goes_on_with_a_frame_in_part),
		TEST(sends_many_at_once),
		TEST(sends_many_of_many_pieces),
		TEST(turns_follow_each_other),
		TEST(resets_at_any_time),
		TEST(resets_between_turns),
		TEST(breaks_and_recovers),
		TEST(lives_without_its_link),
		TEST(counts_on_after_a_reboot),
		TEST(works_with_one_queue),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
