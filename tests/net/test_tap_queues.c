/* SPDX-License-Identifier: MIT */
/* TAPs with several queues: made, adopted, handed in, and which frames come by which. */
#include <errno.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tap.h"

static struct net *open_queues(const char *tap, unsigned int queues, unsigned int by_default)
{
	struct net_options opts = { .tap = tap, .queues = queues, .queues_default = by_default };
	struct net *net = NULL;

	assert_int_equal(net_open(&opts, &net), 0);
	return net;
}

static void makes_queues(void **state)
{
	struct net *net = open_queues("q", 4, 0);

	assert_int_equal(net->queue_count, 4);
	assert_true(shown("q", "multi_queue numqueues 1 numdisabled 3"));
	for (unsigned int i = 0; i < 4; i++) {
		assert_true(fcntl(net->fds[i], F_GETFL) & O_NONBLOCK);
		assert_true(fcntl(net->fds[i], F_GETFD) & FD_CLOEXEC);
	}
	for (unsigned int count = 4; count; count--) {
		assert_int_equal(net->ops->set_queues(net, count), 0);
		assert_true(netns_run("ip -d link show q | grep -q 'numqueues %u numdisabled %u'",
				      count, 4 - count));
	}
	net_close(net);
	assert_false(exists("q"));
	net = open_queues("q", 1, 4);
	assert_int_equal(net->queue_count, 1);
	assert_false(shown("q", "multi_queue"));
	net_close(net);
}

/* Another user gets no queue, and none of the guest's frames. */
static void keeps_others_out(void **state)
{
	struct ifreq req = { .ifr_name = "q", .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR |
							   IFF_MULTI_QUEUE };
	struct net *net = open_queues("q", 2, 0);
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC), status;
	pid_t pid = fork();

	if (pid == 0) {
		if (setresuid(65534, 65534, 65534) < 0)
			_exit(1);
		_exit(ioctl(fd, TUNSETIFF, &req) == 0 || errno != EPERM ? 2 : 0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	close(fd);
	net_close(net);
}

/* Nobody could tell who has a queue that was set aside. */
static void takes_no_tap_with_a_queue_set_aside(void **state)
{
	const int flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE;
	struct net_options opts = { .tap = "several", .queues = 2 };
	struct ifreq detach = { .ifr_flags = IFF_DETACH_QUEUE };
	int fd = open_tap("several", flags);

	assert_int_equal(ioctl(fd, TUNSETPERSIST, 1), 0);
	assert_int_equal(ioctl(fd, TUNSETQUEUE, &detach), 0);
	assert_true(shown("several", "numqueues 0 numdisabled 1"));
	open_fails(&opts, -EBUSY, "tap several: in use by another process", NULL);
	close(fd);
}

/* Without queues= it is what the machine would like, where that can be had. */
static void takes_the_queues_there_can_be(void **state)
{
	struct net_options opts = { .tap = "single", .queues = 2 };
	struct net *net;

	assert_true(netns_run("ip tuntap add single mode tap && "
			      "ip tuntap add several mode tap multi_queue"));
	net = open_queues("n", 0, 3);
	assert_int_equal(net->queue_count, 3);
	net_close(net);
	net = open_queues("single", 0, 3);
	assert_int_equal(net->queue_count, 1);
	net_close(net);
	net = open_queues("several", 0, 3);
	assert_int_equal(net->queue_count, 3);
	assert_int_equal(net->ops->set_queues(net, 2), 0);
	net_close(net);
	assert_true(shown("several", "multi_queue numqueues 0 numdisabled 0 persist on"));
	open_fails(&opts, -EINVAL, "tap single: has one queue, not 2",
		   "ip tuntap add single mode tap multi_queue", "queues=", NULL);
}

static void turns_queues_on_without_rights(void **state)
{
	struct net *net;
	pid_t pid;
	int status;

	assert_true(netns_run("ip tuntap add several mode tap user 0 multi_queue && "
			      "ip link set several up"));
	pid = fork();
	if (pid == 0) {
		drop_net_admin();
		net = open_queues("several", 8, 0);
		assert_int_equal(net->ops->set_queues(net, 8), 0);
		assert_int_equal(net->ops->set_queues(net, 1), 0);
		net_close(net);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void takes_files_of_queues(void **state)
{
	const int flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE;
	struct net_options opts = { .fd_count = 3, .queues_default = 8 };
	struct net *net;

	for (unsigned int i = 0; i < 3; i++)
		opts.fds[i] = open_tap("given", flags);
	assert_int_equal(net_open(&opts, &net), 0);
	assert_int_equal(net->queue_count, 3);
	assert_true(shown("given", "numqueues 1 numdisabled 2"));
	assert_int_equal(net->ops->set_queues(net, 3), 0);
	assert_true(shown("given", "numqueues 3 numdisabled 0"));
	net_close(net);
	assert_false(exists("given"));
}

static void refuses_wrong_files_of_queues(void **state)
{
	const int flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR, many = flags | IFF_MULTI_QUEUE;
	int one = open_tap("one", flags);
	struct net_options opts = { .fds = { open_tap("a", many), open_tap("b", many) },
				    .fd_count = 2 };

	open_fails(&opts, -EINVAL, "is b, not a as the first", NULL);
	opts.fds[1] = one;
	open_fails(&opts, -EINVAL, "one lacks IFF_MULTI_QUEUE (", NULL);
	opts.fds[1] = 999;
	open_fails(&opts, -EINVAL, "fd=999: not an open TAP", NULL);
	opts.queues = 3;
	open_fails(&opts, -EINVAL, "2 files given, not the 3 of queues=", NULL);
	opts.fd_count = 1;
	open_fails(&opts, -EINVAL, "1 file given, not the 3 of queues=", NULL);
	assert_true(shown("a", "numqueues 1 numdisabled 0"));
}

/* A UDP datagram from one address and port to another; the kernel tells flows apart by them. */
static void make_datagram(uint8_t frame[12 + 60], const uint8_t macs[12], uint8_t from, uint8_t to)
{
	/* Of the IPv4 header, without a carry; br_netfilter looks at it. */
	uint16_t sum = (uint16_t)~(0x4500 + 0x002e + 0x4011 + 0x0a00 + from + 0x0a00 + to);

	memset(frame, 0, 12 + 60);
	memcpy(frame + 12, macs, 12);
	memcpy(frame + 24, "\x08\x00\x45\0\0\x2e\0\0\0\0\x40\x11\0\0\x0a\0\0\0\x0a\0\0\0", 22);
	frame[12 + 24] = (uint8_t)(sum >> 8);
	frame[12 + 25] = (uint8_t)sum;
	frame[12 + 29] = from;
	frame[12 + 33] = to;
	memcpy(frame + 12 + 34, (uint8_t[8]){ 4, from, 4, to, 0, 26 }, 8);
}

/* On which queue of `net` the next frame of the flow comes; others are passed over. */
static unsigned int queue_of_next(struct net *net, uint8_t from)
{
	uint8_t frame[2048];
	struct iovec iov = { frame, sizeof(frame) };

	for (unsigned int tries = 0; tries < 2000; tries++) {
		for (unsigned int i = 0; i < net->queue_count; i++)
			if (net->ops->recv(net, i, &iov, 1) == 72 && frame[24] == 8 &&
			    frame[12 + 29] == from)
				return i;
		usleep(1000);
	}
	fail_msg("nothing came of flow %u", from);
	return 0;
}

static void flows_come_by_the_queue_they_went_by(void **state)
{
	static const uint8_t out[] = "\2\0\0\0\0\1\2\0\0\0\0\2";
	static const uint8_t back[] = "\2\0\0\0\0\2\2\0\0\0\0\1";
	uint8_t frame[12 + 60];
	struct iovec iov = { frame, sizeof(frame) };
	struct net *one, *many;

	assert_true(netns_run(BRIDGE_UP));
	one = open_ok("one", "br0");
	many = open_queues("many", 4, 0);
	assert_true(netns_run("ip link set many master br0"));
	assert_int_equal(many->ops->set_queues(many, 4), 0);
	for (uint8_t flow = 1; flow < 32; flow++) {
		unsigned int queue = flow * 7u % 4;

		make_datagram(frame, out, flow, 100);
		assert_int_equal(many->ops->send(many, queue, &iov, 1), sizeof(frame));
		assert_int_equal(queue_of_next(one, flow), 0);
		make_datagram(frame, back, 100, flow);
		assert_int_equal(one->ops->send(one, 0, &iov, 1), sizeof(frame));
		assert_int_equal(queue_of_next(many, 100), queue);
	}
	/* All by those that are left, in which there is nothing old. */
	assert_int_equal(many->ops->set_queues(many, 1), 0);
	for (uint8_t flow = 1; flow < 32; flow++) {
		make_datagram(frame, back, 100, flow);
		assert_int_equal(one->ops->send(one, 0, &iov, 1), sizeof(frame));
		assert_int_equal(queue_of_next(many, 100), 0);
	}
	net_close(one);
	net_close(many);
}

static void fill_frames(uint8_t data[][72], struct iovec (*iov)[2], struct net_frame *frames)
{
	static const uint8_t macs[] = "\2\0\0\0\0\1\2\0\0\0\0\2";

	for (uint8_t i = 0; i < NET_SEND_MAX; i++) {
		make_datagram(data[i], macs, 100, i);
		iov[i][0] = (struct iovec){ data[i], 12 };
		iov[i][1] = (struct iovec){ data[i] + 12, 60 };
		frames[i] = (struct net_frame){ iov[i], 2 };
	}
}

/* The next datagrams are those to `from`, and on to before `to`. */
static void come_in_order(struct net *net, unsigned int from, unsigned int to)
{
	uint8_t frame[2048];
	struct iovec iov = { frame, sizeof(frame) };

	for (unsigned int tries = 0; from < to && tries < 2000; tries++) {
		while (net->ops->recv(net, 0, &iov, 1) == 72)
			if (frame[24] == 8 && frame[12 + 29] == 100)
				assert_int_equal(frame[12 + 33], from++);
		usleep(1000);
	}
	assert_int_equal(from, to);
}

static void sends_many_in_order(void **state)
{
	uint8_t data[NET_SEND_MAX][72];
	struct iovec iov[NET_SEND_MAX][2];
	struct net_frame frames[NET_SEND_MAX];
	struct net *a, *b;
	int error = 0;

	assert_true(netns_run(BRIDGE_UP));
	a = open_ok("first", "br0");
	b = open_ok("second", "br0");
	fill_frames(data, iov, frames);
	for (unsigned int count = 1; count <= NET_SEND_MAX; count++) {
		assert_int_equal(net_send(a, 0, frames, count, &error), count);
		come_in_order(b, 0, count);
	}
	assert_int_equal(error, 0);
	/* Up to the first that is none. */
	for (unsigned int count = 3; count < NET_SEND_MAX; count += 13) {
		data[2][1] = 0x7f;
		assert_int_equal(net_send(a, 0, frames, count, &error), 2);
		assert_int_equal(error, -EINVAL);
		data[2][1] = 0;
		come_in_order(b, 0, 2);
	}
	assert_true(netns_run("ip link del dev first"));
	assert_int_equal(net_send(a, 0, frames, NET_SEND_MAX, &error), 0);
	assert_int_equal(error, -ENODEV);
	net_close(a);
	net_close(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(makes_queues, netns_enter),
		cmocka_unit_test_setup(keeps_others_out, netns_enter),
		cmocka_unit_test_setup(takes_no_tap_with_a_queue_set_aside, netns_enter),
		cmocka_unit_test_setup(takes_the_queues_there_can_be, netns_enter),
		cmocka_unit_test_setup(turns_queues_on_without_rights, netns_enter),
		cmocka_unit_test_setup(takes_files_of_queues, netns_enter),
		cmocka_unit_test_setup(refuses_wrong_files_of_queues, netns_enter),
		cmocka_unit_test_setup(flows_come_by_the_queue_they_went_by, netns_enter),
		cmocka_unit_test_setup(sends_many_in_order, netns_enter),
	};

	return netns_skip() ? 77 : cmocka_run_group_tests(tests, NULL, NULL);
}
