/* SPDX-License-Identifier: MIT */
/* Frames from the guest (5.1.6.2): pop, send, push. */
#include <errno.h>
#include <poll.h>
#include <string.h>

#include "util/log.h"
#include "util/util.h"
#include "virtio/net_impl.h"

static void drop(struct net_tx *tx, int r)
{
	struct virtio_net *net = tx->net;

	run_count(&net->live->tx.dropped, 1);
	if (net->lost)
		return;
	if (r == -EIO)
		log_guest(&net->drop_limit, "%s: frame dropped: %s is down (ip link set %s up)",
			  net->dev.name, net->net->ifname, net->net->ifname);
	else
		log_guest(&net->drop_limit, "%s: frame dropped: %s", net->dev.name,
			  r == -EINVAL ? "the guest's header or size is wrong" : strerror(-r));
}

/* 0: the chain can be returned. -EAGAIN: later. */
static int send_chain(struct net_tx *tx, const struct vq_chain *chain)
{
	struct virtio_net *net = tx->net;
	ssize_t r;

	if (net->lost) {
		r = -ENODEV;
	} else if (chain->out_bytes < NET_HDR_BYTES + NET_ETH_BYTES ||
		   chain->out_bytes > NET_FRAME_MAX) {
		r = -EINVAL;
	} else {
		r = net->net->ops->send(net->net, tx->pair, chain->iov, chain->out_count);
		if (r == -EAGAIN)
			return -EAGAIN;
		if (r == -ENODEV)
			net_lost(net);
	}
	if (r < 0) {
		drop(tx, (int)r);
		return 0;
	}
	run_count(&net->live->tx.frames, 1);
	run_count(&net->live->tx.bytes, chain->out_bytes - NET_HDR_BYTES);
	return 0;
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

/* One chain. 1: go on; 0: not now; -EPROTO: broken. */
static int send_next(struct net_tx *tx, struct virtqueue *vq)
{
	struct vq_chain chain;
	int r = vq_pop(vq, &chain);

	if (r == 0)
		return vq_arm(vq);
	if (r < 0)
		return r;
	if (send_chain(tx, &chain) == -EAGAIN) {
		vq_unpop(vq);
		wait_for_room(tx);
		return 0;
	}
	vq_push(vq, chain.head, 0);
	return 1;
}

static void run(struct net_tx *tx)
{
	struct virtio_dev *dev = &tx->net->dev;
	struct virtqueue *vq = dev->queues[NET_QUEUE_TX(tx->pair)].vq;
	int r = 1;

	vq_disarm(vq);
	for (unsigned int i = 0; r == 1 && i < NET_BUDGET; i++)
		r = send_next(tx, vq);
	virtio_publish(dev, NET_QUEUE_TX(tx->pair));
	if (r < 0)
		net_broken(tx->net, vq_error(vq));
	else if (r == 1)
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

int net_tx_start(struct net_tx *tx)
{
	struct virtio_dev *dev = &tx->net->dev;

	tx->full = false;
	tx->turn.done = turn;
	if (!dev->queues[NET_QUEUE_TX(tx->pair)].vq)
		return 0;
	tx->room_watch = loop_watch_ready(dev->loop, tx->net->net->fds[tx->pair], POLLOUT, room,
					  tx);
	if (!tx->room_watch)
		return -ENOMEM;
	loop_watch_pause(dev->loop, tx->room_watch);
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
