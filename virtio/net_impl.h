/* SPDX-License-Identifier: MIT */
/* What the parts of virtio-net share: net.c the device, net_rx.c, net_tx.c, net_ctrl.c,
 * net_link.c, net_vhost.c. */
#pragma once

#include <linux/virtio_net.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "net/net.h"
#include "util/loop.h"
#include "util/run_live.h"
#include "virtio/device.h"
#include "virtio/net.h"

struct virtio_net;

/* Virtqueues (5.1.2): those of a pair; behind the last pair the control queue. */
#define NET_QUEUE_RX(pair) (2 * (pair))
#define NET_QUEUE_TX(pair) (2 * (pair) + 1)

#define NET_QUEUE_SIZE 256
/* Frames per turn; then other devices on the loop get theirs. */
#define NET_BUDGET 64

#define NET_HDR_BYTES sizeof(struct virtio_net_hdr_v1)
#define NET_ETH_BYTES 14
/* 64 KiB of IP behind an Ethernet header with two VLAN tags. */
#define NET_FRAME_MAX (NET_HDR_BYTES + NET_ETH_BYTES + 8 + 65535)

/* VIRTIO_F_ and VIRTIO_NET_F_ bits that 6.1's headers lack (virtio 1.3, 5.1.3). */
#define NET_F_GUEST_USO4 54
#define NET_F_GUEST_USO6 55
#define NET_F_HOST_USO 56

/* A popped chain: the next `iov_count` entries of the window. */
struct net_rx_chain {
	uint16_t head;
	uint16_t iov_count;
	uint32_t len_bytes;
};

/* readv(2) takes 1024, of which the spill is one. */
#define NET_RX_IOV_MAX 1023

struct net_rx {
	struct virtio_net *net;
	unsigned int pair;        /* also the back end's queue */
	struct loop_watch *watch; /* the back end is readable; NULL while not in use */
	bool starved;             /* the guest has no buffers: the watch is paused */

	/* The window: chains popped and not yet used, in ring order. */
	unsigned int first_chain, chain_count;
	unsigned int first_iov, iov_count;
	uint64_t window_bytes;
	uint64_t wanted_bytes; /* that a window should have for any frame */
	bool full;             /* the window can not grow, whatever the guest adds */
	unsigned int pushed;   /* chains not published yet */

	uint32_t frame_bytes; /* of a frame that waits in the window and the spill, or 0 */
	struct net_rx_chain chains[NET_QUEUE_SIZE];
	struct iovec iov[NET_RX_IOV_MAX + 1];
	uint8_t spill[NET_FRAME_MAX + 1]; /* + 1: only what is too long fills it */
};

#define NET_TX_IOV_MAX VQ_IOV_MAX

struct net_tx {
	struct virtio_net *net;
	unsigned int pair;             /* also the back end's queue */
	struct loop_watch *room_watch; /* the back end takes more; NULL while not in use */
	bool full;                     /* waiting for it */
	bool deferred;                 /* `turn` is on its way */
	struct loop_op turn;

	/* The batch: chains popped, those from `first` on not sent yet. */
	unsigned int first, count, iov_count;
	uint16_t heads[NET_SEND_MAX];
	uint32_t bytes[NET_SEND_MAX];
	struct net_frame frames[NET_SEND_MAX];
	struct iovec iov[NET_TX_IOV_MAX];
};

/* A virtqueue that the kernel serves. */
struct net_lent {
	struct virtio_net *net;
	unsigned int queue;
	int irq_fd; /* where there is no vector: interrupts come by it, and go on from here */
	struct loop_watch *irq_watch; /* NULL: there is a vector, and irq_fd is not open */
};

struct net_pair {
	struct net_rx rx;
	struct net_tx tx;
	bool lent; /* to the kernel: the above rest */
	struct net_lent lent_rx, lent_tx;
};

/* What the driver asked for by control commands (5.1.6.5.1). */
#define NET_MACS_MAX 62
struct net_filter {
	bool promisc, all_multicast;
	uint64_t vlans[4096 / 64]; /* bitmap: whose tagged frames pass */
	bool overflow; /* more addresses than we keep: every frame passes */
	unsigned int count;
	uint8_t macs[NET_MACS_MAX + 2][6]; /* its own, broadcast, then its tables */
};

struct virtio_net {
	struct virtio_dev dev;
	struct net *net;
	uint8_t own_mac[6]; /* config.mac until the driver sets another, and after a reset */
	/* Under dev.lock: vCPUs read it. */
	struct virtio_net_config config;
	/* loop */
	bool lost;                     /* the back end's link is gone for good */
	/* The first if the back end has a link to watch, else the second; NULL while not live. */
	struct loop_watch *link_watch, *gone_watch;
	bool vhost;                    /* pairs that come into use are lent to the kernel */
	int vhost_error_fd;            /* the kernel's complaints; open while watched */
	struct loop_watch *vhost_error_watch;
	unsigned int pairs_used;       /* the first so many carry frames; 0 while not live */
	unsigned int turns;            /* of all pairs, on their way */
	struct net_filter filter;
	struct run_nic_live *live; /* `own`, or what others read; only the loop writes */
	struct run_nic_live own;
	struct log_limit drop_limit;
	unsigned int pair_count; /* offered */
	struct net_pair pairs[];
};

/* All on the loop. */

/* The driver broke the rules: stop all traffic until the reset. */
void net_broken(struct virtio_net *net, const char *why);
/* Frames go by the first `count` pairs, whose queues are live. 0, or -errno and as it was. */
int net_use_pairs(struct virtio_net *net, unsigned int count);
/* The control queue's index, as negotiated. */
unsigned int net_ctrl_queue(const struct virtio_net *net);
/* Set by features or by the control queue: a mask of VIRTIO_NET_F_GUEST_ bits. 0 or -errno. */
int net_set_guest_offloads(struct virtio_net *net, uint64_t bits);
/* All those bits. */
uint64_t net_guest_offload_bits(void);

/* Once per life of the queues: nothing is popped yet. */
void net_rx_init(struct net_rx *rx);
/* Receive; or do not, and keep what was popped. 0 or -ENOMEM. */
int net_rx_start(struct net_rx *rx);
void net_rx_stop(struct net_rx *rx);
void net_rx_kick(struct net_rx *rx);

void net_tx_init(struct net_tx *tx);
int net_tx_start(struct net_tx *tx);
/* A turn may still be on its way: net->turns. */
void net_tx_stop(struct net_tx *tx);
void net_tx_kick(struct net_tx *tx);

/* Once per life of the queues, before pairs are started: whether the kernel is to serve them. */
void net_vhost_init(struct virtio_net *net);
void net_vhost_finish(struct virtio_net *net);
/* False: it does not, and they are to be served here. */
bool net_vhost_start(struct net_pair *pair);
/* The kernel is done with the rings when this returns, if it had them. False: it skipped chains. */
bool net_vhost_stop(struct net_pair *pair);
void net_vhost_irqs_moved(struct virtio_net *net);
/* What is lent is served here, until the reset, or broken if it can not be. */
void net_leave_kernel(struct virtio_net *net);

/* Follow the back end's link. 0 or -ENOMEM. */
int net_link_start(struct virtio_net *net);
void net_link_stop(struct virtio_net *net);
/* The back end may be gone: then it is lost, and nothing is lent. */
void net_link_look(struct virtio_net *net);
/* From now on nobody would hear that it is: look now and then. */
void net_link_doubt(struct virtio_net *net);
/* The back end is gone: link down for the guest, said once. */
void net_lost(struct virtio_net *net);
/* The guest has announced itself. 0, or -EINVAL: nobody had asked. */
int net_announced(struct virtio_net *net);

/* A frame of this VLAN is for the guest. */
bool net_vlan_wanted(const struct virtio_net *net, uint16_t vlan);
void net_ctrl_reset(struct virtio_net *net);
void net_ctrl_kick(struct virtio_net *net);
