/* SPDX-License-Identifier: MIT */
#include "net/bridge_check.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/netfilter.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "net/addr.h"
#include "net/firewall.h"
#include "net/link.h"
#include "util/log.h"
#include "util/util.h"

/* The digit that a file of /proc/sys begins with; 0 if there is no such file. */
static int read_switch(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	char digit = '0';

	if (fd < 0)
		return 0;
	if (read(fd, &digit, 1) != 1)
		digit = '0';
	close(fd);
	return digit - '0';
}

static void check_spanning_tree(const struct link_info *bridge)
{
	if (!bridge->stp || !bridge->forward_delay_ms)
		return;
	log_warn("bridge %s: spanning tree is on, so a guest hears nothing for its first %u s (if "
		 "there can be no loop: ip link set %s type bridge stp_state 0)", bridge->name,
		 2 * bridge->forward_delay_ms / 1000, bridge->name);
}

/*
 * With br_netfilter, frames from one port to another pass the host's FORWARD chains, which most
 * often were written (by Docker, say) with routed packets in mind. Loaded, it has either the
 * bridge's own switch or that of all; nothing is asked of nftables, which asking would load, unless
 * one is on.
 */
static void check_firewall(const struct link_info *bridge)
{
	static const char all[] = "/proc/sys/net/bridge/bridge-nf-call-iptables";
	struct firewall_chain chain;

	if (access(all, F_OK) < 0 || (!bridge->nf_call_iptables && !read_switch(all)))
		return;
	if (firewall_find_drop(NF_INET_FORWARD, bridge->name, &chain) != 1)
		return;
	log_warn("bridge %s: its frames pass the host's firewall (br_netfilter), where chain %s of "
		 "table %s %s drops what it does not know (nft insert rule %s %s %s iifname %s "
		 "oifname %s accept)", bridge->name, chain.name, chain.family, chain.table,
		 chain.family, chain.table, chain.name, bridge->name, bridge->name);
}

struct own_address {
	int index;
	bool found;
	struct cidr cidr;
};

static void note_address(int index, const struct cidr *cidr, void *arg)
{
	struct own_address *own = arg;

	if (index != own->index || own->found || cidr->prefix > 30)
		return;
	own->found = true;
	own->cidr = *cidr;
}

/* A neighbour's, so not the bridge's own, which is routed to lo. */
static uint32_t neighbour(const struct cidr *cidr)
{
	uint32_t first = cidr_first(cidr) + 1;

	return first == cidr->addr ? first + 1 : first;
}

/*
 * rp_filter matters where the host itself talks to the guests: what comes in by the bridge from an
 * address to which it would send by another interface, it drops. So it does when two of its
 * interfaces are on one network, and the route by the other is the better one.
 */
static void check_reverse_path(struct mnl_socket *nl, const struct link_info *bridge)
{
	struct own_address own = {.index = bridge->index};
	struct link_info other;
	char path[64], subnet[CIDR_TEXT_BYTES];
	int index;

	snprintf(path, sizeof(path), "/proc/sys/net/ipv4/conf/%s/rp_filter", bridge->name);
	/* The higher counts; 1 is strict, 2 loose. */
	if (MAX(read_switch("/proc/sys/net/ipv4/conf/all/rp_filter"), read_switch(path)) != 1)
		return;
	if (addr_each(note_address, &own) < 0 || !own.found ||
	    route_get(nl, neighbour(&own.cidr), &index) < 0 || index == bridge->index ||
	    link_get_index(nl, index, &other) < 0)
		return;
	own.cidr.addr = cidr_first(&own.cidr);
	cidr_format(&own.cidr, subnet);
	log_warn("bridge %s: the host sends to %s by %s, so rp_filter drops what guests of that "
		 "network send to the host (take the address off one of the two, or: sysctl "
		 "net.ipv4.conf.%s.rp_filter=2)", bridge->name, subnet, other.name, bridge->name);
}

void bridge_check(const char *name)
{
	struct link_info bridge;
	struct mnl_socket *nl;

	if (link_connect(&nl) < 0)
		return;
	if (link_get(nl, name, &bridge) == 0 && bridge.up) {
		check_spanning_tree(&bridge);
		check_firewall(&bridge);
		check_reverse_path(nl, &bridge);
	}
	link_disconnect(nl);
}
