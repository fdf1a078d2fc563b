/* SPDX-License-Identifier: MIT */
/* TAPs and bridges, made, adopted and put back; each error's one line. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tap.h"

static void creates_and_deletes(void **state)
{
	struct net *net = open_ok(NULL, NULL);
	char name[16];

	snprintf(name, sizeof(name), "%s", net->ifname);
	assert_string_equal(name, "mv0");
	assert_true(shown(name, "tun type tap pi off vnet_hdr on persist off"));
	assert_true(shown(name, "[<,]UP"));
	assert_true(shown(name, "link/ether fe:"));
	assert_int_equal(net->mtu, 1500);
	assert_true(net->offloads & NET_OFFLOAD_CSUM);
	assert_true(net->offloads & NET_OFFLOAD_TSO6);
	assert_true(fcntl(net->fds[0], F_GETFL) & O_NONBLOCK);
	net_close(net);
	assert_false(exists(name));
	net_close(NULL);
}

/* By the machine's name. */
static void named(const char *vm_name, const char *ifname)
{
	struct net_options opts = {.bridge = "br0", .vm_name = vm_name};
	struct net *net;

	assert_int_equal(net_open(&opts, &net), 0);
	assert_string_equal(net->ifname, ifname);
	net_close(net);
}

static void joins_the_bridge(void **state)
{
	struct net *a, *b;

	assert_true(netns_run(BRIDGE_UP " && ip link set br0 mtu 1400"));
	a = open_ok(NULL, "br0");
	b = open_ok("guest1", "br0");
	assert_string_equal(a->ifname, "mv0");
	assert_string_equal(b->ifname, "guest1");
	assert_true(shown("mv0", "mtu 1400.*master br0"));
	assert_true(shown("guest1", "mtu 1400.*master br0"));
	assert_true(shown("guest1", "[<,]UP"));
	assert_false(netns_shows("ip addr show dev guest1", "inet6"));
	assert_true(shown("br0", "mtu 1400"));
	assert_int_equal(b->mtu, 1400);
	net_close(a);
	assert_false(exists("mv0"));
	named("web", "mvweb0");
	named("web1", "mvweb1-0");
	named("a/b%s a-long-name", "mva-b-s-a-l0");
	named("", "mv0");
	net_close(b);
	assert_false(exists("guest1"));
	assert_true(exists("br0"));
}

/* What a bridge can have is not what a TAP can. */
static void takes_the_longest_mtu_it_can(void **state)
{
	const char *said;
	struct net *net;

	assert_true(netns_run(BRIDGE_UP " && ip link set br0 mtu 65521"));
	stderr_begin();
	net = open_ok(NULL, "br0");
	said = stderr_end();
	assert_string_equal(said, "");
	assert_int_equal(net->mtu, 65521);
	net_close(net);
	assert_true(netns_run("ip link set br0 mtu 65535"));
	stderr_begin();
	net = open_ok(NULL, "br0");
	said = stderr_end();
	assert_non_null(strstr(said, "mv0: its MTU is 65521"));
	assert_non_null(strstr(said, "ip link set br0 mtu 65521"));
	assert_int_equal(net->mtu, 65521);
	assert_true(shown("mv0", "mtu 65521.*master br0"));
	assert_true(shown("br0", "mtu 65535"));
	net_close(net);
}

static void deletes_though_the_file_is_held(void **state)
{
	struct net *net = open_ok("guest1", NULL);
	int held = dup(net->fds[0]);

	net_close(net);
	assert_false(exists("guest1"));
	close(held);
}

static void killed_leaves_nothing(void **state)
{
	int ready[2];
	pid_t pid;
	char byte;

	assert_true(netns_run(BRIDGE_UP));
	assert_int_equal(pipe(ready), 0);
	pid = fork();
	if (pid == 0) {
		open_ok("guest1", "br0");
		if (write(ready[1], "x", 1) == 1)
			pause();
		_exit(1);
	}
	assert_int_equal(read(ready[0], &byte, 1), 1);
	assert_true(exists("guest1"));
	kill_child(pid);
	assert_false(exists("guest1"));
	close(ready[0]);
	close(ready[1]);
}

static void adopts_and_puts_back(void **state)
{
	struct net *net;

	assert_true(netns_run(BRIDGE_UP " && ip link add br1 type bridge && "
			      "ip tuntap add t0 mode tap && ip link set t0 master br1"));
	net = open_ok("t0", "br0");
	assert_true(shown("t0", "master br0"));
	assert_true(shown("t0", "[<,]UP"));
	net_close(net);
	assert_true(shown("t0", "master br1"));
	assert_false(shown("t0", "[<,]UP"));
	assert_true(shown("t0", "persist on"));

	/* free before, so free again */
	assert_true(netns_run("ip link set t0 nomaster && ip link set t0 up"));
	net = open_ok("t0", "br0");
	net_close(net);
	assert_false(shown("t0", "master"));
	assert_true(shown("t0", "[<,]UP"));
}

static void adopts_what_is_ready_without_rights(void **state)
{
	struct net *net;
	pid_t pid;
	int status;

	assert_true(netns_run(BRIDGE_UP " && ip tuntap add t0 mode tap user 0 && "
			      "ip link set t0 master br0 up"));
	pid = fork();
	if (pid == 0) {
		drop_net_admin();
		net = open_ok("t0", "br0");
		net_close(net);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_true(shown("t0", "master br0"));
}

static void puts_the_header_size_back(void **state)
{
	struct ifreq req = { .ifr_name = "t0",
			     .ifr_flags = (short)(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR) };
	int bytes, fd;

	assert_true(netns_run("ip tuntap add t0 mode tap"));
	net_close(open_ok("t0", NULL));
	fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	assert_int_equal(ioctl(fd, TUNSETIFF, &req), 0);
	assert_int_equal(ioctl(fd, TUNGETVNETHDRSZ, &bytes), 0);
	assert_int_equal(bytes, sizeof(struct virtio_net_hdr));
	close(fd);
}

static void adopts_a_multiqueue_tap(void **state)
{
	struct net_options opts = { .tap = "t0" };
	struct net *net;

	assert_true(netns_run("ip tuntap add t0 mode tap multi_queue"));
	net = open_ok("t0", NULL);
	open_fails(&opts, -EBUSY, "tap t0: ", "in use", NULL);
	net_close(net);
	assert_true(shown("t0", "multi_queue numqueues 0"));
}

static void takes_an_open_tap(void **state)
{
	struct net_options opts = {
		.fds = { open_tap("given", IFF_TAP | IFF_NO_PI | IFF_VNET_HDR) }, .fd_count = 1 };
	struct net *net;

	assert_int_equal(net_open(&opts, &net), 0);
	assert_string_equal(net->ifname, "given");
	net_close(net); /* closed the only file of it */
	assert_false(exists("given"));
}

static void refuses_a_wrong_fd(void **state)
{
	int files[] = { open_tap("nohdr", IFF_TAP | IFF_NO_PI),
			open_tap("tun", IFF_TUN | IFF_NO_PI | IFF_VNET_HDR),
			open_tap("pi", IFF_TAP | IFF_VNET_HDR), open("/dev/null", O_RDWR) };
	static const char *const why[] = { "IFF_VNET_HDR (", "IFF_TAP (", "IFF_NO_PI (",
					   "not an open TAP" };
	struct net_options opts = { .fds = { 999 }, .fd_count = 1 };

	open_fails(&opts, -EINVAL, "net: fd=999: not an open TAP", NULL);
	for (int i = 0; i < 4; i++) {
		opts.fds[0] = files[i];
		open_fails(&opts, -EINVAL, why[i], NULL);
		assert_int_equal(close(files[i]), 0); /* still the caller's */
	}
	opts.bridge = "br0";
	open_fails(&opts, -EINVAL, "neither tap= nor bridge=", NULL);
}

static void refuses_bad_names(void **state)
{
	static const char *const bad[] = { "", "sixteen_letters_", "a/b", "a b", "..", "tap%d",
					   "a:1", "x\n" };
	struct net_options opts = { 0 };

	for (unsigned int i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		opts.tap = bad[i];
		opts.bridge = NULL;
		open_fails(&opts, -EINVAL, "net: tap=", "not an interface name", NULL);
		opts.bridge = bad[i];
		opts.tap = NULL;
		open_fails(&opts, -EINVAL, "net: bridge=", "not an interface name", NULL);
	}
}

static void names_the_missing_bridge(void **state)
{
	struct net_options opts = { .bridge = "br7" };

	open_fails(&opts, -ENODEV, "bridge br7: no such interface",
		   "ip link add br7 type bridge && ip link set br7 up", NULL);
	opts.bridge = "lo";
	open_fails(&opts, -EINVAL, "bridge lo: not a bridge", NULL);
	assert_true(netns_run("ip link add v0 type veth peer name v1"));
	opts.bridge = "v0";
	open_fails(&opts, -EINVAL, "bridge v0: not a bridge but veth", NULL);
}

static void warns_of_a_bridge_that_is_down(void **state)
{
	struct net *net;

	assert_true(netns_run("ip link add br0 type bridge"));
	stderr_begin();
	net = open_ok(NULL, "br0");
	assert_non_null(strstr(stderr_end(), "ip link set br0 up"));
	net_close(net);
}

static void tells_wrong_and_busy_apart(void **state)
{
	struct net_options opts = { .tap = "lo" };
	struct net *net;

	open_fails(&opts, -EINVAL, "tap lo: not a TAP", NULL);
	assert_true(netns_run("ip tuntap add tun7 mode tun && ip link add d0 type veth"));
	opts.tap = "d0";
	open_fails(&opts, -EINVAL, "tap d0: not a TAP but veth", NULL);
	opts.tap = "tun7";
	open_fails(&opts, -EINVAL, "tap tun7: a tun device, not a TAP", NULL);
	net = open_ok("t0", NULL);
	opts.tap = "t0";
	open_fails(&opts, -EBUSY, "tap t0: in use", NULL);
	net_close(net);
}

static void without_rights(void)
{
	struct net_options opts = { .bridge = "br0" };

	drop_net_admin();
	open_fails(&opts, -EPERM, "CAP_NET_ADMIN", "run as root", "ip tuntap add mv0 mode tap user",
		   "ip link set mv0 master br0 up", "fd=", "--net user", NULL);
	opts.tap = "new";
	open_fails(&opts, -EPERM, "CAP_NET_ADMIN", "ip tuntap add new", NULL);
	opts.tap = "other";
	open_fails(&opts, -EPERM, "tap other: not yours", NULL);
	opts.tap = "mine";
	open_fails(&opts, -EPERM, "tap mine: no right to bring it up on bridge br0",
		   "ip link set mine master br0 up", NULL);
}

static void names_the_missing_right(void **state)
{
	int status;
	pid_t pid;

	assert_true(netns_run(BRIDGE_UP " && ip tuntap add other mode tap user 1234 && "
			      "ip tuntap add mine mode tap user 0"));
	pid = fork();
	if (pid == 0) {
		without_rights();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_false(shown("mine", "master"));
}

static void names_the_missing_driver(void **state)
{
	struct net_options opts = { 0 };
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
		    mount("none", "/dev/net", "tmpfs", 0, NULL))
			_exit(77);
		open_fails(&opts, -ENOENT, "/dev/net/tun: no such device", "modprobe tun", NULL);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		skip();
	assert_int_equal(status, 0);
}

/* Wait up to 2 s for a frame of `type` on `net`. Its length with the header, or -errno. */
static ssize_t recv_type(struct net *net, uint16_t type, uint8_t *frame, size_t size)
{
	struct iovec iov[2] = { { frame, 7 }, { frame + 7, size - 7 } };
	struct pollfd pfd = { .fd = net->fds[0], .events = POLLIN };
	ssize_t len;

	for (;;) {
		len = net->ops->recv(net, 0, iov, 2);
		if (len == -EAGAIN && poll(&pfd, 1, 2000) == 1)
			continue;
		if (len < 0)
			return len;
		if (frame[12 + 12] == type >> 8 && frame[12 + 13] == (type & 0xff))
			return len;
	}
}

static void moves_frames(void **state)
{
	uint8_t out[12 + 60] = { 0 }, in[2048];
	struct iovec iov = { out, sizeof(out) };
	struct net *a, *b;

	assert_true(netns_run(BRIDGE_UP));
	a = open_ok("a", "br0");
	b = open_ok("b", "br0");
	memset(out + 12, 0xff, 6);
	memcpy(out + 18, "\2\0\0\0\0\1\x88\xb5hello", 13); /* local experimental ethertype */
	assert_int_equal(a->ops->send(a, 0, &iov, 1), sizeof(out));
	assert_int_equal(recv_type(b, 0x88b5, in, sizeof(in)), sizeof(out));
	assert_memory_equal(in + 12, out + 12, 60);

	/* The filter: not for us, then for us. */
	assert_int_equal(b->ops->set_filter(b, (const uint8_t[1][6]){ "\2\0\0\0\0\2" }, 1, false),
			 0);
	assert_int_equal(a->ops->send(a, 0, &iov, 1), sizeof(out));
	memcpy(out + 12, "\2\0\0\0\0\2", 6);
	assert_int_equal(a->ops->send(a, 0, &iov, 1), sizeof(out));
	assert_int_equal(recv_type(b, 0x88b5, in, sizeof(in)), sizeof(out));
	assert_memory_equal(in + 12, "\2\0\0\0\0\2", 6);

	/* A header the kernel does not take; a frame that is none. */
	out[1] = 0x7f;
	assert_int_equal(a->ops->send(a, 0, &iov, 1), -EINVAL);
	iov.iov_len = 5;
	assert_int_equal(a->ops->send(a, 0, &iov, 1), -EINVAL);

	/* Deleted under us. */
	assert_false(b->ops->gone(b));
	assert_true(netns_run("ip link set dev b down"));
	assert_false(b->ops->gone(b));
	assert_true(netns_run("ip link del dev b"));
	assert_true(b->ops->gone(b));
	iov = (struct iovec){ in, sizeof(in) };
	assert_int_equal(b->ops->recv(b, 0, &iov, 1), -ENODEV);
	assert_int_equal(b->ops->send(b, 0, &iov, 1), -ENODEV);
	net_close(a);
	net_close(b);
}

/* Is it up, once something was heard of it (or 2 s have passed)? */
static bool link_is_up(struct net *net)
{
	struct pollfd pfd = { .fd = net->link_fd, .events = POLLIN };
	bool up = false;

	if (poll(&pfd, 1, 2000) != 1)
		return false;
	while (poll(&pfd, 1, 50) == 1)
		up = net->ops->link_up(net);
	return up;
}

static void follows_the_link(void **state)
{
	struct net *net = open_ok("t0", NULL);

	assert_true(link_is_up(net));
	assert_true(netns_run("ip link set t0 down"));
	assert_false(link_is_up(net));
	assert_true(netns_run("ip link set t0 up"));
	assert_true(link_is_up(net));
	assert_true(netns_run("ip link set t0 carrier off"));
	assert_false(link_is_up(net));
	assert_true(netns_run("ip link set t0 carrier on"));
	assert_true(link_is_up(net));
	/* Others are none of ours; nor is there harm in more than the socket holds. */
	assert_true(netns_run("ip link add d0 type veth && ip link set d0 up"));
	assert_true(link_is_up(net));
	assert_true(netns_run("ip link set t0 down; for i in $(seq 3000); do "
			      "echo link set d0 down; echo link set d0 up; done | ip -batch -"));
	assert_true(netns_run("ip link set t0 up"));
	assert_true(link_is_up(net));
	net_close(net);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(creates_and_deletes, netns_enter),
		cmocka_unit_test_setup(joins_the_bridge, netns_enter),
		cmocka_unit_test_setup(takes_the_longest_mtu_it_can, netns_enter),
		cmocka_unit_test_setup(deletes_though_the_file_is_held, netns_enter),
		cmocka_unit_test_setup(killed_leaves_nothing, netns_enter),
		cmocka_unit_test_setup(adopts_and_puts_back, netns_enter),
		cmocka_unit_test_setup(adopts_what_is_ready_without_rights, netns_enter),
		cmocka_unit_test_setup(puts_the_header_size_back, netns_enter),
		cmocka_unit_test_setup(adopts_a_multiqueue_tap, netns_enter),
		cmocka_unit_test_setup(takes_an_open_tap, netns_enter),
		cmocka_unit_test_setup(refuses_a_wrong_fd, netns_enter),
		cmocka_unit_test_setup(refuses_bad_names, netns_enter),
		cmocka_unit_test_setup(names_the_missing_bridge, netns_enter),
		cmocka_unit_test_setup(warns_of_a_bridge_that_is_down, netns_enter),
		cmocka_unit_test_setup(tells_wrong_and_busy_apart, netns_enter),
		cmocka_unit_test_setup(names_the_missing_right, netns_enter),
		cmocka_unit_test_setup(names_the_missing_driver, netns_enter),
		cmocka_unit_test_setup(moves_frames, netns_enter),
		cmocka_unit_test_setup(follows_the_link, netns_enter),
	};

	return netns_skip() ? 77 : cmocka_run_group_tests(tests, NULL, NULL);
}
