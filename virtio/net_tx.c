/* SPDX-License-Identifier: MIT */
/*
 * Frames from the guest (5.1.6.2): popped into a batch, sent, pushed.
 *
 * A batch is what the ring holds, up to a limit, so it waits for nothing; the back end may send
 * it in one system call. What it has no room for stays popped, and goes first once there is.
 *
 * A driver that sends many does not wait for their buffers: interrupts for those may be late, and
 * where the host is busy the loop naps until there are more frames (loop_may_nap).
 */
#include <errno.h>
#include <poll.h>
#include <string.h>

#include "util/log.h"
#include "util/util.h"
#include "virtio/net_impl.h"

static void drop(struct net_tx *tx, int r)
{
	struct virtio_net *net = tx->net;

	counter_add(&net->live->tx.dropped, 1);
	if (net->lost)
		return;
	if (r != -EINVAL) /* of which a TAP keeps another count */
		counter_add(&net->live->tx_refused, 1);
	if (r == -EIO)
		log_guest(&net->drop_limit, "%s: frame dropped: %s is down (ip link set %s up)",
			  net->dev.name, net->net->ifname, net->net->ifname);
	else
		log_guest(&net->drop_limit, "%s: frame dropped: %s", net->dev.name,
			  r == -EINVAL ? "the guest's header or size is wrong" : strerror(-r));
}

static void wait_for_room(struct net_tx *tx)
{
	tx->full = true;
	loop_watch_resume(tx->net->dev.loop, tx->room_watch);
}

/* What the back end took may have left in part; the rest must not wait for the next frame. */
static void flush(struct net_tx *tx)
{
	struct net *net = tx->net->net;

	if (net->ops->flush && net->ops->flush(net) == -EAGAIN)
		wait_for_room(tx);
}

static void defer(struct net_tx *tx)
{
	if (tx->deferred)
		return;
	tx->deferred = true;
	tx->net->turns++;
	loop_defer(tx->net->dev.loop, &tx->turn);
}

/* --- the batch --- */

/* False: no room for it; never if the batch is empty. */
static bool append(struct net_tx *tx, const struct vq_chain *chain)
{
	struct iovec *iov = tx->iov + tx->iov_count;

	if (tx->iov_count + chain->out_count > NET_TX_IOV_MAX)
		return false;
	memcpy(iov, chain->iov, chain->out_count * sizeof(*iov));
	tx->frames[tx->count] = (struct net_frame){ iov, chain->out_count };
	tx->heads[tx->count] = chain->head;
	tx->bytes[tx->count++] = (uint32_t)chain->out_bytes;
	tx->iov_count += chain->out_count;
	return true;
}

static bool is_frame(const struct vq_chain *chain)
{
	return chain->out_bytes >= NET_HDR_BYTES + NET_ETH_BYTES &&
	       chain->out_bytes <= NET_FRAME_MAX;
}

/* Fill the batch. 1: there may be more; 0: not now, it is awaited; -EPROTO. */
static int gather(struct net_tx *tx, struct virtqueue *vq, unsigned int *budget)
{
	struct vq_chain chain;
	int r;

	while (*budget && tx->count < NET_SEND_MAX) {
		r = vq_pop(vq, &chain);
		if (r == 0)
			virtio_await(&tx->net->dev, NET_QUEUE_TX(tx->pair));
		if (r < 1)
			return r;
		if (tx->net->lost || !is_frame(&chain)) {
			drop(tx, -EINVAL);
			vq_push(vq, chain.head, 0);
		} else if (!append(tx, &chain)) {
			vq_unpop(vq);
			return 1;
		}
		--*budget;
	}
	return 1;
}

/* The first of the batch is done with. */
static void return_first(struct net_tx *tx, struct virtqueue *vq)
{
	vq_push(vq, tx->heads[tx->first++], 0);
	if (tx->first == tx->count)
		tx->first = tx->count = tx->iov_count = 0;
}

static void return_sent(struct net_tx *tx, struct virtqueue *vq, unsigned int count)
{
	for (; count; count--) {
		counter_add(&tx->net->live->tx.frames, 1);
		counter_add(&tx->net->live->tx.bytes, tx->bytes[tx->first] - NET_HDR_BYTES);
		return_first(tx, vq);
	}
}

/* All of it goes, but what is no good is dropped. False: the rest has to wait for room. */
static bool send_batch(struct net_tx *tx, struct virtqueue *vq)
{
	struct virtio_net *net = tx->net;
	unsigned int at_once = NET_SEND_MAX;

	while (tx->count) {
		unsigned int wanted = MIN(tx->count - tx->first, at_once), sent = 0;
		int error = -ENODEV;

		if (!net->lost)
			sent = net_send(net->net, tx->pair, tx->frames + tx->first, wanted,
					&error);
		return_sent(tx, vq, sent);
		if (sent == wanted)
			continue;
		if (error == -EAGAIN) {
			wait_for_room(tx);
			return false;
		}
		if (error == -ENODEV)
			net_lost(net);
		drop(tx, error);
		return_first(tx, vq);
		at_once = 1; /* or each bad one would have those behind it handed in once more */
	}
	return true;
}

static void run(struct net_tx *tx)
{
	struct virtio_dev *dev = &tx->net->dev;
	struct virtqueue *vq = dev->queues[NET_QUEUE_TX(tx->pair)].vq;
	unsigned int budget = NET_BUDGET;
	int r = 1;

	vq_disarm(vq);
	while (r == 1 && budget && send_batch(tx, vq))
		r = gather(tx, vq, &budget);
	if (!tx->full)
		send_batch(tx, vq);
	virtio_publish_lazily(dev, NET_QUEUE_TX(tx->pair));
	if (r < 0)
		net_broken(tx->net, vq_error(vq));
	else if (r == 1 && !tx->full)
		defer(tx);
	else if (!tx->full)
		flush(tx);
}

static void turn(struct loop_op *op, int res)
{
	struct net_tx *tx = CONTAINER_OF(op, struct net_tx, turn);
	struct virtio_net *net = tx->net;

	tx->deferred = false;
	net->turns--;
	if (net->dev.draining && !net->turns)
		virtio_quiesced(&net->dev);
	else if (tx->room_watch && !tx->full)
		run(tx);
}

static void room(void *arg)
{
	struct net_tx *tx = arg;

	tx->full = false;
	loop_watch_pause(tx->net->dev.loop, tx->room_watch);
	run(tx);
}

void net_tx_init(struct net_tx *tx)
{
	tx->first = tx->count = tx->iov_count = 0;
	tx->turn.done = turn;
}

int net_tx_start(struct net_tx *tx)
{
	struct virtio_dev *dev = &tx->net->dev;

	tx->full = false;
	if (!dev->queues[NET_QUEUE_TX(tx->pair)].vq)
		return 0;
	tx->room_watch = loop_watch_ready(dev->loop, tx->net->net->fds[tx->pair], POLLOUT, room,
					  tx);
	if (!tx->room_watch)
		return -ENOMEM;
	loop_watch_pause(dev->loop, tx->room_watch);
	loop_may_nap(dev->loop);
	flush(tx); /* from before the reset */
	return 0;
}

void net_tx_stop(struct net_tx *tx)
{
	loop_unwatch(tx->net->dev.loop, tx->room_watch);
	tx->room_watch = NULL;
}

void net_tx_kick(struct net_tx *tx)
{
	/* A full back end and a turn to come both go on by themselves. */
	if (tx->room_watch && !tx->full && !tx->deferred)
		run(tx);
}
