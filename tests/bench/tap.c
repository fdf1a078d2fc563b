/* SPDX-License-Identifier: MIT */
/*
 * What a frame costs at a TAP: CPU time of the calls that send it and receive it, one by one and
 * many by one ring, through a bridge in a network namespace of this program's own.
 *
 *	tap [LEN]...
 */
#include <liburing.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "net/net.h"
#include "util/util.h"

#define ROUNDS 300
#define BURST 384 /* less than a TAP holds */
#define FRAME_MAX 9014
#define HDR 12

struct bench {
	struct net *from, *to;
	struct io_uring uring; /* of reads */
	uint8_t data[NET_SEND_MAX][HDR + FRAME_MAX];
	struct iovec iov[NET_SEND_MAX];
	struct net_frame frames[NET_SEND_MAX];
};

struct cost {
	double send_ns, recv_ns; /* in all */
	unsigned long sent, received;
};

static double cpu_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static void quit(const char *why)
{
	fprintf(stderr, "tap: %s\n", why);
	exit(1);
}

static struct net *open_tap(const char *name)
{
	struct net_options opts = { .tap = name, .bridge = "br0" };
	struct net *net;

	if (net_open(&opts, &net) < 0)
		exit(1);
	return net;
}

static void set_up(struct bench *bench)
{
	if (unshare(CLONE_NEWNET) < 0)
		quit("no network namespace (run as root)");
	if (system("sysctl -qw net.ipv6.conf.default.disable_ipv6=1 && "
		   "ip link add br0 type bridge mcast_snooping 0 && ip link set br0 mtu 9000 up"))
		quit("no bridge");
	bench->from = open_tap("from");
	bench->to = open_tap("to");
	if (io_uring_queue_init(NET_SEND_MAX, &bench->uring,
				IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN) < 0)
		quit("no io_uring");
	/* The bridge learns where the frames go, which then go nowhere else. */
	memcpy(bench->data[0] + HDR, "\2\0\0\0\0\1\2\0\0\0\0\2\x88\xb5", 14);
	bench->iov[0] = (struct iovec){ bench->data[0], HDR + 60 };
	bench->to->ops->send(bench->to, 0, bench->iov, 1);
	for (unsigned int i = 0; i < NET_SEND_MAX; i++) {
		memcpy(bench->data[i] + HDR, "\2\0\0\0\0\2\2\0\0\0\0\1\x88\xb5", 14);
		bench->iov[i].iov_base = bench->data[i];
		bench->frames[i] = (struct net_frame){ &bench->iov[i], 1 };
	}
}

static void set_length(struct bench *bench, size_t len)
{
	for (unsigned int i = 0; i < NET_SEND_MAX; i++)
		bench->iov[i].iov_len = HDR + len;
}

static unsigned int recv_each(struct bench *bench)
{
	unsigned int received = 0;

	while (bench->to->ops->recv(bench->to, 0, bench->iov, 1) > 0)
		received++;
	return received;
}

/* As many reads at once as a ring makes of them; some find nothing. */
static unsigned int recv_by_ring(struct bench *bench, unsigned int at_once)
{
	struct io_uring_cqe *cqe;
	unsigned int received = 0, came;

	do {
		for (unsigned int i = 0; i < at_once; i++)
			io_uring_prep_readv2(io_uring_get_sqe(&bench->uring), bench->to->fds[0],
					     &bench->iov[i], 1, 0, RWF_NOWAIT);
		io_uring_submit_and_wait(&bench->uring, at_once);
		came = 0;
		for (unsigned int i = 0; i < at_once; i++) {
			if (io_uring_peek_cqe(&bench->uring, &cqe) < 0)
				quit("a read was not done at once");
			came += cqe->res > 0;
			io_uring_cqe_seen(&bench->uring, cqe);
		}
		received += came;
	} while (came == at_once);
	return received;
}

/* 0: no ring. */
static void run_burst(struct bench *bench, unsigned int at_once, struct cost *cost)
{
	double start = cpu_ns(), sent;
	struct pollfd pfd = { .fd = bench->to->fds[0], .events = POLLIN };
	unsigned int received = 0;
	int error;

	for (unsigned int i = 0; i < BURST; i += MAX(at_once, 1u))
		cost->sent += at_once ? net_send(bench->from, 0, bench->frames, at_once, &error) :
			      net_send_each(bench->from, 0, bench->frames, 1, &error);
	sent = cpu_ns();
	cost->send_ns += sent - start;
	while (received < BURST && poll(&pfd, 1, 1000) == 1) /* the kernel may still be at it */
		received += at_once ? recv_by_ring(bench, at_once) : recv_each(bench);
	cost->received += received;
	cost->recv_ns += cpu_ns() - sent;
}

int main(int argc, char **argv)
{
	static const unsigned int at_once[] = { 0, 4, 8, 16, NET_SEND_MAX };
	static const char *const lens[] = { "60", "1514", "9000" };
	static struct bench bench;
	unsigned int count = argc > 1 ? (unsigned int)argc - 1 : ARRAY_LEN(lens);

	set_up(&bench);
	printf("bytes  at once  send ns  recv ns\n");
	for (unsigned int i = 0; i < count; i++) {
		size_t len = strtoul(argc > 1 ? argv[i + 1] : lens[i], NULL, 10);
		struct cost costs[ARRAY_LEN(at_once)] = { 0 };

		set_length(&bench, MIN(MAX(len, 60u), (size_t)FRAME_MAX));
		/* In turns, so that all have the same neighbours. */
		for (unsigned int round = 0; round < ROUNDS; round++)
			for (unsigned int j = 0; j < ARRAY_LEN(at_once); j++)
				run_burst(&bench, at_once[j], &costs[j]);
		for (unsigned int j = 0; j < ARRAY_LEN(at_once); j++) {
			if (costs[j].sent != ROUNDS * BURST || costs[j].received < costs[j].sent)
				quit("frames were lost");
			printf("%5zu  %7u  %7.0f  %7.0f\n", len, MAX(at_once[j], 1u),
			       costs[j].send_ns / (double)costs[j].sent,
			       costs[j].recv_ns / (double)costs[j].received);
		}
	}
	net_close(bench.from);
	net_close(bench.to);
	return 0;
}
