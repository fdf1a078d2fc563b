/* SPDX-License-Identifier: MIT */
/* Network interfaces over rtnetlink, in the network namespace `link_connect` was called in. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct mnl_socket;

/* As the host sees it: what it sends to a TAP is what the guest receives. */
struct link_traffic {
	uint64_t packets, bytes, dropped;
};

struct link_info {
	int index;
	char name[16];
	char kind[16]; /* "bridge", "tun", "veth", ...; "" for hardware */
	int master;    /* the index of its bridge or bond, or 0 */
	unsigned int mtu;
	unsigned int mtu_max; /* 0: unknown */
	bool up;      /* as it was told to be */
	bool carrier; /* and it can */
	bool ethernet;
	uint8_t addr[6];
	char alias[64]; /* cut off if longer, "" if none */
	/* Where it is a bridge's port: */
	bool isolated; /* from other isolated ports */
	/* Where kind is "tun": */
	uint8_t tun_type;        /* IFF_TUN or IFF_TAP */
	bool tun_multi_queue;    /* IFF_MULTI_QUEUE */
	bool tun_persist;        /* stays when its last queue goes */
	unsigned int tun_queues; /* opened by somebody, attached or not */
	struct link_traffic rx, tx;
	/* Where kind is "bridge": */
	bool stp;                      /* the kernel's spanning tree is on */
	unsigned int forward_delay_ms; /* then a new port is deaf for twice that */
	bool nf_call_iptables;         /* its own switch; net.bridge has another for all */
};

/* What link_set changes: the fields whose LINK_SET_ bit is in `fields`. */
#define LINK_SET_MASTER 1u
#define LINK_SET_UP 2u
#define LINK_SET_MTU 4u
#define LINK_SET_ADDR 8u
#define LINK_SET_NAME 16u
#define LINK_SET_ALIAS 32u
struct link_change {
	unsigned int fields;
	int master; /* index, or 0 to release */
	bool up;
	unsigned int mtu;
	uint8_t addr[6];
	const char *name;
	const char *alias; /* "" for none */
};

/* A name the kernel takes for an interface as it is (so no '%'). */
bool link_name_valid(const char *name);

/* Has this process CAP_NET_ADMIN? */
bool link_may_admin(void);

/* Silent, as all here: 0 or -errno. */
int link_connect(struct mnl_socket **out);
/* Accepts NULL. */
void link_disconnect(struct mnl_socket *nl);
/* -ENODEV: no such interface. */
int link_get(struct mnl_socket *nl, const char *name, struct link_info *out);
int link_get_index(struct mnl_socket *nl, int index, struct link_info *out);
/* Run `found` on each interface; on some twice, if others come and go meanwhile. */
int link_each(void (*found)(const struct link_info *link, void *arg), void *arg);
/* Without spanning tree, so that a new port passes frames at once; down. With an address that is
 * set, it does not take the lowest of its ports'. */
int link_add_bridge(struct mnl_socket *nl, const char *name, const uint8_t addr[6]);
/* One request: the kernel does the master before the flags, so a port comes up on its bridge. */
int link_set(struct mnl_socket *nl, int index, const struct link_change *change);
/* Of a bridge's port. */
int link_set_isolated(struct mnl_socket *nl, int index, bool isolated);
/* No IPv6 address of its own, and so nothing sent, when it comes up. */
int link_set_no_ipv6_address(struct mnl_socket *nl, int index);
int link_delete(struct mnl_socket *nl, int index);
