/* SPDX-License-Identifier: MIT */
/* Who was seen where: bridges' forwarding tables, and the neighbours of IPv4 and IPv6. */
#pragma once

#include <stdint.h>

struct mnl_socket;

struct neigh {
	int index;   /* of the interface: of a bridge's port, or where the address is reached */
	int family;  /* AF_BRIDGE (no address), AF_INET or AF_INET6 */
	uint8_t mac[6];
	uint8_t addr[16]; /* an IPv4 one in the first 4 bytes */
};

/* Of one dump; what comes after is left out, so that a flooded table costs no more. */
#define NEIGH_MAX 65536

/*
 * What was learnt, or set by hand: for AF_BRIDGE stations behind ports, without the ports' own
 * addresses; for AF_UNSPEC neighbours of both families whose address was resolved. `out` is
 * malloc'd, NULL if there are none. 0 or -errno; silent.
 */
int neigh_list(struct mnl_socket *nl, int family, struct neigh **out, unsigned int *count);
