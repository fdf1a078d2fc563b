/* SPDX-License-Identifier: MIT */
/* Every key of --net once, and every complaint. */
#include "options.h"

#include <stdio.h>

#include "tests/unit/options_fixture.h"
#include "util/util.h"

static void test_net(void **state)
{
	static const uint8_t mac[] = {0x52, 0x54, 0x00, 0xab, 0xcd, 0xef};
	const struct machine_net *n = config.nets;

	parse_ok("-k|x|-n|bridge=br0,tap=tap7,mac=52:54:00:ab:CD:ef");
	assert_string_equal(n->net.bridge, "br0");
	assert_string_equal(n->net.tap, "tap7");
	assert_int_equal(n->net.fd_count, 0);
	assert_int_equal(n->net.queues, 0);
	assert_true(n->has_mac);
	assert_memory_equal(n->mac, mac, 6);
	parse_ok("-k|x|-n|fd=7,mac=52:54:00:ab:cd:ef");
	assert_int_equal(n->net.fd_count, 1);
	assert_int_equal(n->net.fds[0], 7);
	assert_null(n->net.tap);
	assert_null(n->net.bridge);
	parse_ok("-k|x|-n|tap=t,,x");
	assert_string_equal(n->net.tap, "t,x");
	assert_false(n->has_mac);
	parse_ok("-k|x|-n|fd=0");
	assert_int_equal(n->net.fd_count, 1);
	assert_int_equal(n->net.fds[0], 0);
	parse_ok("-k|x|-n|fd=3:14:5,queues=3");
	assert_int_equal(n->net.fd_count, 3);
	assert_int_equal(n->net.fds[1], 14);
	assert_int_equal(n->net.queues, 3);
	assert_int_equal(n->net.vhost, NET_VHOST_AUTO);
	parse_ok("-k|x|-n|bridge=br0,vhost=on");
	assert_int_equal(n->net.vhost, NET_VHOST_ON);
	parse_ok("-k|x|-n|user,vhost=off");
	assert_int_equal(n->net.vhost, NET_VHOST_OFF);
	parse_ok("-k|x|-n|vhost=on,vhost=auto,user");
	assert_int_equal(n->net.vhost, NET_VHOST_AUTO);
	parse_ok("-k|x|-n|fd=3:4,mac=52:54:00:ab:cd:ef|-n|fd=5:6,mac=52:54:00:ab:cd:ee|-n|user");
	assert_int_equal(config.net_count, 3);
}

static void forwards(const char *spec, bool udp, const char *addr, int host, int guest)
{
	const struct net_options *n = &config.nets[0].net;
	char line[200];

	snprintf(line, sizeof(line), "-k|x|-n|user,hostfwd=%s", spec);
	parse_ok(line);
	assert_true(n->user);
	assert_int_equal(n->forward_count, 1);
	assert_int_equal(n->forwards[0].udp, udp);
	assert_string_equal(n->forwards[0].host_addr, addr);
	assert_int_equal(n->forwards[0].host_port, host);
	assert_int_equal(n->forwards[0].guest_port, guest);
}

static void test_net_user(void **state)
{
	const struct net_options *n = &config.nets[0].net;
	char line[2000] = "-k|x|-n|user";

	parse_ok(line);
	assert_true(n->user);
	assert_null(n->socket);
	assert_int_equal(n->forward_count, 0);
	forwards("tcp:2222:22", false, "", 2222, 22);
	forwards("udp:1:65535", true, "", 1, 65535);
	forwards("tcp:127.0.0.1:2222:22", false, "127.0.0.1", 2222, 22);
	forwards("udp:[::1]:53:5353", true, "::1", 53, 5353);
	forwards("tcp::2222-:22", false, "", 2222, 22);
	forwards("tcp:127.0.0.1:2222-:22", false, "127.0.0.1", 2222, 22);
	parse_ok("-k|x|-n|user,socket=/run/a,,b,mac=52:54:00:ab:cd:ef");
	assert_string_equal(n->socket, "/run/a,b");
	assert_true(config.nets[0].has_mac);
	for (int i = 0; i < NET_FORWARDS_MAX; i++)
		strcat(line, ",hostfwd=tcp:2222:22");
	parse_ok(line);
	assert_int_equal(n->forward_count, NET_FORWARDS_MAX);
	capture_start();
	assert_int_equal(parse(strcat(line, ",hostfwd=udp:1:2")), OPTIONS_ERROR);
	assert_one_line(capture_end());
	assert_says(capture_text, "at most 16");
}

static void test_net_edge(void **state)
{
	const struct edge_options *e = &config.nets[0].edge;

	parse_ok("-k|x|-n|bridge=br0");
	assert_true(!e->monitor && !e->pcap && !e->guard.on && !e->rate && !e->isolated);
	parse_ok("-k|x|-n|bridge=br0,monitor=mon0,guard=mac,rate=10M,isolated,pcap=a,,b");
	assert_string_equal(e->monitor, "mon0");
	assert_string_equal(e->pcap, "a,b");
	assert_true(e->guard.on && e->isolated);
	assert_int_equal(e->guard.addr_count, 0);
	assert_int_equal(e->rate, MIB(10));
	parse_ok("-k|x|-n|guard=192.0.2.7+2001:db8::/64,rate=16K,isolated=off");
	assert_int_equal(e->guard.addr_count, 2);
	assert_true(!e->guard.addrs[0].ipv6 && e->guard.addrs[1].ipv6);
	assert_int_equal(e->guard.addrs[0].bits, 32);
	assert_int_equal(e->guard.addrs[1].bits, 64);
	assert_int_equal(e->rate, 16384);
	assert_false(e->isolated);
	parse_ok("-k|x|-n|rate=1T");
	assert_int_equal(e->rate, 1ull << 40);
	assert_int_equal(config.nets[0].poll_us, -1);
	parse_ok("-k|x|-n|poll=50");
	assert_int_equal(config.nets[0].poll_us, 50);
}

static const struct bad_line errors[] = {
	{"-k|x|--net|", "--net", "key"},
	{"-k|x|--net|bogus=1", "'bogus'", "minivmm --help"},
	{"-k|x|--net|br0", "'br0'", "unknown key"},
	{"-k|x|--net|bridge=br0,", "--net", "unknown key"},
	{"-k|x|--net|bridge", "bridge", "needs a value"},
	{"-k|x|--net|bridge=", "bridge", "needs a value"},
	{"-k|x|--net|tap=", "tap", "needs a value"},
	{"-k|x|--net|fd=", "fd", "needs a value"},
	{"-k|x|--net|mac=", "mac", "needs a value"},
	{"-k|x|--net|fd=x", "fd=x", "descriptor"},
	{"-k|x|--net|fd=-1", "fd=-1", "descriptor"},
	{"-k|x|--net|fd=99999999999999999999", "fd=99999999999999999999", "descriptor"},
	{"-k|x|--net|fd=00000000000000000000000000000003x", "fd=000", "descriptor"},
	{"-k|x|--net|fd=3,tap=t", "fd=", "tap="},
	{"-k|x|--net|fd=3:", "fd=", "descriptor"},
	{"-k|x|--net|fd=3:x:5", "fd=x", "descriptor"},
	{"-k|x|--net|fd=3:4:3", "fd=", "twice"},
	{"-k|x|--net|fd=3:4:5:6:7:8:9:10:11", "fd=", "at most 8"},
	{"-k|x|--net|queues=", "queues", "needs a value"},
	{"-k|x|--net|queues=0", "queues=0", "from 1 to 8"},
	{"-k|x|--net|queues=9", "queues=9", "from 1 to 8"},
	{"-k|x|--net|queues=-1", "queues=-1", "from 1 to 8"},
	{"-k|x|--net|vhost", "vhost", "needs a value"},
	{"-k|x|--net|vhost=yes", "vhost=yes", "auto, on or off"},
	{"-k|x|--net|vhost=on,user", "vhost=on", "no interface"},
	{"-k|x|--net|bridge=b,fd=3", "fd=", "bridge="},
	{"-k|x|--net|user=alice", "user=alice", "no value"},
	{"-k|x|--net|user,tap=t", "user", "tap="},
	{"-k|x|--net|bridge=b,user", "user", "bridge="},
	{"-k|x|--net|fd=3,user", "user", "fd="},
	{"-k|x|--net|user,hostfwd", "hostfwd", "needs a value"},
	{"-k|x|--net|user,socket=", "socket", "needs a value"},
	{"-k|x|--net|hostfwd=tcp:1:2", "hostfwd=", "user,hostfwd="},
	{"-k|x|--net|bridge=b,socket=s", "socket=", "user,socket="},
	{"-k|x|--net|user,socket=s,hostfwd=tcp:1:2", "hostfwd=", "--tcp-ports"},
	{"-k|x|--net|user,hostfwd=2222:22", "hostfwd=2222:22", "tcp:2222:22"},
	{"-k|x|--net|user,hostfwd=sctp:1:2", "hostfwd=sctp:1:2", "tcp or udp"},
	{"-k|x|--net|user,hostfwd=tcp:", "hostfwd=tcp:", "tcp or udp"},
	{"-k|x|--net|user,hostfwd=tcp:-", "hostfwd=tcp:-", "tcp or udp"},
	{"-k|x|--net|user,hostfwd=tcp:-:22", "hostfwd=tcp:-:22", "tcp or udp"},
	{"-k|x|--net|user,hostfwd=tcp:22", "hostfwd=tcp:22", "the guest's"},
	{"-k|x|--net|user,hostfwd=tcp:2222:", "hostfwd=tcp:2222:", "the guest's"},
	{"-k|x|--net|user,hostfwd=tcp:0:22", "hostfwd=tcp:0:22", "port"},
	{"-k|x|--net|user,hostfwd=tcp:22:65536", "hostfwd=tcp:22:65536", "port"},
	{"-k|x|--net|user,hostfwd=tcp:22-:22-", "hostfwd=tcp:22-:22-", "port"},
	{"-k|x|--net|user,hostfwd=tcp:localhost:1:2", "hostfwd=tcp:localhost:1:2", "address"},
	{"-k|x|--net|user,hostfwd=tcp:1.2.3:1:2", "hostfwd=tcp:1.2.3:1:2", "address"},
	{"-k|x|--net|user,hostfwd=tcp::1-1.2.3.4:2", "hostfwd=tcp::1-1.2.3.4:2", "port"},
	{"-k|x|--net|mac=52:54:00:ab:cd", "mac=52:54:00:ab:cd", "52:54:00:12:34:56"},
	{"-k|x|--net|mac=52-54-00-ab-cd-ef", "mac=52-54-00-ab-cd-ef", "52:54:00:12:34:56"},
	{"-k|x|--net|mac=53:54:00:ab:cd:ef", "mac=53:54:00:ab:cd:ef", "multicast"},
	{"-k|x|--net|monitor=", "monitor", "needs a value"},
	{"-k|x|--net|pcap", "pcap", "needs a value"},
	{"-k|x|--net|guard", "guard", "needs a value"},
	{"-k|x|--net|guard=ip", "guard=ip", "guard=192.0.2.7+2001:db8::7"},
	{"-k|x|--net|guard=192.0.2.7/33", "guard=192.0.2.7/33", "/LENGTH"},
	{"-k|x|--net|guard=1.1.1.1+1.1.1.2+1.1.1.3+1.1.1.4+1.1.1.5+1.1.1.6+1.1.1.7+1.1.1.8+::1",
	 "guard=", "more than 8"},
	{"-k|x|--net|rate=", "rate", "needs a value"},
	{"-k|x|--net|poll=", "poll", "needs a value"},
	{"-k|x|--net|poll=-1", "poll=-1", "from 0 to 10000"},
	{"-k|x|--net|rate=fast", "rate=fast", "from 16K"},
	{"-k|x|--net|rate=16383", "rate=16383", "from 16K"},
	{"-k|x|--net|rate=2T", "rate=2T", "to 1T"},
	{"-k|x|--net|rate=99999999999999999999", "rate=99999999999999999999", "to 1T"},
	{"-k|x|--net|isolated=maybe", "isolated=maybe", "on or off"},
	{"-k|x|--net|bridge=a,bridge=b", "bridge is given twice", "another --net"},
	{"-k|x|--net|tap=a,bridge=b,tap=a", "tap is given twice", "another --net"},
	{"-k|x|--net|fd=3,fd=4", "fd is given twice", "another --net"},
	{"-k|x|--net|mac=52:54:00:ab:cd:ef,mac=52:54:00:ab:cd:ee", "mac is given", "another --net"},
	{"-k|x|--net|bridge=a,isolated,isolated=off", "isolated is given", "another --net"},
	{"-k|x|--net|fd=5|--net|fd=5", "fd=: 5 is given twice", "TAP of its own"},
	{"-k|x|--net|fd=3:4|--net|user|--net|fd=5:4", "fd=: 4 is given twice", "TAP of its own"},
	{"-k|x|--net|mac=52:54:00:ab:cd:ef|--net|user,mac=52:54:00:AB:CD:EF",
	 "mac=52:54:00:ab:cd:ef is given twice", "address of its own"},
	{"-k|x|--net|mac=00:00:00:00:00:00", "mac=00:00:00:00:00:00", "zero"},
};

static void test_errors(void **state)
{
	assert_bad_lines(errors, ARRAY_LEN(errors));
}

#define TEST(name) cmocka_unit_test_teardown(name, capture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_net),
		TEST(test_net_user),
		TEST(test_net_edge),
		TEST(test_errors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
