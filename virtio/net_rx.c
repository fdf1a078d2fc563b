/* SPDX-License-Identifier: MIT */
/*
 * Frames to the guest (5.1.6.3, 5.1.6.4).
 *
 * The length of a frame is known only once it was read. So chains are popped ahead into a
 * window, enough of them for the longest frame if buffers may be merged, else one, and the
 * back end reads header and frame straight into the window's buffers. What the frame filled is
 * pushed; the rest of the window waits for the next. Behind the window lies the spill, a buffer
 * of our own:
 *
 *	[ chain ][ chain ][ chain ] ... [ spill ]
 *	 ^ first                         ^ only if the guest has run out of buffers
 *
 * A frame that reached the spill waits there until the guest has added enough chains to copy
 * the rest to; no frame is lost because a ring was short for a moment. It is dropped if it can
 * not fit at all: without merging, or when the window holds all that the ring can ever give.
 *
 * Without buffers the watch of the back end pauses, and the guest's next kick resumes; should the
 * back end be gone meanwhile, net_link.c sees.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>

#include "util/util.h"
#include "virtio/net_impl.h"

/* --- the window --- */

static bool mergeable(const struct net_rx *rx)
{
	return virtio_has(&rx->net->dev, VIRTIO_NET_F_MRG_RXBUF);
}

static struct virtqueue *queue_of(const struct net_rx *rx)
{
	return rx->net->dev.queues[NET_QUEUE_RX(rx->pair)].vq;
}

static void compact(struct net_rx *rx)
{
	memmove(rx->chains, rx->chains + rx->first_chain, rx->chain_count * sizeof(*rx->chains));
	memmove(rx->iov, rx->iov + rx->first_iov, rx->iov_count * sizeof(*rx->iov));
	rx->first_chain = rx->first_iov = 0;
}

/* False: no room for it; never if the window is empty. */
static bool append(struct net_rx *rx, const struct vq_chain *chain)
{
	unsigned int count = MIN(chain->in_count, (unsigned int)NET_RX_IOV_MAX);
	const struct iovec *from = chain->iov + chain->out_count;
	uint64_t len_bytes = 0;
	struct iovec *to;

	if (rx->chain_count == NET_QUEUE_SIZE || rx->iov_count + count > NET_RX_IOV_MAX)
		return false;
	if (rx->first_chain + rx->chain_count == NET_QUEUE_SIZE ||
	    rx->first_iov + rx->iov_count + count > NET_RX_IOV_MAX)
		compact(rx);
	to = rx->iov + rx->first_iov + rx->iov_count;
	for (unsigned int i = 0; i < count; i++) {
		to[i] = from[i];
		len_bytes += from[i].iov_len;
	}
	rx->chains[rx->first_chain + rx->chain_count++] = (struct net_rx_chain){
		.head = chain->head,
		.iov_count = (uint16_t)count,
		/* No frame is as long; and used lengths have 32 bits. */
		.len_bytes = (uint32_t)MIN(len_bytes, UINT32_MAX),
	};
	rx->iov_count += count;
	rx->window_bytes += rx->chains[rx->first_chain + rx->chain_count - 1].len_bytes;
	return true;
}

/* Pop one more chain into the window. 1, 0 (none, and the guest will kick), -EPROTO. */
static int grow(struct net_rx *rx)
{
	struct virtqueue *vq = queue_of(rx);
	struct vq_chain chain;
	int r;

	do {
		r = vq_pop(vq, &chain);
	} while (r == 0 && vq_arm(vq));
	if (r < 1)
		return r;
	if (!chain.in_count) { /* nothing to write to: of no use */
		vq_push(vq, chain.head, 0);
		rx->pushed++;
		return 1;
	}
	if (append(rx, &chain))
		return 1;
	vq_unpop(vq);
	rx->full = true;
	return 0;
}

/* Enough for `bytes`, or all there is. 0 or -EPROTO. */
static int fill(struct net_rx *rx, uint64_t bytes)
{
	int r = 1;

	while (r == 1 && !rx->full && rx->window_bytes < bytes)
		r = grow(rx);
	if (rx->chain_count == vq_size(queue_of(rx)))
		rx->full = true; /* the whole ring is here */
	return r < 0 ? r : 0;
}

/* Copy to the window at `offset`. Positions change with each frame, hence no cursor. */
static void window_write(struct net_rx *rx, uint64_t offset, const void *data, size_t len)
{
	const uint8_t *from = data;

	for (unsigned int i = 0; len && i < rx->iov_count; i++) {
		const struct iovec *iov = &rx->iov[rx->first_iov + i];
		size_t part;

		if (offset >= iov->iov_len) {
			offset -= iov->iov_len;
			continue;
		}
		part = MIN(len, iov->iov_len - offset);
		memcpy((uint8_t *)iov->iov_base + offset, from, part);
		from += part;
		len -= part;
		offset = 0;
	}
}

/* The start of the window, which is so long. */
static void window_read(struct net_rx *rx, void *data, size_t len)
{
	uint8_t *to = data;

	for (unsigned int i = 0; len; i++) {
		const struct iovec *iov = &rx->iov[rx->first_iov + i];
		size_t part = MIN(len, iov->iov_len);

		memcpy(to, iov->iov_base, part);
		to += part;
		len -= part;
	}
}

/* Return the first chain, of which the frame took `written`. */
static void push_first(struct net_rx *rx, uint32_t written)
{
	const struct net_rx_chain *chain = &rx->chains[rx->first_chain];

	vq_push(queue_of(rx), chain->head, written);
	rx->pushed++;
	rx->full = false;
	rx->window_bytes -= chain->len_bytes;
	rx->first_iov += chain->iov_count;
	rx->iov_count -= chain->iov_count;
	rx->first_chain++;
	rx->chain_count--;
	if (!rx->chain_count)
		rx->first_chain = rx->first_iov = 0;
}

/* --- frames --- */

static void drop_frame(struct net_rx *rx)
{
	rx->frame_bytes = 0;
	counter_add(&rx->net->live->rx.dropped, 1);
}

/* 802.1Q, of a VLAN that the guest did not ask for. */
static bool unwanted(struct net_rx *rx)
{
	uint8_t start[NET_HDR_BYTES + NET_ETH_BYTES + 4];
	const uint8_t *tag = start + NET_HDR_BYTES + NET_ETH_BYTES - 2;

	if (!virtio_has(&rx->net->dev, VIRTIO_NET_F_CTRL_VLAN) || rx->frame_bytes < sizeof(start))
		return false;
	window_read(rx, start, sizeof(start));
	return tag[0] == 0x81 && tag[1] == 0 &&
	       !net_vlan_wanted(rx->net, (uint16_t)((tag[2] & 0xf) << 8 | tag[3]));
}

/* The frame is all in the window: finish its header, return its chains. */
static void deliver(struct net_rx *rx)
{
	uint32_t left = rx->frame_bytes;
	uint16_t buffers = 0;
	uint8_t no_flags = 0;

	if (unwanted(rx)) {
		rx->frame_bytes = 0;
		counter_add(&rx->net->live->rx_filtered, 1);
		return;
	}
	for (uint64_t bytes = 0; bytes < left; buffers++)
		bytes += rx->chains[rx->first_chain + buffers].len_bytes;
	/* 5.1.6.4.1; and the kernel does not know what the guest accepted as flags. */
	window_write(rx, offsetof(struct virtio_net_hdr_v1, num_buffers), &buffers,
		     sizeof(buffers));
	if (!virtio_has(&rx->net->dev, VIRTIO_NET_F_GUEST_CSUM))
		window_write(rx, offsetof(struct virtio_net_hdr_v1, flags), &no_flags, 1);
	counter_add(&rx->net->live->rx.frames, 1);
	counter_add(&rx->net->live->rx.bytes, rx->frame_bytes - NET_HDR_BYTES);
	rx->frame_bytes = 0;
	while (left) {
		uint32_t written = MIN(left, rx->chains[rx->first_chain].len_bytes);

		push_first(rx, written);
		left -= written;
	}
}

/* 1: delivered or dropped; 0: waits for more buffers; -EPROTO. */
static int deliver_spilled(struct net_rx *rx)
{
	uint64_t before = rx->window_bytes;
	uint32_t spilled = (uint32_t)(rx->frame_bytes - before);
	int r;

	if (!mergeable(rx)) {
		drop_frame(rx);
		return 1;
	}
	r = fill(rx, rx->frame_bytes);
	if (r < 0)
		return r;
	/* Move as much as there is room for now, so that the window stays the frame's start. */
	spilled = (uint32_t)MIN(spilled, rx->window_bytes - before);
	window_write(rx, before, rx->spill, spilled);
	if (rx->window_bytes >= rx->frame_bytes) {
		deliver(rx);
		return 1;
	}
	memmove(rx->spill, rx->spill + spilled, rx->frame_bytes - rx->window_bytes);
	if (!rx->full)
		return 0;
	drop_frame(rx);
	return 1;
}

/* 1: got one, or lost one; 0: none, or no buffers; -EPROTO. */
static int receive(struct net_rx *rx)
{
	struct net *net = rx->net->net;
	ssize_t len;
	int r = fill(rx, rx->wanted_bytes);

	if (r < 0)
		return r;
	if (!rx->chain_count) {
		rx->starved = true;
		return 0;
	}
	rx->iov[rx->first_iov + rx->iov_count] = (struct iovec){ rx->spill, sizeof(rx->spill) };
	len = net->ops->recv(net, rx->pair, rx->iov + rx->first_iov, rx->iov_count + 1);
	if (len == -EAGAIN)
		return 0;
	if (len == -ENODEV) {
		net_lost(rx->net);
		return 0;
	}
	if (len < (ssize_t)(NET_HDR_BYTES + NET_ETH_BYTES) || len > (ssize_t)NET_FRAME_MAX) {
		drop_frame(rx);
		return 1;
	}
	rx->frame_bytes = (uint32_t)len;
	if (rx->frame_bytes > rx->window_bytes)
		return 1;
	deliver(rx);
	return 1;
}

static int next_frame(struct net_rx *rx)
{
	int r;

	if (!rx->frame_bytes)
		return receive(rx);
	r = deliver_spilled(rx);
	rx->starved = r == 0;
	return r;
}

static void publish(struct net_rx *rx)
{
	rx->pushed = 0;
	virtio_publish(&rx->net->dev, NET_QUEUE_RX(rx->pair));
}

static void run(void *arg)
{
	struct net_rx *rx = arg;
	int r = 1;

	rx->starved = false;
	vq_disarm(queue_of(rx));
	/* A turn never ends with a frame in the spill, or nobody would wait for its buffers. */
	for (unsigned int i = 0; r == 1 && (i < NET_BUDGET || rx->frame_bytes); i++) {
		r = next_frame(rx);
		/* Early enough that the guest refills while we read on. */
		if (rx->pushed >= NET_QUEUE_SIZE / 4)
			publish(rx);
	}
	publish(rx);
	if (r < 0)
		net_broken(rx->net, vq_error(queue_of(rx)));
	if (!rx->watch)
		return;
	if (!rx->starved) {
		loop_watch_resume(rx->net->dev.loop, rx->watch);
		return;
	}
	loop_watch_pause(rx->net->dev.loop, rx->watch);
	net_link_doubt(rx->net);
}

/* The most a frame takes by what was negotiated; a longer one only has to spill. */
static uint64_t frame_bytes_max(const struct virtio_net *net)
{
	const unsigned int segments[] = { VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_GUEST_TSO6,
					  NET_F_GUEST_USO4, NET_F_GUEST_USO6 };

	for (unsigned int i = 0; i < ARRAY_LEN(segments); i++)
		if (virtio_has(&net->dev, segments[i]))
			return NET_FRAME_MAX;
	return NET_HDR_BYTES + NET_ETH_BYTES + 8 + (net->net->mtu ? net->net->mtu : 1500);
}

void net_rx_init(struct net_rx *rx)
{
	rx->first_chain = rx->chain_count = 0;
	rx->first_iov = rx->iov_count = 0;
	rx->window_bytes = 0;
	rx->frame_bytes = 0;
	rx->pushed = 0;
	rx->full = rx->starved = false;
	/* One chain, however short, is a window if nothing can be merged. */
	rx->wanted_bytes = mergeable(rx) ? frame_bytes_max(rx->net) : 1;
}

int net_rx_start(struct net_rx *rx)
{
	struct virtio_net *net = rx->net;

	if (!queue_of(rx) || net->lost)
		return 0;
	rx->watch = loop_watch_ready(net->dev.loop, net->net->fds[rx->pair], POLLIN, run, rx);
	return rx->watch ? 0 : -ENOMEM;
}

void net_rx_stop(struct net_rx *rx)
{
	loop_unwatch(rx->net->dev.loop, rx->watch);
	rx->watch = NULL;
}

void net_rx_kick(struct net_rx *rx)
{
	if (rx->watch && rx->starved)
		run(rx);
}
