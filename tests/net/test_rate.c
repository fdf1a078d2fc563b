/* SPDX-License-Identifier: MIT */
/* rate=: what arrives of more than it allows, each way, of small frames and of large ones. */
#include <errno.h>
#include <net/if.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "net/link.h"
#include "net/tc.h"
#include "netns.h"
#include "nic.h"

#define RATE (1u << 20)
#define BURST (128u << 10) /* and the queue twice that, as net/edge.c has it for low rates */
#define SECONDS 3.0

static uint8_t frame[NIC_FRAME_MAX], got[NIC_FRAME_MAX];

static const struct edge_options plain, limited = { .rate = RATE };

static double now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* Frames of `len` bytes: from the guest `from`, or into its interface by `wire`. */
struct flow {
	const struct nic *from, *to;
	int wire;
	size_t len;
	uint16_t mss;
};

/* Send four times as much as may pass. What arrived past the burst, in bytes per second, or -1 if
 * this process was held up for so long that the burst's bucket ran over, or the queue dry. */
static double try_measure(const struct flow *flow)
{
	double start = now_s(), last = start, passed = 0, sent = 0;
	bool held_up = false;

	for (double t; (t = now_s() - start) < SECONDS; last = start + t) {
		held_up |= start + t - last > (double)BURST / RATE / 2;
		if (sent > 4 * RATE * t) {
			usleep(1000);
		} else {
			if (flow->from)
				nic_send(flow->from, frame, flow->len, flow->mss);
			else
				wire_send(flow->wire, frame, flow->len, flow->mss);
			sent += (double)flow->len;
		}
		for (size_t n; (n = nic_recv(flow->to, got, 0));)
			passed += (double)n;
	}
	assert_true(passed < RATE * 1.2 * SECONDS + BURST);
	return held_up || sent < 2 * RATE * SECONDS ? -1 : (passed - BURST) / SECONDS;
}

static void keeps_the_rate(const struct flow *flow)
{
	double rate = -1;

	for (int i = 0; rate < 0 && i < 10; i++) {
		usleep(500000); /* for what waits to pass, and the bucket to fill */
		while (nic_recv(flow->to, got, 0))
			;
		rate = try_measure(flow);
	}
	printf("%.0f of %u bytes per second\n", rate, RATE);
	assert_true(rate > RATE * 0.8 && rate < RATE * 1.2);
}

/* By itself: what it takes is there more often than what limits the other way. */
static void shapes_what_the_guest_gets(void **state)
{
	struct nic nic = nic_open("t1", NULL, &plain);
	int index = (int)if_nametoindex("t1"), wire = wire_open("t1");
	struct mnl_socket *nl;
	int r;

	assert_int_equal(link_connect(&nl), 0);
	r = tc_shaper_add(nl, index, RATE, BURST, 2 * BURST);
	if (r == -ENOENT) {
		link_disconnect(nl);
		close(wire);
		nic_close(&nic);
		skip();
	}
	assert_int_equal(r, 0);
	assert_int_equal(tc_shaper_add(nl, index, RATE, BURST, 2 * BURST), -EEXIST);
	make_frame(frame, 1400, OTHER_MAC, 0);
	keeps_the_rate(&(struct flow){ .wire = wire, .to = &nic, .len = 1400 });
	make_tcp(frame, 64000, OTHER_MAC);
	keeps_the_rate(&(struct flow){ .wire = wire, .to = &nic, .len = 64000, .mss = 1448 });
	assert_int_equal(tc_shaper_delete(nl, index), 0);
	link_disconnect(nl);
	close(wire);
	nic_close(&nic);
}

static void limits_each_way(void **state)
{
	struct nic nic, peer;
	int wire, r;

	assert_true(netns_run(BRIDGE_UP " && ip tuntap add t1 mode tap"));
	stderr_begin();
	r = nic_try("t1", "br0", &limited, &nic);
	if (r) {
		const char *said = stderr_end();

		assert_int_equal(r, -ENOENT);
		assert_non_null(strstr(said, "tap t1: cannot limit"));
		assert_non_null(strstr(said, "modprobe -a"));
		assert_true(is_bare("t1"));
		skip();
	}
	stderr_end();
	nic_close(&nic);
	nic = nic_open("t1", "br0", &limited);
	peer = nic_open("t2", "br0", &plain);
	wire = wire_open("t1");
	make_frame(frame, 1400, NIC_MAC, 0);
	keeps_the_rate(&(struct flow){ .from = &nic, .to = &peer, .len = 1400 });
	make_tcp(frame, 64000, NIC_MAC);
	keeps_the_rate(&(struct flow){ .from = &nic, .to = &peer, .len = 64000, .mss = 1448 });
	make_frame(frame, 1400, OTHER_MAC, 0);
	keeps_the_rate(&(struct flow){ .wire = wire, .to = &nic, .len = 1400 });
	assert_true(netns_run("tc -s filter show dev t1 ingress | grep -q 'dropped [1-9]'"));
	close(wire);
	nic_close(&nic);
	nic_close(&peer);
	assert_true(is_bare("t1"));
}

/* The smallest and the largest are numbers the kernel takes, and shows as they were meant. */
static void knows_all_rates(void **state)
{
	static const struct {
		uint64_t rate;
		const char *shown;
	} rates[] = { { EDGE_RATE_MIN, "131072bit" }, { 1250000, "10Mbit" },
		      { 12500000000, "100Gbit" }, { EDGE_RATE_MAX, "8.79Tbit\\|8796Gbit" } };
	struct mnl_socket *nl;

	assert_true(netns_run("ip tuntap add t1 mode tap"));
	assert_int_equal(link_connect(&nl), 0);
	for (unsigned int i = 0; i < sizeof(rates) / sizeof(rates[0]); i++) {
		uint64_t burst = rates[i].rate / 20 > BURST ? rates[i].rate / 20 : BURST;
		int index = (int)if_nametoindex("t1");
		int r = tc_shaper_add(nl, index, rates[i].rate, burst, 2 * burst);

		if (r == -ENOENT)
			break;
		assert_int_equal(r, 0);
		assert_true(netns_run("tc qdisc show dev t1 | grep -q 'rate \\(%s\\) '",
				      rates[i].shown));
		assert_int_equal(tc_shaper_delete(nl, index), 0);
		assert_int_equal(tc_hook_add(nl, index), 0);
		r = tc_police_add(nl, index, rates[i].rate, burst);
		if (r != -ENOENT) {
			assert_int_equal(r, 0);
			assert_true(netns_run("tc filter show dev t1 ingress | "
					      "grep -q 'rate \\(%s\\) '", rates[i].shown));
			assert_int_equal(tc_filter_delete(nl, index, TC_INGRESS, TC_PLACE_POLICE),
					 0);
		}
		assert_int_equal(tc_hook_release(nl, index), 0);
	}
	link_disconnect(nl);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(shapes_what_the_guest_gets, netns_enter),
		cmocka_unit_test_setup(limits_each_way, netns_enter),
		cmocka_unit_test_setup(knows_all_rates, netns_enter),
	};

	return netns_skip_tc() ? 77 : cmocka_run_group_tests(tests, NULL, NULL);
}
