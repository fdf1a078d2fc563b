/* SPDX-License-Identifier: MIT */
/* virtio-net: the control queue. */
#include "net_driver.h"

static void filters_as_told(void **state)
{
	static const uint8_t table[] = "\1\0\2\0\0\0" "\2\0\0\0\0\7" "\2\0\0\0\0\10"
				       "\1\0\0\0" "\1\0\x5e\0\0\1";
	struct test *t = *state;

	start(t, CTRL_FEATURES);
	assert_int_equal(t->fake.filter_count, 0); /* all frames, until told otherwise */
	assert_int_equal(command(t, "\0\0\0", 3), VIRTIO_NET_OK);
	assert_int_equal(t->fake.filter_count, 2);
	assert_memory_equal(t->fake.filter_macs[0], mac, 6);
	assert_memory_equal(t->fake.filter_macs[1], "\xff\xff\xff\xff\xff\xff", 6);
	assert_int_equal(command(t, table, sizeof(table) - 1), VIRTIO_NET_OK);
	assert_int_equal(t->fake.filter_count, 5);
	assert_memory_equal(t->fake.filter_macs[4], "\1\0\x5e\0\0\1", 6);
	assert_int_equal(counter_get(&t->live.promiscuous), 0);
	assert_int_equal(counter_get(&t->live.filter_macs), 3);
	assert_int_equal(command(t, "\0\1\1", 3), VIRTIO_NET_OK);
	assert_true(t->fake.filter_all_multicast);
	assert_int_equal(counter_get(&t->live.all_multicast), 1);
	assert_int_equal(command(t, "\0\0\1", 3), VIRTIO_NET_OK);
	assert_int_equal(t->fake.filter_count, 0);
	reset(t);
	assert_int_equal(t->fake.filter_count, 0);
	assert_int_equal(counter_get(&t->live.promiscuous), 1);
	assert_int_equal(counter_get(&t->live.all_multicast), 0);
	assert_int_equal(counter_get(&t->live.filter_macs), 0);
}

static void passes_all_when_the_table_is_long(void **state)
{
	static uint8_t table[2 + 4 + 700 * 6 + 4] = { 1, 0 };
	struct test *t = *state;

	start(t, CTRL_FEATURES);
	command(t, "\0\0\0", 3);
	memcpy(table + 2, &(uint32_t){ 63 }, 4);
	assert_int_equal(command(t, table, 2 + 4 + 63 * 6 + 4), VIRTIO_NET_OK);
	assert_int_equal(t->fake.filter_count, 0);
	assert_int_equal(counter_get(&t->live.promiscuous), 1);
	memcpy(table + 2, &(uint32_t){ 62 }, 4);
	assert_int_equal(command(t, table, 2 + 4 + 62 * 6 + 4), VIRTIO_NET_OK);
	assert_int_equal(t->fake.filter_count, 64);
	memcpy(table + 2, &(uint32_t){ 700 }, 4);
	assert_int_equal(command(t, table, sizeof(table)), VIRTIO_NET_OK);
	assert_int_equal(t->fake.filter_count, 0);
}

static void changes_its_address(void **state)
{
	struct test *t = *state;
	uint8_t now[6];

	start(t, CTRL_FEATURES);
	command(t, "\0\0\0", 3);
	assert_int_equal(command(t, "\1\1\2\3\4\5\6\7", 8), VIRTIO_NET_OK);
	virtio_config_read(t->dev, 0, now, 6);
	assert_memory_equal(now, "\2\3\4\5\6\7", 6);
	assert_memory_equal(t->fake.filter_macs[0], now, 6);
	assert_int_equal(counter_get(&t->live.mac), 0x020304050607);
	reset(t);
	virtio_config_read(t->dev, 0, now, 6);
	assert_memory_equal(now, mac, 6);
	assert_int_equal(counter_get(&t->live.mac), run_mac(mac));
}

static void changes_offloads(void **state)
{
	struct test *t = *state;

	start(t, CTRL_FEATURES);
	assert_int_equal(t->fake.offloads, NET_OFFLOAD_CSUM | NET_OFFLOAD_TSO4);
	assert_int_equal(command(t, "\5\0\2\0\0\0\0\0\0\0", 10), VIRTIO_NET_OK);
	assert_int_equal(t->fake.offloads, NET_OFFLOAD_CSUM);
	assert_int_equal(command(t, "\5\0\0\0\0\0\0\0\0\0", 10), VIRTIO_NET_OK);
	assert_int_equal(t->fake.offloads, 0);
	assert_int_equal(command(t, "\5\0\x82\0\0\0\0\0\0\0", 10), VIRTIO_NET_OK);
	assert_int_equal(t->fake.offloads, NET_OFFLOAD_CSUM | NET_OFFLOAD_TSO4);
	/* TSO6 was not negotiated; HOST_TSO4 is no receive offload. */
	assert_int_equal(command(t, "\5\0\0\1\0\0\0\0\0\0", 10), VIRTIO_NET_ERR);
	assert_int_equal(command(t, "\5\0\0\x08\0\0\0\0\0\0", 10), VIRTIO_NET_ERR);
	assert_int_equal(t->fake.offloads, NET_OFFLOAD_CSUM | NET_OFFLOAD_TSO4);
}

static int vlan(struct test *t, uint8_t add_or_del, uint16_t id)
{
	uint8_t bytes[] = { VIRTIO_NET_CTRL_VLAN, add_or_del, (uint8_t)id, (uint8_t)(id >> 8) };

	return command(t, bytes, sizeof(bytes));
}

/* A frame with the tag `tci`, and whether the guest gets it; the next one it does. */
static bool tagged_passes(struct test *t, uint16_t tci)
{
	static uint8_t frame[HDR + 100];
	uint64_t dropped = stats(t).rx_filtered, received = stats(t).rx_frames;
	/* The tag lies over three descriptors. */
	struct ring_buf bufs[] = { { BUF_GPA + 0x20000, HDR + 13 }, { BUF_GPA + 0x30000, 2 },
				   { BUF_GPA + 0x40000, 1500 } };

	frame[HDR + 12] = 0x81;
	frame[HDR + 14] = (uint8_t)(tci >> 8);
	frame[HDR + 15] = (uint8_t)tci;
	if (t->rings[RX].free_count == 64)
		ring_add(&t->rings[RX], bufs, 0, 3);
	kick(t, RX);
	assert_int_equal(write(t->fake.peers[0], frame, sizeof(frame)), sizeof(frame));
	while (stats(t).rx_filtered == dropped && stats(t).rx_frames == received)
		usleep(100);
	if (stats(t).rx_frames == received)
		return false;
	assert_int_equal(wait_used(t, RX).len, sizeof(frame));
	assert_int_equal(*at(t, BUF_GPA + 0x30000 + 1), tci >> 8);
	return true;
}

static void filters_vlans(void **state)
{
	struct test *t = *state;

	start(t, CTRL_FEATURES | F(VIRTIO_NET_F_CTRL_VLAN));
	assert_true(tagged_passes(t, 5)); /* promiscuous until told otherwise */
	assert_int_equal(command(t, "\0\0\0", 3), VIRTIO_NET_OK);
	assert_false(tagged_passes(t, 5));
	assert_int_equal(vlan(t, VIRTIO_NET_CTRL_VLAN_ADD, 5), VIRTIO_NET_OK);
	assert_int_equal(vlan(t, VIRTIO_NET_CTRL_VLAN_ADD, 4095), VIRTIO_NET_OK);
	assert_true(tagged_passes(t, 5));
	assert_true(tagged_passes(t, 0xe000 | 5)); /* with a priority */
	assert_true(tagged_passes(t, 4095));
	assert_true(tagged_passes(t, 0x2000)); /* a priority alone */
	assert_false(tagged_passes(t, 4));
	assert_false(tagged_passes(t, 5 + 64));
	assert_int_equal(vlan(t, VIRTIO_NET_CTRL_VLAN_DEL, 5), VIRTIO_NET_OK);
	assert_false(tagged_passes(t, 5));
	assert_true(tagged_passes(t, 4095));
	assert_int_equal(vlan(t, VIRTIO_NET_CTRL_VLAN_ADD, 4096), VIRTIO_NET_ERR);
	assert_int_equal(vlan(t, VIRTIO_NET_CTRL_VLAN_DEL, 0xffff), VIRTIO_NET_ERR);
	assert_int_equal(vlan(t, 2, 1), VIRTIO_NET_ERR);
	assert_int_equal(command(t, "\2\0\1", 3), VIRTIO_NET_ERR);
	assert_int_equal(command(t, "\2\0\1\0\0", 5), VIRTIO_NET_ERR);
	network_sends(t, 1, HDR + 15); /* no room for a tag */
	network_sends(t, 1, 500);
	guest_offers(t, BUF_GPA + 0x20000, 2000);
	guest_offers(t, BUF_GPA + 0x21000, 2000);
	kick(t, RX);
	wait_used(t, RX);
	wait_used(t, RX);
	reset(t);
	start(t, CTRL_FEATURES | F(VIRTIO_NET_F_CTRL_VLAN));
	command(t, "\0\0\0", 3);
	assert_false(tagged_passes(t, 4095));
	reset(t);
	start(t, CTRL_FEATURES); /* it does not know of filters */
	command(t, "\0\0\0", 3);
	assert_true(tagged_passes(t, 5));
}

static void wait_link(struct test *t, uint16_t status)
{
	for (int i = 0; i < 5000 && link_status(t) != status; i++)
		usleep(1000);
	assert_int_equal(link_status(t), status);
	settle(t);
}

static void announces_the_guest_when_its_link_is_back(void **state)
{
	const uint16_t up = VIRTIO_NET_S_LINK_UP, announce = VIRTIO_NET_S_ANNOUNCE;
	struct test *t = *state;

	start(t, CTRL_FEATURES | F(VIRTIO_NET_F_GUEST_ANNOUNCE));
	assert_int_equal(link_status(t), up);
	assert_int_equal(command(t, "\3\0", 2), VIRTIO_NET_ERR); /* nobody asked */
	fake_net_set_link(&t->fake, false);
	wait_link(t, 0);
	assert_int_equal(t->config_irqs, 1);
	fake_net_set_link(&t->fake, true);
	wait_link(t, up | announce);
	assert_int_equal(t->config_irqs, 2);
	assert_int_equal(command(t, "\3\1", 2), VIRTIO_NET_ERR);
	assert_int_equal(command(t, "\3\0\0", 3), VIRTIO_NET_ERR);
	assert_int_equal(link_status(t), up | announce);
	assert_int_equal(command(t, "\3\0", 2), VIRTIO_NET_OK);
	assert_int_equal(link_status(t), up);
	assert_int_equal(command(t, "\3\0", 2), VIRTIO_NET_ERR);
	fake_net_set_link(&t->fake, true); /* nothing new */
	settle(t);
	assert_int_equal(t->config_irqs, 2);
	sleeps(t);

	fake_net_set_link(&t->fake, false);
	wait_link(t, 0);
	fake_net_set_link(&t->fake, true);
	wait_link(t, up | announce);
	reset(t);
	assert_int_equal(link_status(t), up);
	fake_net_set_link(&t->fake, false); /* while nobody listens */
	start(t, CTRL_FEATURES); /* and a driver that cannot announce */
	wait_link(t, 0);
	fake_net_set_link(&t->fake, true);
	wait_link(t, up);
	assert_int_equal(command(t, "\3\0", 2), VIRTIO_NET_ERR);
}

static void refuses_garbage_commands(void **state)
{
	static const struct {
		uint32_t len;
		const char *data;
	} bad[] = {
		{ 1, "\0" },
		{ 2, "\0\0" },
		{ 4, "\0\0\0\0" },
		{ 3, "\0\2\1" },  /* RX_EXTRA, not offered */
		{ 3, "\0\xff\1" },
		{ 2, "\1\0" },
		{ 5, "\1\0\0\0\0" },
		{ 6, "\1\0\0\0\0\0" },                 /* the second table is missing */
		{ 10, "\1\0\xff\xff\xff\xff\0\0\0\0" }, /* more than there are */
		{ 10, "\1\0\1\0\0\0\0\0\0\0" },
		{ 8, "\1\1\1\0\0\0\0\0" },  /* multicast */
		{ 8, "\1\1\0\0\0\0\0\0" },  /* zero */
		{ 7, "\1\1\2\0\0\0\0" },
		{ 9, "\1\1\2\0\0\0\0\0\0" },
		{ 8, "\1\2\2\0\0\0\0\0" },
		{ 4, "\2\0\1\0" }, /* VLAN, not negotiated */
		{ 4, "\4\0\2\0" }, /* MQ, not negotiated */
		{ 2, "\3\0" },
		{ 9, "\5\0\2\0\0\0\0\0\0" },
		{ 10, "\5\1\2\0\0\0\0\0\0\0" },
		{ 4, "\xff\xff\xff\xff" },
	};
	struct test *t = *state;
	struct ring_buf no_ack = { BUF_GPA, 3 }, only_ack = { BUF_GPA, 3 };
	unsigned int count = sizeof(bad) / sizeof(bad[0]);

	start(t, CTRL_FEATURES);
	for (unsigned int i = 0; i < count; i++)
		if (command(t, bad[i].data, bad[i].len) != VIRTIO_NET_ERR)
			fail_msg("command %u was taken", i);
	ring_add(&t->rings[CTRL], &no_ack, 1, 0);
	ring_add(&t->rings[CTRL], &only_ack, 0, 1);
	kick(t, CTRL);
	assert_int_equal(wait_used(t, CTRL).len, 0);
	assert_int_equal(wait_used(t, CTRL).len, 1);
	assert_int_equal(stats(t).ctrl_commands, count + 2);
	assert_int_equal(stats(t).ctrl_refused, count + 2);
	assert_int_equal(command(t, "\0\0\1", 3), VIRTIO_NET_OK);
	reset(t);
	start(t, F(VIRTIO_NET_F_CTRL_VQ)); /* nothing was negotiated */
	assert_int_equal(command(t, "\0\0\1", 3), VIRTIO_NET_ERR);
	assert_int_equal(command(t, "\1\1\2\3\4\5\6\7", 8), VIRTIO_NET_ERR);
	assert_int_equal(command(t, "\5\0\0\0\0\0\0\0\0\0", 10), VIRTIO_NET_ERR);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(filters_as_told),
		TEST(passes_all_when_the_table_is_long),
		TEST(changes_its_address),
		TEST(changes_offloads),
		TEST(filters_vlans),
		TEST(announces_the_guest_when_its_link_is_back),
		TEST(refuses_garbage_commands),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
