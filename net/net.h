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

/* Of a back end; a queue carries frames both ways. */
#define NET_QUEUES_MAX 8u

/* A port of the host whose traffic goes to one of the guest's. */
struct net_forward {
	bool udp;            /* else TCP */
	char host_addr[46];  /* IPv4 or IPv6, of this host; "" is any */
	uint16_t host_port, guest_port;
};

#define NET_FORWARDS_MAX 16

/* Who moves a TAP's frames: the kernel, by vhost-net, or we. */
enum net_vhost {
	NET_VHOST_AUTO, /* the kernel where it can */
	NET_VHOST_ON,   /* or fail */
	NET_VHOST_OFF,
};

/* What `--net` asks for. Names are at most 15 bytes; NULL is "not given". */
struct net_options {
	const char *vm_name; /* in that of an interface which is created, or NULL */
	const char *tap;    /* adopt this interface if it exists, else create it so named */
	const char *bridge; /* put the interface on this bridge */
	/* Open files of one TAP, each a queue, taken over on success; without tap and bridge. */
	int fds[NET_QUEUES_MAX];
	unsigned int fd_count;
	unsigned int queues;         /* exactly so many, or 0: */
	unsigned int queues_default; /* so many where there can be several, else 1 */
	enum net_vhost vhost;
	bool user;          /* no interface: through passt; the rest is only for this */
	const char *socket; /* where a passt listens already; NULL: start one */
	struct net_forward forwards[NET_FORWARDS_MAX];
	unsigned int forward_count;
};

/* What it is, for others to find it by. */
struct net_identity {
	const char *type;   /* what --net asked for: "tap", "fd", "user" */
	int index;          /* of the interface, in our network namespace; 0: unknown, and then */
	uint8_t address[6]; /* its own address, or zero */
};

/* Header and all. */
struct net_frame {
	const struct iovec *iov;
	unsigned int iovcnt;
};

struct net_ops {
	/*
	 * Mandatory. Bytes moved, or -EAGAIN, or -ENODEV (the link is gone for good), or another
	 * -errno (this frame is lost). The frame is one datagram; what does not fit is cut off.
	 */
	ssize_t (*send)(struct net *net, unsigned int queue, const struct iovec *iov,
			unsigned int iovcnt);
	ssize_t (*recv)(struct net *net, unsigned int queue, const struct iovec *iov,
			unsigned int iovcnt);
	/* Optional: see net_send. */
	unsigned int (*send_many)(struct net *net, unsigned int queue,
				  const struct net_frame *frames, unsigned int count, int *error);
	/* Mandatory if there are several: frames come by the first `count` queues only, and those
	 * of a flow by the queue it was last sent on. One, until set. 0, or -errno and as it was.
	 */
	int (*set_queues)(struct net *net, unsigned int count);
	/*
	 * Optional: go on with a frame that `send` took but could pass on in part only, once
	 * there is room. 0: nothing is left of it; -EAGAIN.
	 */
	int (*flush)(struct net *net);
	/* Mandatory. Offloads the guest accepts on receive: NET_OFFLOAD_*. 0 or -errno. */
	int (*set_offload)(struct net *net, unsigned int offloads);
	/* Optional: pass on only frames to these addresses; 0 of them: every frame. 0 or
	 * -errno, and then every frame may come. */
	int (*set_filter)(struct net *net, const uint8_t (*macs)[6], unsigned int count,
			  bool all_multicast);
	/* Optional, with link_fd: is the link up? Reads that. */
	bool (*link_up)(struct net *net);
	/* Optional: what `send` and `recv` say by -ENODEV, of a link on which nothing moves. */
	bool (*gone)(struct net *net);
	/* Mandatory. */
	void (*identify)(const struct net *net, struct net_identity *out);
	/* Mandatory. Undoes what creation did and frees `net`. */
	void (*destroy)(struct net *net);
};

/* As TUN_F_*, of which 6.1's headers lack the last. */
#define NET_OFFLOAD_CSUM 0x01u
#define NET_OFFLOAD_TSO4 0x02u
#define NET_OFFLOAD_TSO6 0x04u
#define NET_OFFLOAD_ECN 0x08u
#define NET_OFFLOAD_USO 0x60u /* UDP, IPv4 and IPv6: both or none */

struct net {
	const struct net_ops *ops;
	unsigned int queue_count; /* 1 to NET_QUEUES_MAX */
	int fds[NET_QUEUES_MAX];  /* of the queues: poll(2) for readability and room */
	bool vhost;               /* the kernel can move the frames, by: */
	int vhost_fds[NET_QUEUES_MAX]; /* /dev/vhost-net for each queue, owned by this process */
	int link_fd;              /* readable when the link may have changed, or -1 */
	char ifname[16];          /* the host's interface, "" if none */
	unsigned int mtu;         /* of the link, 0 if unknown */
	unsigned int offloads;    /* NET_OFFLOAD_* the back end can do, both ways */
	/* After -ENODEV: what happened, to be said once; "": the interface is gone. */
	char lost[256];
};

/* 0 or -errno; logs what, why and the remedy. Nothing is left behind on failure. */
int net_open(const struct net_options *opts, struct net **out);
/* Accepts NULL. */
void net_close(struct net *net);
void net_identify(const struct net *net, struct net_identity *out);

/*
 * Send frames, at most NET_SEND_MAX, in order, up to the first that fails. How many went; if not
 * all, *error is what `send` said to the next.
 */
#define NET_SEND_MAX 32u
unsigned int net_send(struct net *net, unsigned int queue, const struct net_frame *frames,
		      unsigned int count, int *error);
/* The same one by one, for back ends. */
unsigned int net_send_each(struct net *net, unsigned int queue, const struct net_frame *frames,
			   unsigned int count, int *error);

/* Stable for a VM's name (or NULL), the NIC's number and this host; locally administered. */
void net_mac_default(uint8_t mac[6], const char *vm_name, unsigned int index);
/* 0 or -EINVAL: not six hex pairs with colons, or multicast, or all zero. Silent. */
int net_mac_parse(const char *text, uint8_t mac[6]);
