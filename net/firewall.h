/* SPDX-License-Identifier: MIT */
/* What the host's firewall would do to packets: a look at nftables over netlink, and no more. */
#pragma once

/* As the kernel allows: NFT_NAME_MAXLEN. */
#define FIREWALL_NAME_BYTES 256

struct firewall_chain {
	const char *family; /* "ip" or "inet" */
	char table[FIREWALL_NAME_BYTES];
	char name[FIREWALL_NAME_BYTES];
};

/*
 * A chain that sees IPv4 packets at `hook` (NF_INET_FORWARD, say), drops them by its policy, and in
 * whose table no rule is about interface `ifname`: whoever wrote one will have let it through.
 * 1 found, 0 there is none, -errno (-EPERM: CAP_NET_ADMIN is missing). Also finds the chains of
 * iptables that is built on nftables, as everywhere by now, not those of its predecessor. Silent.
 */
int firewall_find_drop(unsigned int hook, const char *ifname, struct firewall_chain *out);
