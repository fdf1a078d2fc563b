/* SPDX-License-Identifier: MIT */
/* What the host's kernel does with a NIC's frames at its interface: copies, guards, limits. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "net/guard.h"
#include "net/net.h"

#define EDGE_RATE_MIN 16384u
#define EDGE_RATE_MAX (1ull << 40)

struct edge;
struct link_info;
struct mnl_socket;

/* Names are NULL if not asked for. */
struct edge_options {
	const char *monitor; /* every frame is copied to this interface, made if it is not there */
	const char *pcap;    /* and written to this file */
	struct guard guard;
	uint64_t rate; /* bytes per second each way, EDGE_RATE_MIN to _MAX; 0: no limit */
	bool isolated; /* from other isolated ports of its bridge */
};

/*
 * `net` must outlive it; `mac` is the NIC's. `*out` is NULL where nothing was asked for. 0 or
 * -errno; logs what, why and the remedy. Nothing is left behind on failure.
 */
int edge_open(const struct net *net, const struct edge_options *opts, const uint8_t mac[6],
	      struct edge **out);
/* Accepts NULL. */
void edge_close(struct edge *edge);

/* Take away what a killed process left on an interface that outlived it. Logs if it cannot. */
void edge_clean(struct mnl_socket *nl, const struct link_info *link);
