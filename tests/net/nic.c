/* SPDX-License-Identifier: MIT */
#include "nic.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "netns.h"

#define PATIENCE_MS 1000
#define SOCKET_BYTES (8 << 20)

int nic_try(const char *tap, const char *bridge, const struct edge_options *opts,
	    struct nic *out)
{
	struct net_options net = { .tap = tap, .bridge = bridge };
	int r;

	*out = (struct nic){ 0 };
	r = net_open(&net, &out->net);
	if (r)
		return r;
	r = edge_open(out->net, opts, (const uint8_t *)NIC_MAC, &out->edge);
	if (r) {
		net_close(out->net);
		*out = (struct nic){ 0 };
	}
	return r;
}

/* The kernel takes up to a second to see that an interface has a carrier, and so to forward. */
static void wait_for_port(const char *name)
{
	for (int i = 0; i < 250; i++) {
		if (netns_run("bridge link show dev %s | grep -q 'state forwarding'", name))
			return;
		usleep(20000);
	}
	fail_msg("%s: no frames are forwarded", name);
}

struct nic nic_open(const char *tap, const char *bridge, const struct edge_options *opts)
{
	struct nic nic;

	assert_int_equal(nic_try(tap, bridge, opts, &nic), 0);
	if (bridge)
		wait_for_port(nic.net->ifname);
	return nic;
}

void nic_close(struct nic *nic)
{
	edge_close(nic->edge);
	net_close(nic->net);
}

void nic_fails(const char *tap, const char *bridge, const struct edge_options *opts, int error,
	       ...)
{
	unsigned int links = count_links();
	const char *said;
	struct nic nic;
	va_list texts;
	int r;

	stderr_begin();
	r = nic_try(tap, bridge, opts, &nic);
	said = stderr_end();
	assert_int_equal(r, error);
	va_start(texts, error);
	assert_one_line(said, texts);
	va_end(texts);
	assert_int_equal(count_links(), links);
}

pid_t nic_in_a_child(const char *tap, const char *bridge, const struct edge_options *opts)
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

bool is_bare(const char *name)
{
	return !netns_run("tc qdisc show dev %s | grep -qE 'clsact|tbf'", name);
}

static struct virtio_net_hdr_v1 header(uint16_t mss)
{
	struct virtio_net_hdr_v1 hdr = { 0 };

	if (mss) {
		hdr.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
		hdr.gso_type = VIRTIO_NET_HDR_GSO_TCPV4;
		hdr.gso_size = mss;
		hdr.hdr_len = 54;
		hdr.csum_start = 34;
		hdr.csum_offset = 16;
	}
	return hdr;
}

int nic_send(const struct nic *nic, const void *frame, size_t len, uint16_t mss)
{
	struct virtio_net_hdr_v1 hdr = header(mss);
	struct iovec iov[2] = { { &hdr, sizeof(hdr) }, { (void *)frame, len } };
	ssize_t sent = nic->net->ops->send(nic->net, 0, iov, 2);

	return sent < 0 ? (int)sent : 0;
}

static bool ready(int fd, int timeout_ms)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };

	return poll(&pfd, 1, timeout_ms) == 1;
}

size_t nic_recv(const struct nic *nic, void *frame, int timeout_ms)
{
	struct virtio_net_hdr_v1 hdr;
	struct iovec iov[2] = { { &hdr, sizeof(hdr) }, { frame, NIC_FRAME_MAX } };
	ssize_t len;

	if (!ready(nic->net->fds[0], timeout_ms))
		return 0;
	len = nic->net->ops->recv(nic->net, 0, iov, 2);
	return len > (ssize_t)sizeof(hdr) ? (size_t)len - sizeof(hdr) : 0;
}

int wire_open(const char *name)
{
	struct sockaddr_ll addr = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL),
				    .sll_ifindex = (int)if_nametoindex(name) };
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int on = 1, bytes = SOCKET_BYTES;

	assert_true(fd >= 0 && addr.sll_ifindex);
	assert_int_equal(setsockopt(fd, SOL_PACKET, PACKET_AUXDATA, &on, sizeof(on)), 0);
	assert_int_equal(setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof(on)), 0);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)), 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	return fd;
}

/* The kernel hands the tag out beside the frame. */
static size_t put_tag(uint8_t *frame, size_t len, struct msghdr *msg)
{
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(msg);
	struct tpacket_auxdata aux;
	uint16_t tag[2];

	if (!cmsg || cmsg->cmsg_type != PACKET_AUXDATA)
		return len;
	memcpy(&aux, CMSG_DATA(cmsg), sizeof(aux));
	if (!(aux.tp_status & TP_STATUS_VLAN_VALID))
		return len;
	tag[0] = htons(aux.tp_vlan_tpid);
	tag[1] = htons(aux.tp_vlan_tci);
	memmove(frame + 16, frame + 12, len - 12);
	memcpy(frame + 12, tag, 4);
	return len + 4;
}

size_t wire_recv(int fd, void *frame, int timeout_ms)
{
	struct virtio_net_hdr hdr;
	struct iovec iov[2] = { { &hdr, sizeof(hdr) }, { frame, NIC_FRAME_MAX - 4 } };
	char control[CMSG_SPACE(sizeof(struct tpacket_auxdata))];
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 2, .msg_control = control,
			      .msg_controllen = sizeof(control) };
	ssize_t len;

	if (!ready(fd, timeout_ms))
		return 0;
	len = recvmsg(fd, &msg, 0);
	if (len < (ssize_t)sizeof(hdr) + ETH_HLEN)
		return 0;
	return put_tag(frame, (size_t)len - sizeof(hdr), &msg);
}

int wire_send(int fd, const void *frame, size_t len, uint16_t mss)
{
	struct virtio_net_hdr_v1 hdr = header(mss);
	struct iovec iov[2] = { { &hdr, sizeof(struct virtio_net_hdr) }, { (void *)frame, len } };

	return writev(fd, iov, 2) < 0 ? -errno : 0;
}

void make_frame(uint8_t *frame, size_t len, const char *src, uint16_t tag)
{
	const uint8_t vlan[] = { 0x81, 0, (uint8_t)(tag >> 8), (uint8_t)tag };
	size_t at = 12;

	for (size_t i = 0; i < len; i++)
		frame[i] = (uint8_t)(i * 7);
	memset(frame, 0xff, 6);
	memcpy(frame + 6, src, 6);
	if (tag) {
		memcpy(frame + at, vlan, sizeof(vlan));
		at += sizeof(vlan);
	}
	frame[at] = FRAME_TYPE >> 8;
	frame[at + 1] = FRAME_TYPE & 0xff;
}

/* Bridges check it where br_netfilter is loaded. */
static void put_ip_checksum(uint8_t *ip)
{
	uint32_t sum = 0;

	ip[10] = ip[11] = 0;
	for (int i = 0; i < 20; i += 2)
		sum += (uint32_t)ip[i] << 8 | ip[i + 1];
	sum = (sum & 0xffff) + (sum >> 16);
	sum += sum >> 16;
	ip[10] = (uint8_t)(~sum >> 8);
	ip[11] = (uint8_t)~sum;
}

void make_tcp(uint8_t *frame, size_t len, const char *src)
{
	static const uint8_t ip_tcp[40] = {
		0x45, 0, 0, 0, 0, 1, 0, 0, 64, 6, 0, 0, 192, 0, 2, 7, 192, 0, 2, 8,
		0, 80, 0, 90, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 1, 0,
	};

	make_frame(frame, len, src, 0);
	frame[12] = 0x08;
	frame[13] = 0x00;
	memcpy(frame + 14, ip_tcp, sizeof(ip_tcp));
	frame[16] = (uint8_t)((len - 14) >> 8);
	frame[17] = (uint8_t)(len - 14);
	put_ip_checksum(frame + 14);
}

bool nic_gets(const struct nic *nic, const void *frame, size_t len)
{
	static uint8_t got[NIC_FRAME_MAX];
	size_t n;

	while ((n = nic_recv(nic, got, PATIENCE_MS)))
		if (n == len && !memcmp(got, frame, len))
			return true;
	return false;
}

bool wire_gets(int fd, const void *frame, size_t len)
{
	static uint8_t got[NIC_FRAME_MAX];
	size_t n;

	while ((n = wire_recv(fd, got, PATIENCE_MS)))
		if (n == len && !memcmp(got, frame, len))
			return true;
	return false;
}

void wire_forget(int fd)
{
	static uint8_t got[NIC_FRAME_MAX];

	while (wire_recv(fd, got, 0))
		;
}
