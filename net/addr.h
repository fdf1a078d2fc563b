/* SPDX-License-Identifier: MIT */
/* IPv4 addresses and routes over rtnetlink; link.h has the interfaces. */
#pragma once

#include "net/cidr.h"

struct mnl_socket;

/* Run `found` on each address of the namespace, with the interface it is on. 0 or -errno. */
int addr_each(void (*found)(int index, const struct cidr *cidr, void *arg), void *arg);
/* -EEXIST: it is there. */
int addr_add(struct mnl_socket *nl, int index, const struct cidr *cidr);
/* -EADDRNOTAVAIL: it is not there. */
int addr_delete(struct mnl_socket *nl, int index, const struct cidr *cidr);

/* The interface by which packets to `addr` leave. -ENETUNREACH and others: none. */
int route_get(struct mnl_socket *nl, uint32_t addr, int *index);
