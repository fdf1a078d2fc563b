/* SPDX-License-Identifier: MIT */
/*
 * Network back ends as virtio-net sees them: frames, each behind a virtio_net_hdr_v1, in and
 * out of iovecs. Knows nothing of guests.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

struct net;

/* What `--net` asks for. Names are at most 15 bytes; NULL is "not given". */
struct net_options {
	const char *tap;    /* adopt this interface if it exists, else create it so named */
	const char *bridge; /* put the interface on this bridge */
	int fd;             /* an open TAP, or -1 */
};

struct net_ops {
	/* Mandatory. Bytes moved, or -EAGAIN, or -errno. The frame is one datagram. */
	ssize_t (*send)(struct net *net, const struct iovec *iov, unsigned int iovcnt);
	ssize_t (*recv)(struct net *net, const struct iovec *iov, unsigned int iovcnt);
	/* Mandatory. Offloads the guest accepts on receive: TUN_F_* bits. 0 or -errno. */
	int (*set_offload)(struct net *net, unsigned int tun_f);
	/* Mandatory. Undoes what creation did and frees `net`. */
	void (*destroy)(struct net *net);
};

struct net {
	const struct net_ops *ops;
	int fd;           /* poll(2) for readability and room */
	char ifname[16];  /* the host's interface, "" if none */
	unsigned int mtu; /* of the link, 0 if unknown */
	bool offloads;    /* vnet_hdr with checksum and segmentation offload */
};

/* 0 or -errno; logs what, why and the remedy. Nothing is left behind on failure. */
int net_open(const struct net_options *opts, struct net **out);
/* Accepts NULL. */
void net_close(struct net *net);
