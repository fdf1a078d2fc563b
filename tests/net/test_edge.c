/* SPDX-License-Identifier: MIT */
/* Monitor ports, guards and isolated ports on real TAPs: what passes, is seen, is left. */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "netns.h"
#include "nic.h"

#define BRIDGE_UP "ip link add br0 type bridge && ip link set br0 up"
#define OTHER_MAC "\x02\x66\x77\x88\x99\xaa"

static uint8_t frame[NIC_FRAME_MAX];

static const struct edge_options plain, monitored = { .monitor = "mon0" },
	guarded = { .guard.on = true }, isolated = { .isolated = true };

static bool exists(const char *name)
{
	return if_nametoindex(name) != 0;
}

static bool shown(const char *what, const char *pattern)
{
	return netns_run("%s | grep -q -- '%s'", what, pattern);
}

static unsigned int count_links(void)
{
	struct if_nameindex *list = if_nameindex();
	unsigned int count = 0;

	assert_non_null(list);
	while (list[count].if_index)
		count++;
	if_freenameindex(list);
	return count;
}

/* Nothing of ours, or anybody's, is at the interface. */
static bool is_bare(const char *name)
{
	return !netns_run("tc qdisc show dev %s | grep -qE 'clsact|tbf'", name);
}

/* It fails with `error` and one line that has every one of the NULL-ended texts in it, and no
 * interface more or less is there afterwards. */
static void open_fails(const char *tap, const char *bridge, const struct edge_options *opts,
		       int error, ...)
{
	unsigned int links = count_links();
	const char *said, *want;
	struct nic nic;
	va_list args;
	int r;

	stderr_begin();
	r = nic_try(tap, bridge, opts, &nic);
	said = stderr_end();
	assert_int_equal(r, error);
	assert_non_null(strchr(said, '\n'));
	assert_string_equal(strchr(said, '\n'), "\n");
	va_start(args, error);
	while ((want = va_arg(args, const char *)))
		if (!strstr(said, want))
			fail_msg("no \"%s\" in: %s", want, said);
	va_end(args);
	assert_int_equal(count_links(), links);
}

/* --- the monitor port --- */

/* Frames of every kind go from a guest to the host's interface `peer` and back. */
static void sees_both_ways(const struct nic *nic, int monitor, int tap)
{
	static const struct {
		size_t len;
		uint16_t tag, mss;
	} kinds[] = { { 60, 0, 0 }, { 1514, 0, 0 }, { 1518, 0x2005, 0 }, { 9014, 0, 0 },
		      { 64000, 0, 1448 } };

	for (unsigned int i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (kinds[i].mss)
			make_tcp(frame, kinds[i].len, NIC_MAC);
		else
			make_frame(frame, kinds[i].len, NIC_MAC, kinds[i].tag);
		assert_int_equal(nic_send(nic, frame, kinds[i].len, kinds[i].mss), 0);
		assert_true(wire_gets(monitor, frame, kinds[i].len));
		memcpy(frame + 6, OTHER_MAC, 6);
		assert_int_equal(wire_send(tap, frame, kinds[i].len, kinds[i].mss), 0);
		assert_true(wire_gets(monitor, frame, kinds[i].len));
		if (!kinds[i].mss)
			assert_true(nic_gets(nic, frame, kinds[i].len));
	}
}

static void monitor_sees_both_ways(void **state)
{
	struct nic nic;
	int monitor, tap;

	assert_true(netns_run(BRIDGE_UP " && ip tuntap add t0 mode tap && "
			      "ip link set t0 mtu 9000"));
	nic = nic_open("t0", "br0", &monitored);
	assert_true(shown("ip -d link show mon0", "[<,]UP"));
	monitor = wire_open("mon0");
	tap = wire_open("t0");
	sees_both_ways(&nic, monitor, tap);

	/* One way only: what somebody sends by the monitor is for nobody. */
	make_frame(frame, 61, OTHER_MAC, 0);
	wire_send(monitor, frame, 61, 0);
	assert_false(nic_gets(&nic, frame, 61));
	close(monitor);
	close(tap);
	nic_close(&nic);
	assert_false(exists("mon0"));
	assert_true(is_bare("t0"));
}

/* Nothing but the NIC's frames: an IPv6 address would have the host talk there by itself. */
static void monitor_is_silent(void **state)
{
	struct nic nic = nic_open(NULL, NULL, &monitored);

	assert_false(shown("ip addr show mon0", "inet"));
	assert_true(shown("ip -d link show mon0", "alias minivmm monitor"));
	assert_true(shown("ip -d link show mon0", "multi_queue"));
	assert_true(shown("ip -d link show mon0", "user root"));
	nic_close(&nic);
}

static pid_t nic_in_a_child(const char *tap, const char *bridge, const struct edge_options *opts)
{
	int ready[2];
	pid_t pid;
	char byte;

	assert_int_equal(pipe(ready), 0);
	pid = fork();
	if (pid == 0) {
		nic_open(tap, bridge, opts);
		if (write(ready[1], "x", 1) == 1)
			pause();
		_exit(1);
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	return pid;
}

static void kill_child(pid_t pid)
{
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void last_one_takes_the_monitor_away(void **state)
{
	pid_t first = nic_in_a_child("t1", NULL, &monitored);
	struct nic second, third;
	int monitor;

	second = nic_open("t2", NULL, &monitored);
	third = nic_open("t3", NULL, &monitored);
	kill_child(first);
	assert_false(exists("t1"));
	assert_true(exists("mon0"));
	nic_close(&second);
	monitor = wire_open("mon0");
	make_frame(frame, 100, NIC_MAC, 0);
	assert_int_equal(nic_send(&third, frame, 100, 0), 0);
	assert_true(wire_gets(monitor, frame, 100));
	nic_close(&third);
	assert_false(exists("mon0"));
	close(monitor);
}

static void killed_leaves_no_monitor(void **state)
{
	unsigned int links = count_links();

	kill_child(nic_in_a_child("t1", NULL, &monitored));
	assert_int_equal(count_links(), links);
}

/* Many at once, as when a host starts: one makes it, all use it. */
static void many_share_a_monitor_from_the_start(void **state)
{
	int go[2], done[2];
	char byte;
	int monitor;

	assert_int_equal(pipe(go), 0);
	assert_int_equal(pipe(done), 0);
	for (int i = 0; i < 16; i++) {
		if (fork() != 0)
			continue;
		close(go[1]);
		if (read(go[0], &byte, 1) == 0) {
			struct nic nic = nic_open(NULL, NULL, &monitored);

			if (write(done[1], "x", 1) != 1 || read(go[0], &byte, 1) == 0)
				pause();
			nic_close(&nic);
		}
		_exit(1);
	}
	close(go[1]);
	for (int i = 0; i < 16; i++)
		assert_int_equal(read(done[0], &byte, 1), 1);
	monitor = wire_open("mon0");
	assert_true(shown("ip -d link show mon0", "numqueues 16"));
	assert_false(shown("ip link", "mvmon"));
	close(monitor);
	kill(0, SIGTERM); /* this test's group: see in_a_group */
}

/* cmocka runs tests in one process: what kills its group needs one of its own. */
static void in_a_group(void (*test)(void **state))
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		setpgid(0, 0);
		test(NULL);
		_exit(1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
}

static void many_share_a_monitor(void **state)
{
	in_a_group(many_share_a_monitor_from_the_start);
	for (int i = 0; exists("mon0") && i < 100; i++)
		usleep(20000);
	assert_false(exists("mon0"));
}

static void adopts_a_monitor(void **state)
{
	struct nic nic;
	int probe;

	assert_true(netns_run("ip link add mon0 type veth peer name probe && "
			      "ip link set mon0 up && ip link set probe up"));
	probe = wire_open("probe");
	nic = nic_open(NULL, NULL, &monitored);
	make_frame(frame, 100, NIC_MAC, 0x2005);
	assert_int_equal(nic_send(&nic, frame, 100, 0), 0);
	assert_true(wire_gets(probe, frame, 100));
	nic_close(&nic);
	assert_true(shown("ip link show mon0", "[<,]UP"));
	close(probe);
}

/* Down, deleted, or with nobody who reads: the guest goes on. */
static void guest_outlives_its_monitor(void **state)
{
	struct nic nic, peer;
	int probe;

	assert_true(netns_run(BRIDGE_UP " && ip link add mon0 type veth peer name probe"));
	stderr_begin();
	nic = nic_open("t1", "br0", &monitored);
	assert_non_null(strstr(stderr_end(), "ip link set mon0 up"));
	peer = nic_open("t2", "br0", &plain);
	make_frame(frame, 100, NIC_MAC, 0);
	assert_int_equal(nic_send(&nic, frame, 100, 0), 0);
	assert_true(nic_gets(&peer, frame, 100));

	assert_true(netns_run("ip link set mon0 up && ip link set probe up"));
	probe = wire_open("probe"); /* its buffer fills up */
	for (int i = 0; i < 20000; i++)
		assert_int_equal(nic_send(&nic, frame, 100, 0), 0);
	close(probe);
	while (nic_recv(&peer, frame, 0))
		;
	make_frame(frame, 200, NIC_MAC, 0);
	assert_true(netns_run("ip link del mon0"));
	assert_int_equal(nic_send(&nic, frame, 200, 0), 0);
	assert_true(nic_gets(&peer, frame, 200));
	nic_close(&nic);
	nic_close(&peer);

	nic = nic_open("t1", NULL, &monitored); /* made, and then deleted */
	assert_true(netns_run("ip link del mon0"));
	assert_int_equal(nic_send(&nic, frame, 200, 0), 0);
	nic_close(&nic);
}

static void refuses_a_bad_monitor(void **state)
{
	static const char *const bad[] = { "", "sixteen_letters_", "a/b", "tap%d" };
	struct edge_options opts = { .monitor = "t0" };

	assert_true(netns_run(BRIDGE_UP " && ip tuntap add t0 mode tap"));
	open_fails("t0", "br0", &opts, -EINVAL, "monitor=t0", "its own monitor", NULL);
	opts.monitor = "br0";
	open_fails("t0", "br0", &opts, -EINVAL, "monitor=br0", "its own bridge", NULL);
	opts.monitor = "lo";
	open_fails("t0", "br0", &opts, -EINVAL, "monitor lo: not an Ethernet interface", NULL);
	for (unsigned int i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		opts.monitor = bad[i];
		open_fails("t0", NULL, &opts, -EINVAL, "monitor=", "not an interface name", NULL);
	}
	assert_true(is_bare("t0"));
}

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
	assert_true(shown("tc -s qdisc show dev t1 clsact", "dropped 2,"));
	assert_false(shown("bridge fdb show dev t1", "02:66:77:88:99:aa"));
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
	assert_true(shown("tc -s qdisc show dev t1 clsact", "dropped 4,"));
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
	assert_true(shown("bridge -d link show dev t1", "isolated on"));
	nic_close(&a);
	assert_true(shown("bridge -d link show dev t1", "isolated off"));
	assert_true(netns_run("bridge link set dev t1 isolated on"));
	a = nic_open("t1", "br0", &isolated);
	nic_close(&a);
	assert_true(shown("bridge -d link show dev t1", "isolated on"));
	open_fails(NULL, NULL, &isolated, -EINVAL, "isolated", "on no bridge", "bridge=NAME", NULL);
}

/* --- what is there before, and what is left --- */

static void lives_with_filters_of_others(void **state)
{
	struct nic nic;

	assert_true(netns_run("ip tuntap add t0 mode tap && tc qdisc add dev t0 clsact && "
			      "tc filter add dev t0 ingress prio 7 bpf da bytecode '1,6 0 0 0,'"));
	nic = nic_open("t0", NULL, &monitored);
	nic_close(&nic);
	assert_true(shown("tc filter show dev t0 ingress", "pref 7 bpf"));
	assert_false(shown("tc filter show dev t0 ingress", "mirred"));
	assert_false(shown("tc filter show dev t0 egress", "mirred"));

	assert_true(netns_run("tc filter add dev t0 ingress prio 2 protocol ip u32 match u32 0 0"));
	open_fails("t0", NULL, &guarded, -EINVAL, "tap t0: cannot guard it", "tc filter show",
		   NULL);
	assert_true(netns_run("tc qdisc del dev t0 clsact && tc qdisc add dev t0 ingress"));
	open_fails("t0", NULL, &guarded, -EINVAL, "tap t0: ", "tc qdisc show", NULL);
	assert_true(shown("tc qdisc show dev t0", "ingress"));
}

static void takes_isolation_off(void **state)
{
	struct nic nic;

	assert_true(netns_run(BRIDGE_UP " && ip tuntap add t1 mode tap && "
			      "ip link set t1 master br0 up"));
	kill_child(nic_in_a_child("t1", "br0", &isolated));
	assert_true(shown("bridge -d link show dev t1", "isolated on"));
	nic = nic_open("t1", "br0", &isolated);
	nic_close(&nic);
	assert_true(shown("bridge -d link show dev t1", "isolated off"));
	kill_child(nic_in_a_child("t1", "br0", &isolated));
	nic = nic_open("t1", "br0", &plain);
	assert_true(shown("bridge -d link show dev t1", "isolated off"));
	assert_false(shown("ip link show t1", "alias"));
	nic_close(&nic);
}

static void takes_over_what_was_left(void **state)
{
	const struct edge_options both = { .monitor = "mon0", .guard.on = true };
	struct nic nic;

	assert_true(netns_run("ip tuntap add t0 mode tap"));
	kill_child(nic_in_a_child("t0", NULL, &both));
	assert_false(exists("mon0"));
	assert_true(shown("tc filter show dev t0 ingress", "direct-action"));
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
	assert_true(shown("tc filter show dev t0 ingress", "pref 9 bpf"));
	assert_false(shown("tc filter show dev t0 ingress", "pref 2 bpf"));
	assert_true(shown("tc qdisc show dev t0", "tbf"));
}

static int open_tap(const char *name)
{
	struct ifreq req = { .ifr_flags = (short)(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR) };
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

	snprintf(req.ifr_name, sizeof(req.ifr_name), "%s", name);
	assert_int_equal(ioctl(fd, TUNSETIFF, &req), 0);
	return fd;
}

static void works_on_an_open_tap(void **state)
{
	struct net_options opts = { .fds = { open_tap("given") }, .fd_count = 1 };
	struct net *net;
	struct edge *edge;

	assert_int_equal(net_open(&opts, &net), 0);
	assert_int_equal(edge_open(net, &monitored, (const uint8_t *)NIC_MAC, &edge), 0);
	assert_true(shown("tc filter show dev given egress", "Mirror to device mon0"));
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
		open_fails("t0", NULL, &monitored, -EPERM, "tap t0: ", "CAP_NET_ADMIN", "as root",
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
		TEST(monitor_sees_both_ways), TEST(monitor_is_silent),
		TEST(last_one_takes_the_monitor_away), TEST(killed_leaves_no_monitor),
		TEST(many_share_a_monitor), TEST(adopts_a_monitor),
		TEST(guest_outlives_its_monitor), TEST(refuses_a_bad_monitor),
		TEST(guard_drops_and_counts), TEST(guard_knows_addresses),
		TEST(isolated_ports_do_not_meet), TEST(lives_with_filters_of_others),
		TEST(takes_over_what_was_left), TEST(takes_isolation_off),
		TEST(works_on_an_open_tap),
		TEST(names_the_missing_right),
	};

	return netns_skip_tc() ? 77 : cmocka_run_group_tests(tests, NULL, NULL);
}
