/* SPDX-License-Identifier: MIT */
/* Monitor ports of real TAPs: what is seen there; who makes them, shares them, takes them away. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "net/link.h"
#include "net/monitor.h"
#include "netns.h"
#include "nic.h"

static uint8_t frame[NIC_FRAME_MAX];

static const struct edge_options plain, monitored = { .monitor = "mon0" };

/* Frames of every kind go from a guest to the host's interface `tap` and back. */
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
	assert_true(netns_shows("ip -d link show mon0", "[<,]UP"));
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

	assert_false(netns_shows("ip addr show mon0", "inet"));
	assert_true(netns_shows("ip -d link show mon0", "alias minivmm monitor"));
	assert_true(netns_shows("ip -d link show mon0", "multi_queue"));
	assert_true(netns_shows("ip -d link show mon0", "user root"));
	nic_close(&nic);
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
	assert_true(netns_shows("ip -d link show mon0", "numqueues 16"));
	assert_false(netns_shows("ip link", "mvmon"));
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
	assert_true(netns_shows("ip link show mon0", "[<,]UP"));
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
	nic_fails("t0", "br0", &opts, -EINVAL, "monitor=t0", "its own monitor", NULL);
	opts.monitor = "br0";
	nic_fails("t0", "br0", &opts, -EINVAL, "monitor=br0", "its own bridge", NULL);
	opts.monitor = "lo";
	nic_fails("t0", "br0", &opts, -EINVAL, "monitor lo: not an Ethernet interface", NULL);
	for (unsigned int i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		opts.monitor = bad[i];
		nic_fails("t0", NULL, &opts, -EINVAL, "monitor=", "not an interface name", NULL);
	}
	assert_true(is_bare("t0"));
}

/* Whoever called closes what it has after a failure, too: nobody else's file, by then. */
static void failure_leaves_no_file(void **state)
{
	struct monitor monitor = { .fd = 999 };
	struct mnl_socket *nl;
	int status;
	pid_t pid;

	pid = fork();
	if (pid == 0) {
		assert_int_equal(link_connect(&nl), 0);
		assert_int_equal(monitor_open(nl, "a/b", &monitor), -EINVAL);
		assert_true(monitor.fd < 0);
		drop_net_admin();
		assert_int_equal(monitor_open(nl, "mon0", &monitor), -EPERM);
		assert_true(monitor.fd < 0);
		link_disconnect(nl);
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
		TEST(failure_leaves_no_file),
	};

	return netns_skip_tc() ? 77 : cmocka_run_group_tests(tests, NULL, NULL);
}
