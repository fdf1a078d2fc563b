/* SPDX-License-Identifier: MIT */
/*
 * Frames over a stream: what passt speaks, and QEMU's -netdev stream. Each frame stands behind
 * its length, 32 bits big-endian. The header that virtio-net wants before a frame does not
 * cross: there are no offloads here, so it is all zeroes on the way in, and must ask for
 * nothing on the way out.
 *
 * Receiving: when the length of a frame is known, one system call reads the frame into the
 * caller's buffers and the next one's length behind it, never more. So nothing waits here that
 * the socket's readiness does not tell. A frame of which only a part has come is gathered in
 * `held`, and copied once it is whole:
 *
 *	| length | frame ............ | length | frame ......
 *	  prefix   caller's, or held    prefix
 *
 * Sending: a frame of which the socket took only a part was begun, and the rest of it goes from
 * `rest` before anything else. The peer waits for that rest and does nothing meanwhile, hence
 * `flush`.
 *
 * A length that cannot be, or the end of the stream, is the end of the link.
 */
#include "net/stream.h"

#include <endian.h>
#include <errno.h>
#include <linux/virtio_net.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/passt.h"
#include "util/util.h"

#define HDR_BYTES sizeof(struct virtio_net_hdr_v1)
#define PREFIX_BYTES 4u
/* sendmsg(2) and recvmsg(2) take no more entries. */
#define ENTRIES_MAX 1024

struct stream {
	struct net net;
	struct passt *passt; /* or NULL */
	char peer[112];

	/* of the frame that comes next, or is being gathered */
	uint8_t prefix[PREFIX_BYTES];
	size_t prefix_bytes;
	uint8_t held[STREAM_FRAME_MAX];
	size_t held_bytes;

	uint8_t rest[PREFIX_BYTES + STREAM_FRAME_MAX];
	size_t rest_at, rest_end;
};

static struct stream *to_stream(struct net *net)
{
	return CONTAINER_OF(net, struct stream, net);
}

/* --- parts of buffers --- */

static size_t iov_bytes(const struct iovec *iov, unsigned int count)
{
	size_t bytes = 0;

	for (unsigned int i = 0; i < count; i++)
		bytes += iov[i].iov_len;
	return bytes;
}

/* The entries of up to `len` bytes of `iov` behind the first `skip`; `to` has room for `count`. */
static unsigned int iov_slice(struct iovec *to, const struct iovec *iov, unsigned int count,
			      size_t skip, size_t len)
{
	unsigned int used = 0;

	for (unsigned int i = 0; i < count && len; i++) {
		size_t cut = MIN(skip, iov[i].iov_len), part = MIN(iov[i].iov_len - cut, len);

		skip -= cut;
		len -= part;
		if (part)
			to[used++] = (struct iovec){ (uint8_t *)iov[i].iov_base + cut, part };
	}
	return used;
}

/* Copy up to `len` bytes, out of buffers and into them. */
static void iov_gather(void *to, const struct iovec *iov, unsigned int count, size_t len)
{
	for (unsigned int i = 0; i < count && len; i++) {
		size_t part = MIN(iov[i].iov_len, len);

		to = mempcpy(to, iov[i].iov_base, part);
		len -= part;
	}
}

static void iov_scatter(const struct iovec *iov, unsigned int count, const void *from, size_t len)
{
	for (unsigned int i = 0; i < count && len; i++) {
		size_t part = MIN(iov[i].iov_len, len);

		memcpy(iov[i].iov_base, from, part);
		from = (const uint8_t *)from + part;
		len -= part;
	}
}

/* --- the end --- */

/* Nothing is right from here on; and whoever polls is to notice. */
static void hang_up(struct stream *s)
{
	shutdown(s->net.fds[0], SHUT_RDWR);
}

static int closed(struct stream *s)
{
	hang_up(s);
	if (s->passt)
		passt_end(s->passt, s->net.lost, sizeof(s->net.lost));
	else
		snprintf(s->net.lost, sizeof(s->net.lost), "%s closed the connection", s->peer);
	return -ENODEV;
}

/* What a system call on the socket said: bytes moved, -EAGAIN, or -ENODEV. */
static ssize_t result(struct stream *s, ssize_t n)
{
	if (n > 0)
		return n;
	if (n < 0 && (errno == EAGAIN || errno == EINTR || errno == ENOBUFS || errno == ENOMEM))
		return -EAGAIN;
	return closed(s);
}

/* --- receiving --- */

static uint32_t prefix_value(const struct stream *s)
{
	uint32_t value;

	memcpy(&value, s->prefix, sizeof(value));
	return be32toh(value);
}

static bool prefix_valid(const struct stream *s)
{
	return prefix_value(s) && prefix_value(s) <= STREAM_FRAME_MAX;
}

/* The length of the frame that comes next; or -EAGAIN, -ENODEV. */
static ssize_t recv_prefix(struct stream *s)
{
	if (s->prefix_bytes < PREFIX_BYTES) {
		ssize_t n = result(s, recv(s->net.fds[0], s->prefix + s->prefix_bytes,
					   PREFIX_BYTES - s->prefix_bytes, MSG_DONTWAIT));

		if (n < 0)
			return n;
		s->prefix_bytes += (size_t)n;
	}
	if (s->prefix_bytes < PREFIX_BYTES)
		return -EAGAIN;
	if (prefix_valid(s))
		return prefix_value(s);
	snprintf(s->net.lost, sizeof(s->net.lost), "%s sent a frame of %u bytes", s->peer,
		 prefix_value(s));
	hang_up(s);
	return -ENODEV;
}

/* A whole frame of `len` bytes into `to`, which has as many and room for one entry more. */
static int recv_direct(struct stream *s, struct iovec *to, unsigned int count, size_t len)
{
	struct msghdr msg = { .msg_iov = to, .msg_iovlen = count + 1 };
	ssize_t n;

	to[count] = (struct iovec){ s->prefix, PREFIX_BYTES };
	n = result(s, recvmsg(s->net.fds[0], &msg, MSG_DONTWAIT));
	if (n < 0)
		return (int)n;
	if ((size_t)n < len) {
		iov_gather(s->held, to, count, (size_t)n);
		s->held_bytes = (size_t)n;
		return -EAGAIN;
	}
	s->prefix_bytes = (size_t)n - len;
	if (s->prefix_bytes == PREFIX_BYTES && !prefix_valid(s))
		hang_up(s); /* the next call says why */
	return 0;
}

/* The same by way of `held`; what does not fit into `to` is cut off. */
static int recv_held(struct stream *s, const struct iovec *to, unsigned int count, size_t len)
{
	ssize_t n = result(s, recv(s->net.fds[0], s->held + s->held_bytes, len - s->held_bytes,
				   MSG_DONTWAIT));

	if (n < 0)
		return (int)n;
	s->held_bytes += (size_t)n;
	if (s->held_bytes < len)
		return -EAGAIN;
	iov_scatter(to, count, s->held, len);
	s->held_bytes = s->prefix_bytes = 0;
	return 0;
}

static ssize_t recv_frame(struct net *net, unsigned int queue, const struct iovec *iov,
			  unsigned int iovcnt)
{
	static const uint8_t zeroes[HDR_BYTES];
	struct stream *s = to_stream(net);
	struct iovec to[ENTRIES_MAX];
	unsigned int count;
	ssize_t len;
	int r;

	if (net->lost[0])
		return -ENODEV;
	if (iovcnt > ENTRIES_MAX)
		return -EINVAL;
	len = recv_prefix(s);
	if (len < 0)
		return len;
	count = iov_slice(to, iov, iovcnt, HDR_BYTES, (size_t)len);
	if (s->held_bytes || count == ENTRIES_MAX || iov_bytes(to, count) < (size_t)len)
		r = recv_held(s, to, count, (size_t)len);
	else
		r = recv_direct(s, to, count, (size_t)len);
	if (r < 0)
		return r;
	iov_scatter(iov, iovcnt, zeroes, HDR_BYTES);
	return (ssize_t)MIN(iov_bytes(iov, iovcnt), HDR_BYTES + (size_t)len);
}

/* --- sending --- */

static int flush(struct net *net)
{
	struct stream *s = to_stream(net);
	ssize_t n;

	if (net->lost[0])
		return -ENODEV;
	while (s->rest_at < s->rest_end) {
		n = result(s, send(net->fds[0], s->rest + s->rest_at, s->rest_end - s->rest_at,
				   MSG_DONTWAIT | MSG_NOSIGNAL));
		if (n < 0)
			return (int)n;
		s->rest_at += (size_t)n;
	}
	return 0;
}

/* All but the first `sent` bytes, for flush. */
static void keep_rest(struct stream *s, const struct iovec *iov, unsigned int count, size_t sent)
{
	s->rest_end = iov_bytes(iov, count);
	s->rest_at = sent;
	iov_gather(s->rest, iov, count, s->rest_end);
}

/* Does the header ask for what was not offered? */
static bool header_valid(const struct iovec *iov, unsigned int count)
{
	struct virtio_net_hdr_v1 hdr;

	iov_gather(&hdr, iov, count, sizeof(hdr));
	return !(hdr.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) &&
	       hdr.gso_type == VIRTIO_NET_HDR_GSO_NONE;
}

static ssize_t send_frame(struct net *net, unsigned int queue, const struct iovec *iov,
			  unsigned int iovcnt)
{
	struct iovec from[ENTRIES_MAX + 1];
	struct msghdr msg = { .msg_iov = from };
	struct stream *s = to_stream(net);
	size_t bytes = iov_bytes(iov, iovcnt);
	unsigned int count;
	uint32_t prefix;
	ssize_t n = 0;
	int r;

	if (net->lost[0])
		return -ENODEV;
	if (iovcnt > ENTRIES_MAX || bytes <= HDR_BYTES || bytes > HDR_BYTES + STREAM_FRAME_MAX ||
	    !header_valid(iov, iovcnt))
		return -EINVAL;
	r = flush(net);
	if (r < 0)
		return r;
	prefix = htobe32((uint32_t)(bytes - HDR_BYTES));
	from[0] = (struct iovec){ &prefix, PREFIX_BYTES };
	count = 1 + iov_slice(from + 1, iov, iovcnt, HDR_BYTES, bytes);
	msg.msg_iovlen = count;
	if (count <= ENTRIES_MAX) {
		n = result(s, sendmsg(net->fds[0], &msg, MSG_DONTWAIT | MSG_NOSIGNAL));
		if (n < 0)
			return n;
	}
	if ((size_t)n < PREFIX_BYTES + bytes - HDR_BYTES)
		keep_rest(s, from, count, (size_t)n);
	return (ssize_t)bytes;
}

/* --- the rest --- */

static int set_offload(struct net *net, unsigned int offloads)
{
	return offloads ? -EOPNOTSUPP : 0;
}

static bool gone(struct net *net)
{
	struct pollfd pfd = { .fd = net->fds[0], .events = POLLRDHUP };
	struct stream *s = to_stream(net);

	if (net->lost[0])
		return true;
	if (poll(&pfd, 1, 0) != 1)
		return false;
	/* Unless it was hung up on for a length that nobody has complained of yet. */
	if (s->prefix_bytes < PREFIX_BYTES || recv_prefix(s) >= 0)
		closed(s);
	return true;
}

static void identify(const struct net *net, struct net_identity *out)
{
	out->type = "user";
}

static void destroy(struct net *net)
{
	struct stream *s = to_stream(net);

	close(net->fds[0]);
	passt_destroy(s->passt);
	free(s);
}

static const struct net_ops stream_ops = {
	.send = send_frame,
	.recv = recv_frame,
	.flush = flush,
	.set_offload = set_offload,
	.gone = gone,
	.identify = identify,
	.destroy = destroy,
};

int stream_create(int fd, struct passt *passt, const char *peer, unsigned int mtu,
		  struct net **out)
{
	struct stream *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->net.ops = &stream_ops;
	s->net.queue_count = 1;
	s->net.fds[0] = fd;
	s->net.link_fd = -1;
	s->net.mtu = mtu;
	s->passt = passt;
	snprintf(s->peer, sizeof(s->peer), "%s", peer);
	*out = &s->net;
	return 0;
}
