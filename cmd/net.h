/* SPDX-License-Identifier: MIT */
/* What `minivmm net` finds out about each NIC, and its two ways to say it. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "net/link.h"
#include "net/neigh.h"
#include "net/tc.h"
#include "util/run_dir.h"

struct host;

#define NET_STATIONS_MAX 32
#define NET_ADDRESSES_MAX 32

enum net_interface {
	NET_INTERFACE_NONE,    /* there is none, by the entry */
	NET_INTERFACE_HIDDEN,  /* in another network namespace, which we may not or can not enter */
	NET_INTERFACE_GONE,    /* deleted */
	NET_INTERFACE_FOUND,
};

/* A NIC as the kernel sees it. */
struct net_view {
	enum net_interface interface;
	struct link_info link; /* if found */
	char bridge[16];       /* it is on, or "" */
	struct tc_drops tc_drops;
	/* Addresses that sent something: by the bridge's table, if it is on one; and theirs. */
	uint8_t stations[NET_STATIONS_MAX][6];
	unsigned int station_count, stations_left_out;
	struct neigh addresses[NET_ADDRESSES_MAX]; /* of IPv4 and IPv6, the most telling first */
	unsigned int address_count, addresses_left_out;
};

struct net_vm {
	struct run_found found;
	struct net_view nics[RUN_NICS_MAX];
};

/* What the guest sent and received. */
struct net_count {
	bool known;
	uint64_t frames, bytes;
	uint64_t dropped; /* by minivmm or the host's interface; where one is known */
};

/* Who moves the frames now: "user" or "vhost". */
const char *net_path(const struct net_vm *vm, unsigned int nic);
/* The guest's address now. */
void net_mac(const struct run_nic_live *live, uint8_t mac[6]);
/* "52:54:00:ab:cd:ef"; returns `out`. */
#define NET_MAC_TEXT_BYTES 18
const char *net_mac_text(const uint8_t mac[6], char out[NET_MAC_TEXT_BYTES]);
void net_count_rx(const struct net_vm *vm, unsigned int nic, struct net_count *out);
void net_count_tx(const struct net_vm *vm, unsigned int nic, struct net_count *out);
/* "up", "down", or "gone" with its interface: for the guest. */
const char *net_link_state(const struct net_vm *vm, unsigned int nic);

/* 0 or -errno; logs. */
int host_open(struct host **out);
void host_close(struct host *host);
/* Look at all NICs of a machine. */
void host_look(struct host *host, struct net_vm *vm);

/* On stdout, `count` machines. */
void net_print_text(struct net_vm *const *vms, unsigned int count);
void net_print_json(struct net_vm *const *vms, unsigned int count);
