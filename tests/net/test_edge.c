/* SPDX-License-Identifier: MIT */
/* Guards and isolated ports on real TAPs: what passes; what is left, of monitors too. */
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "nic.h"
#include "tap.h"

static uint8_t frame[NIC_FRAME_MAX];

static const struct edge_options plain, monitored = { .monitor = "mon0" },
	guarded = { .guard.on = true }, isolated = { .isolated = true };

/* --- guards --- */

static void guard_drops_and_counts(void **state)
{
	const struct edge_options opts = { .guard.on = true, .monitor = "mon0" };
	struct nic nic, peer;
	int monitor;

	assert_true(netns_run(BRIDGE_UP));
	nic = nic_open("t1", "br0", &opts);
	peer = nic_open("t2", "br0", &plain);
	monitor = wire_open("mon0");
	make_frame(frame, 100, OTHER_MAC, 0);
	assert_int_equal(nic_send(&nic, frame, 100, 0), 0);
	assert_true(wire_gets(monitor, frame, 100)); /* who watches sees it */
	make_frame(frame, 100, OTHER_MAC, 0x2005);
	assert_int_equal(nic_send(&nic, frame, 100, 0), 0);
	make_frame(frame, 101, NIC_MAC, 0);
	assert_int_equal(nic_send(&nic, frame, 101, 0), 0);
	assert_true(nic_gets(&peer, frame, 101));
	make_frame(frame, 102, NIC_MAC, 0x2005);
	assert_int_equal(nic_send(&nic, frame, 102, 0), 0);
	assert_true(nic_gets(&peer, frame, 102));
	assert_true(netns_shows("tc -s qdisc show dev t1 clsact", "dropped 2,"));
	assert_false(netns_shows("bridge fdb show dev t1", "02:66:77:88:99:aa"));
	close(monitor);
	nic_close(&nic);
	nic_close(&peer);
}

/* 192.0.2.7 sends to 192.0.2.8, in a VLAN too, and no other address. */
static void guard_knows_addresses(void **state)
{
	struct edge_options opts = { 0 };
	struct nic nic, peer;

	assert_int_equal(guard_parse("192.0.2.7+2001:db8::7", &opts.guard), 0);
	assert_true(netns_run(BRIDGE_UP));
	nic = nic_open("t1", "br0", &opts);
	peer = nic_open("t2", "br0", &plain);
	make_frame(frame, 100, NIC_MAC, 0); /* another protocol */
	assert_int_equal(nic_send(&nic, frame, 100, 0), 0);
	make_tcp(frame, 100, NIC_MAC);
	frame[29]++; /* 192.0.2.8 */
	assert_int_equal(nic_send(&nic, frame, 100, 0), 0);
	frame[29]--;
	assert_int_equal(nic_send(&nic, frame, 30, 0), 0); /* cut off in the address */
	assert_int_equal(nic_send(&nic, frame, 100, 0), 0);
	assert_true(nic_gets(&peer, frame, 100));
	memmove(frame + 16, frame + 12, 100);
	memcpy(frame + 12, "\x81\0\0\7", 4);
	assert_int_equal(nic_send(&nic, frame, 104, 0), 0);
	assert_true(nic_gets(&peer, frame, 104));
	frame[33]++;
	assert_int_equal(nic_send(&nic, frame, 104, 0), 0);
	assert_true(netns_shows("tc -s qdisc show dev t1 clsact", "dropped 4,"));
	nic_close(&nic);
	nic_close(&peer);
}

/* --- isolated ports --- */

static bool passes(const struct nic *from, const struct nic *to)
{
	static uint16_t tag;

	make_frame(frame, 100, NIC_MAC, ++tag);
	assert_int_equal(nic_send(from, frame, 100, 0), 0);
	return nic_gets(to, frame, 100);
}

static void isolated_ports_do_not_meet(void **state)
{
	struct nic a, b, up;

	assert_true(netns_run(BRIDGE_UP " && ip tuntap add t1 mode tap"));
	a = nic_open("t1", "br0", &isolated);
	b = nic_open(NULL, "br0", &isolated);
	up = nic_open(NULL, "br0", &plain);
	assert_false(passes(&a, &b));
	assert_false(passes(&b, &a));
	assert_true(passes(&a, &up));
	assert_true(passes(&up, &b));
	nic_close(&a);
	nic_close(&b);
	nic_close(&up);

	assert_true(netns_run("ip link set t1 master br0 up"));
	a = nic_open("t1", "br0", &isolated);
	assert_true(netns_shows("bridge -d link show dev t1", "isolated on"));
	nic_close(&a);
	assert_true(netns_shows("bridge -d link show dev t1", "isolated off"));
	assert_true(netns_run("bridge link set dev t1 isolated on"));
	a = nic_open("t1", "br0", &isolated);
	nic_close(&a);
	assert_true(netns_shows("bridge -d link show dev t1", "isolated on"));
	nic_fails(NULL, NULL, &isolated, -EINVAL, "isolated", "on no bridge", "bridge=NAME", NULL);
}

/* --- what is there before, and what is left --- */

static void lives_with_filters_of_others(void **state)
{
	struct nic nic;

	assert_true(netns_run("ip tuntap add t0 mode tap && tc qdisc add dev t0 clsact && "
			      "tc filter add dev t0 ingress prio 7 bpf da bytecode '1,6 0 0 0,'"));
	nic = nic_open("t0", NULL, &monitored);
	nic_close(&nic);
	assert_true(netns_shows("tc filter show dev t0 ingress", "pref 7 bpf"));
	assert_false(netns_shows("tc filter show dev t0 ingress", "mirred"));
	assert_false(netns_shows("tc filter show dev t0 egress", "mirred"));

	assert_true(netns_run("tc filter add dev t0 ingress prio 2 protocol ip u32 match u32 0 0"));
	nic_fails("t0", NULL, &guarded, -EINVAL, "tap t0: cannot guard it", "tc filter show",
		   NULL);
	assert_true(netns_run("tc qdisc del dev t0 clsact && tc qdisc add dev t0 ingress"));
	nic_fails("t0", NULL, &guarded, -EINVAL, "tap t0: ", "tc qdisc show", NULL);
	assert_true(netns_shows("tc qdisc show dev t0", "ingress"));
}

static void takes_isolation_off(void **state)
{
	struct nic nic;

	assert_true(netns_run(BRIDGE_UP " && ip tuntap add t1 mode tap && "
			      "ip link set t1 master br0 up"));
	kill_child(nic_in_a_child("t1", "br0", &isolated));
	assert_true(netns_shows("bridge -d link show dev t1", "isolated on"));
	nic = nic_open("t1", "br0", &isolated);
	nic_close(&nic);
	assert_true(netns_shows("bridge -d link show dev t1", "isolated off"));
	kill_child(nic_in_a_child("t1", "br0", &isolated));
	nic = nic_open("t1", "br0", &plain);
	assert_true(netns_shows("bridge -d link show dev t1", "isolated off"));
	assert_false(netns_shows("ip link show t1", "alias"));
	nic_close(&nic);
}

static void takes_over_what_was_left(void **state)
{
	const struct edge_options both = { .monitor = "mon0", .guard.on = true };
	struct nic nic;

	assert_true(netns_run("ip tuntap add t0 mode tap"));
	kill_child(nic_in_a_child("t0", NULL, &both));
	assert_false(exists("mon0"));
	assert_true(netns_shows("tc filter show dev t0 ingress", "direct-action"));
	nic = nic_open("t0", NULL, &plain);
	assert_true(is_bare("t0"));
	nic_close(&nic);

	kill_child(nic_in_a_child("t0", NULL, &both));
	assert_true(netns_run("tc qdisc add dev t0 root handle 6d76: tbf rate 1mbit burst 32k "
			      "latency 50ms"));
	nic = nic_open("t0", NULL, &both);
	nic_close(&nic);
	assert_true(is_bare("t0"));

	/* Somebody else's stays: it has other numbers. */
	kill_child(nic_in_a_child("t0", NULL, &both));
	assert_true(netns_run("tc filter add dev t0 ingress prio 9 bpf da bytecode '1,6 0 0 0,' && "
			      "tc qdisc add dev t0 root tbf rate 1mbit burst 32k latency 50ms"));
	nic = nic_open("t0", NULL, &plain);
	nic_close(&nic);
	assert_true(netns_shows("tc filter show dev t0 ingress", "pref 9 bpf"));
	assert_false(netns_shows("tc filter show dev t0 ingress", "pref 2 bpf"));
	assert_true(netns_shows("tc qdisc show dev t0", "tbf"));
}

static void works_on_an_open_tap(void **state)
{
	struct net_options opts = {
		.fds = { open_tap("given", IFF_TAP | IFF_NO_PI | IFF_VNET_HDR) }, .fd_count = 1 };
	struct net *net;
	struct edge *edge;

	assert_int_equal(net_open(&opts, &net), 0);
	assert_int_equal(edge_open(net, &monitored, (const uint8_t *)NIC_MAC, &edge), 0);
	assert_true(netns_shows("tc filter show dev given egress", "Mirror to device mon0"));
	edge_close(edge);
	assert_true(is_bare("given"));

	/* In another namespace, where one of its name is as well. */
	assert_int_equal(unshare(CLONE_NEWNET), 0);
	assert_true(netns_run("ip tuntap add given mode tap"));
	stderr_begin();
	assert_int_equal(edge_open(net, &monitored, (const uint8_t *)NIC_MAC, &edge), -EXDEV);
	assert_non_null(strstr(stderr_end(), "tap given: in another network namespace"));
	assert_true(is_bare("given"));
	assert_int_equal(edge_open(net, &plain, (const uint8_t *)NIC_MAC, &edge), 0);
	assert_null(edge);
	net_close(net);
}

static void names_the_missing_right(void **state)
{
	pid_t pid;
	int status;

	assert_true(netns_run("ip tuntap add t0 mode tap user 0 && ip link set t0 up"));
	kill_child(nic_in_a_child("t0", NULL, &guarded));
	pid = fork();
	if (pid == 0) {
		struct nic nic;

		drop_net_admin();
		stderr_begin();
		nic = nic_open("t0", NULL, &plain);
		nic_close(&nic);
		assert_non_null(strstr(stderr_end(), "as root once"));
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_true(netns_run("tc qdisc del dev t0 clsact"));
	pid = fork();
	if (pid == 0) {
		drop_net_admin();
		nic_fails("t0", NULL, &monitored, -EPERM, "tap t0: ", "CAP_NET_ADMIN", "as root",
			   NULL);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

#define TEST(name) cmocka_unit_test_setup(name, netns_enter)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(guard_drops_and_counts), TEST(guard_knows_addresses),
		TEST(isolated_ports_do_not_meet), TEST(lives_with_filters_of_others),
		TEST(takes_over_what_was_left), TEST(takes_isolation_off),
		TEST(works_on_an_open_tap),
		TEST(names_the_missing_right),
	};

	return netns_skip_tc() ? 77 : cmocka_run_group_tests(tests, NULL, NULL);
}
