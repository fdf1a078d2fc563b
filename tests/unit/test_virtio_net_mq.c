/* SPDX-License-Identifier: MIT */
/* virtio-net with several pairs of queues. */
#include <pthread.h>

#include "net_driver.h"

#define PAIRS 4
#define MQ_FEATURES (CTRL_FEATURES | F(VIRTIO_NET_F_MQ) | F(VIRTIO_RING_F_EVENT_IDX))

static int setup_mq(void **state)
{
	return setup_pairs(state, PAIRS);
}

#define MQ_TEST(name) cmocka_unit_test_setup_teardown(name, setup_mq, teardown)

static int use_pairs(struct test *t, uint16_t count)
{
	uint8_t bytes[4] = { VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET };

	memcpy(bytes + 2, &count, 2);
	return command(t, bytes, sizeof(bytes));
}

/* Where a test's frames lie, behind what net_driver.h has for commands. */
static uint64_t page(unsigned int n)
{
	return BUF_GPA + 0x20000 + n * 4096;
}

static void empty_network(struct test *t)
{
	uint8_t frame[4096];

	for (unsigned int i = 0; i < PAIRS; i++) {
		while (read(t->fake.peers[i], frame, sizeof(frame)) > 0)
			;
		while (read(t->fake.net.fds[i], frame, sizeof(frame)) > 0)
			;
	}
}

static void offers_its_pairs(void **state)
{
	struct test *t = *state;
	struct virtio_net_config config;
	struct virtio_dev *plain;
	struct fake_net one;

	assert_true(t->dev->offered & F(VIRTIO_NET_F_MQ));
	assert_int_equal(t->dev->nqueues, 2 * PAIRS + 1);
	virtio_config_read(t->dev, 0, &config, sizeof(config));
	assert_int_equal(config.max_virtqueue_pairs, PAIRS);

	assert_int_equal(fake_net_init(&one, 1), 0);
	assert_int_equal(virtio_net_create("net1", t->loop, &t->mem, &one.net, mac, &plain), 0);
	assert_false(plain->offered & F(VIRTIO_NET_F_MQ));
	assert_int_equal(plain->nqueues, 3);
	virtio_dev_destroy(plain);
	net_close(&one.net);
}

/* Both ways by each of the pairs, `count` of which are in use. */
static void traffic_by(struct test *t, unsigned int count)
{
	for (unsigned int i = 0; i < count; i++) {
		guest_offers_to(t, i, page(i), 1526);
		kick(t, RX_OF(i));
		network_sends_to(t, i, 10 + i, 100 + i);
		guest_gets_from(t, i, 10 + i, page(i), 100 + i);
		guest_sends_by(t, i, 20 + i, page(PAIRS + i), 200 + i, 4096);
		kick(t, TX_OF(i));
		network_gets_from(t, i, 20 + i, 200 + i);
		wait_used(t, TX_OF(i));
	}
}

static void uses_one_until_told(void **state)
{
	struct test *t = *state;

	start(t, MQ_FEATURES);
	traffic_by(t, 1);
	for (unsigned int i = 1; i < PAIRS; i++) {
		guest_offers_to(t, i, page(i), 1526);
		virtio_kick(t->dev, (unsigned int)RX_OF(i));
		network_sends_to(t, i, i, 300);
		guest_sends_by(t, i, i, page(PAIRS + i), 400, 4096);
		virtio_kick(t->dev, (unsigned int)TX_OF(i));
	}
	for (unsigned int i = 1; i < PAIRS; i++) {
		none_used(t, RX_OF(i));
		none_used(t, TX_OF(i));
	}
	sleeps(t);
	/* What waited goes without another kick. */
	assert_int_equal(use_pairs(t, PAIRS), VIRTIO_NET_OK);
	assert_int_equal(t->fake.queues, PAIRS);
	for (unsigned int i = 1; i < PAIRS; i++) {
		guest_gets_from(t, i, i, page(i), 300);
		network_gets_from(t, i, i, 400);
		wait_used(t, TX_OF(i));
	}
	traffic_by(t, PAIRS);
	for (unsigned int i = 0; i < PAIRS; i++)
		assert_true(t->irqs[RX_OF(i)] && t->irqs[TX_OF(i)]);
}

static void fewer_and_more_again(void **state)
{
	struct test *t = *state;

	start(t, MQ_FEATURES | F(VIRTIO_NET_F_MRG_RXBUF));
	assert_int_equal(use_pairs(t, PAIRS), VIRTIO_NET_OK);
	/* The window of the last pair has the start of a frame that waits for more buffers. */
	guest_offers_to(t, 3, page(0), 1000);
	kick(t, RX_OF(3));
	network_sends_to(t, 3, 5, 1800);
	none_used(t, RX_OF(3));
	assert_int_equal(use_pairs(t, 2), VIRTIO_NET_OK);
	assert_int_equal(t->fake.queues, 2);
	guest_offers_to(t, 3, page(1), 1000);
	virtio_kick(t->dev, (unsigned int)RX_OF(3));
	guest_sends_by(t, 2, 6, page(2), 100, 4096);
	virtio_kick(t->dev, (unsigned int)TX_OF(2));
	none_used(t, RX_OF(3));
	none_used(t, TX_OF(2));
	sleeps(t);
	traffic_by(t, 2);
	assert_int_equal(use_pairs(t, 3), VIRTIO_NET_OK);
	network_gets_from(t, 2, 6, 100);
	wait_used(t, TX_OF(2));
	assert_int_equal(use_pairs(t, 4), VIRTIO_NET_OK);
	assert_int_equal(wait_used(t, RX_OF(3)).len, 1000);
	assert_int_equal(wait_used(t, RX_OF(3)).len, 800);
	traffic_by(t, PAIRS);
	assert_int_equal(stats(t).rx_dropped, 0);
}

static void refuses_pairs_there_are_not(void **state)
{
	static const uint16_t bad[] = { 0, PAIRS + 1, 0x8000, 0x8001, 0xffff };
	struct test *t = *state;

	start(t, MQ_FEATURES);
	assert_int_equal(use_pairs(t, 2), VIRTIO_NET_OK);
	for (unsigned int i = 0; i < 5; i++)
		assert_int_equal(use_pairs(t, bad[i]), VIRTIO_NET_ERR);
	assert_int_equal(command(t, "\4\0\2", 3), VIRTIO_NET_ERR);
	assert_int_equal(command(t, "\4\0\2\0\0", 5), VIRTIO_NET_ERR);
	assert_int_equal(command(t, "\4\1\2\0", 4), VIRTIO_NET_ERR); /* RSS, not offered */
	atomic_store(&t->fake.queues_error, -EPERM);
	assert_int_equal(use_pairs(t, 3), VIRTIO_NET_ERR);
	atomic_store(&t->fake.queues_error, 0);
	assert_int_equal(t->fake.queues, 2);
	assert_int_equal(stats(t).ctrl_refused, 9);
	traffic_by(t, 2);
	guest_sends_by(t, 2, 1, page(0), 100, 4096);
	virtio_kick(t->dev, (unsigned int)TX_OF(2));
	none_used(t, TX_OF(2));
}

/* A pair whose queues the driver did not enable can not be used. */
static void refuses_pairs_without_queues(void **state)
{
	struct test *t = *state;

	virtio_set_status(t->dev, 3);
	virtio_set_driver_features(t->dev, 0, (uint32_t)MQ_FEATURES & ~(1u << 29));
	virtio_set_driver_features(t->dev, 1, 1);
	virtio_set_status(t->dev, 11);
	t->ctrl = 2 * PAIRS;
	for (int i = 0; i <= t->ctrl; i++) {
		ring_init(&t->rings[i], &t->mem, 16, RING_GPA + 4096 * (unsigned int)i);
		t->dev->queues[i].config = ring_config(&t->rings[i]);
		t->dev->queues[i].enabled = i != TX_OF(2);
	}
	virtio_set_status(t->dev, 15);
	settle(t);
	assert_int_equal(use_pairs(t, 3), VIRTIO_NET_ERR);
	assert_int_equal(use_pairs(t, 2), VIRTIO_NET_OK);
	traffic_by(t, 2);
}

static void without_the_feature(void **state)
{
	struct test *t = *state;

	start(t, CTRL_FEATURES);
	assert_int_equal(t->ctrl, CTRL); /* behind the only pair (5.1.2) */
	assert_int_equal(use_pairs(t, 2), VIRTIO_NET_ERR);
	assert_int_equal(command(t, "\0\0\1", 3), VIRTIO_NET_OK);
	for (unsigned int i = 3; i < t->dev->nqueues; i++)
		virtio_kick(t->dev, i);
	traffic_by(t, 1);
}

static void resets_with_traffic(void **state)
{
	struct test *t = *state;

	for (unsigned int round = 0; round < 50; round++) {
		start_sized(t, MQ_FEATURES | F(VIRTIO_NET_F_MRG_RXBUF), 128);
		assert_int_equal(use_pairs(t, (uint16_t)(1 + round % PAIRS)), VIRTIO_NET_OK);
		for (unsigned int pair = 0; pair < PAIRS; pair++) {
			guest_offers_to(t, pair, page(pair), 100);
			virtio_kick(t->dev, (unsigned int)RX_OF(pair));
			network_sends_to(t, pair, round, 2000); /* waits for more buffers */
			for (unsigned int i = 0; i < 120; i++)
				guest_sends_by(t, pair, 1, page(8), round % 2 ? 20 : 3000, 3000);
			virtio_kick(t->dev, (unsigned int)TX_OF(pair));
		}
		if (round % 3)
			settle(t);
		reset(t);
		assert_int_equal(t->fake.queues, 1);
		empty_network(t);
	}
	start(t, MQ_FEATURES);
	assert_int_equal(use_pairs(t, PAIRS), VIRTIO_NET_OK);
	traffic_by(t, PAIRS);
}

/* On the loop, so that the reset finds further turns of all pairs on their way. */
static void kick_and_reset(void *arg)
{
	struct test *t = arg;

	for (unsigned int i = 0; i < PAIRS; i++)
		t->dev->ops->kick(t->dev, (unsigned int)TX_OF(i));
	virtio_set_status(t->dev, 0);
}

static void resets_between_turns(void **state)
{
	struct test *t = *state;
	struct ring_elem elem;

	for (unsigned int round = 0; round < 10; round++) {
		start_sized(t, MQ_FEATURES, 256);
		assert_int_equal(use_pairs(t, PAIRS), VIRTIO_NET_OK);
		for (unsigned int pair = 0; pair < PAIRS; pair++)
			for (unsigned int i = 0; i < 256; i++)
				guest_sends_by(t, pair, 1, page(0), 20, 20);
		loop_call_wait(t->loop, kick_and_reset, t);
		reset(t);
		for (unsigned int pair = 0; pair < PAIRS; pair++) {
			unsigned int sent = 0;

			while (ring_used(&t->rings[TX_OF(pair)], &elem))
				sent++;
			assert_true(sent >= 64 && sent < 256);
		}
	}
}

static void breaks_with_all_pairs(void **state)
{
	struct test *t = *state;

	for (int queue = 0; queue <= 2 * PAIRS; queue++) {
		start(t, MQ_FEATURES);
		assert_int_equal(use_pairs(t, PAIRS), VIRTIO_NET_OK);
		ring_offer(&t->rings[queue], 1000); /* no such descriptor */
		virtio_kick(t->dev, (unsigned int)queue);
		for (unsigned int i = 0; i < PAIRS; i++)
			network_sends_to(t, i, 1, 100);
		for (int i = 0; i < 5000 && !(virtio_get_status(t->dev) & 0x40); i++)
			usleep(1000);
		assert_true(virtio_get_status(t->dev) & VIRTIO_CONFIG_S_NEEDS_RESET);
		settle(t);
		for (unsigned int i = 0; i < PAIRS; i++) {
			guest_sends_by(t, i, 1, page(0), 100, 100);
			virtio_kick(t->dev, (unsigned int)TX_OF(i));
			none_used(t, TX_OF(i));
		}
		reset(t);
		empty_network(t);
	}
}

static void lives_without_its_link(void **state)
{
	struct test *t = *state;

	start(t, MQ_FEATURES);
	assert_int_equal(use_pairs(t, 3), VIRTIO_NET_OK);
	atomic_store(&t->fake.gone, true);
	guest_sends_by(t, 2, 1, page(0), 100, 4096);
	kick(t, TX_OF(2));
	wait_used(t, TX_OF(2));
	assert_int_equal(link_status(t), 0);
	assert_int_equal(t->config_irqs, 1);
	assert_int_equal(use_pairs(t, PAIRS), VIRTIO_NET_OK); /* there is nobody to ask */
	for (unsigned int i = 0; i < PAIRS; i++) {
		guest_sends_by(t, i, 1, page(0), 100, 4096);
		kick(t, TX_OF(i));
		wait_used(t, TX_OF(i));
		network_sends_to(t, i, 1, 100);
	}
	sleeps(t);
	assert_int_equal(stats(t).tx_dropped, PAIRS + 1);
}

/* Keeps the ring of pair 0 full until told to end. */
struct flood {
	struct test *t;
	atomic_bool end;
};

static void *flood_pair_0(void *arg)
{
	struct flood *flood = arg;
	struct test *t = flood->t;
	struct ring_elem elem;

	while (!atomic_load(&flood->end)) {
		while (t->rings[TX].free_count)
			guest_sends(t, 1, page(0), 20, 20);
		virtio_kick(t->dev, TX);
		while (ring_used(&t->rings[TX], &elem))
			;
	}
	return NULL;
}

static void a_flood_leaves_others_their_turns(void **state)
{
	struct test *t = *state;
	struct flood flood = { .t = t };
	pthread_t thread;

	start_sized(t, MQ_FEATURES, 256);
	assert_int_equal(use_pairs(t, 2), VIRTIO_NET_OK);
	assert_int_equal(pthread_create(&thread, NULL, flood_pair_0, &flood), 0);
	for (unsigned int i = 0; i < 200 || stats(t).tx_dropped < 1000; i++) {
		guest_offers_to(t, 1, page(1), 1526);
		kick(t, RX_OF(1));
		network_sends_to(t, 1, i, 300);
		guest_gets_from(t, 1, i, page(1), 300);
		guest_sends_by(t, 1, i, page(2), 400, 4096);
		kick(t, TX_OF(1));
		network_gets_from(t, 1, i, 400);
		wait_used(t, TX_OF(1));
	}
	atomic_store(&flood.end, true);
	pthread_join(thread, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		MQ_TEST(offers_its_pairs),
		MQ_TEST(uses_one_until_told),
		MQ_TEST(fewer_and_more_again),
		MQ_TEST(refuses_pairs_there_are_not),
		MQ_TEST(refuses_pairs_without_queues),
		MQ_TEST(without_the_feature),
		MQ_TEST(resets_with_traffic),
		MQ_TEST(resets_between_turns),
		MQ_TEST(breaks_with_all_pairs),
		MQ_TEST(lives_without_its_link),
		MQ_TEST(a_flood_leaves_others_their_turns),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
