/* SPDX-License-Identifier: MIT */
/*
 * `minivmm bridge up`: looks at everything first, then brings the bridge, step by step, to what is
 * asked. What it did itself is on record after each step, for `down`; so one that failed half way
 * can be run again, or undone.
 */
#include <errno.h>
#include <linux/netfilter.h>
#include <stdio.h>
#include <string.h>

#include "cmd/bridge.h"
#include "net/addr.h"
#include "net/bridge/dhcp.h"
#include "net/bridge/forward.h"
#include "net/bridge/nat.h"
#include "net/firewall.h"
#include "net/net.h"
#include "util/log.h"

static const char help[] =
	"Usage: minivmm bridge up NAME --address ADDR/BITS [OPTION]...\n"
	"Make bridge NAME, give it an address, and set it up; or bring one that is there to\n"
	"what is asked.\n"
	"\n"
	"  -a, --address ADDR/BITS  the host's address on it, and the guests' network, as\n"
	"                           10.0.0.1/24\n"
	"      --nat                guests reach what the host reaches, in its name\n"
	"      --dhcp               guests get an address of that network (needs dnsmasq)\n";

enum {
	OPTION_NAT = 256,
	OPTION_DHCP,
};

static const struct option options[] = {
	{"address", required_argument, NULL, 'a'},
	{"nat", no_argument, NULL, OPTION_NAT},
	{"dhcp", no_argument, NULL, OPTION_DHCP},
	COMMAND_OPTIONS_END,
};

struct up {
	const char *name, *address; /* as written */
	struct cidr cidr;
	bool nat, dhcp;
	char dnsmasq[DHCP_PROGRAM_BYTES];
	struct bridge bridge;
};

/* --- the command line --- */

static int parse_address(struct up *up)
{
	const char *unfit;

	if (!up->address) {
		log_error("bridge up: --address is missing (as --address 10.0.0.1/24)");
		return -EINVAL;
	}
	if (cidr_parse(up->address, &up->cidr) < 0) {
		log_error("bridge up: --address %.40s: not an IPv4 address with its network's bits "
			  "(as 10.0.0.1/24)", up->address);
		return -EINVAL;
	}
	unfit = cidr_unfit(&up->cidr);
	if (unfit)
		log_error("bridge up: --address %s: %s", up->address, unfit);
	return unfit ? -EINVAL : 0;
}

static int parse(int argc, char **argv, struct up *up)
{
	int option;

	while ((option = command_getopt(argc, argv, ":a:h", options, help)) != -1) {
		if (option == '?')
			return -EINVAL;
		if (option == 'a')
			up->address = optarg;
		else if (option == OPTION_NAT)
			up->nat = true;
		else
			up->dhcp = true;
	}
	if (bridge_operand(argc, argv, &up->name) < 0)
		return -EINVAL;
	return parse_address(up);
}

/* --- before anything is changed --- */

struct overlap {
	const struct up *up;
	int index; /* of the interface that has it, or 0 */
	struct cidr cidr;
};

static void find_overlap(int index, const struct cidr *cidr, void *arg)
{
	struct overlap *overlap = arg;
	const struct bridge *bridge = &overlap->up->bridge;

	if ((bridge->exists && index == bridge->link.index) ||
	    !cidr_overlap(cidr, &overlap->up->cidr))
		return;
	overlap->index = index;
	overlap->cidr = *cidr;
}

/* Packets to the guests would go astray, or somebody else's to the guests. */
static int check_overlap(const struct up *up)
{
	struct overlap overlap = {.up = up};
	struct link_info link;
	char text[CIDR_TEXT_BYTES];
	int r = addr_each(find_overlap, &overlap);

	if (r) {
		log_error("bridge %s: cannot ask the kernel for its addresses: %s", up->name,
			  strerror(-r));
		return r;
	}
	if (!overlap.index || link_get_index(up->bridge.nl, overlap.index, &link) < 0)
		return 0;
	cidr_format(&overlap.cidr, text);
	log_error("bridge up: --address %s: its network overlaps that of %s, which has %s (take "
		  "another network)", up->address, link.name, text);
	return -EEXIST;
}

static int check(struct up *up)
{
	const struct bridge *bridge = &up->bridge;
	const char *kind = bridge->link.kind;

	if (bridge->exists && strcmp(kind, "bridge")) {
		log_error("bridge %s: not a bridge but %s (ip link show type bridge lists them)",
			  up->name, kind[0] ? kind : "another kind of interface");
		return -EINVAL;
	}
	if (up->dhcp && dhcp_find_program(up->dnsmasq) < 0)
		return -ENOENT;
	return check_overlap(up);
}

/* --- step by step --- */

static int make(struct bridge *bridge)
{
	char seed[32];
	uint8_t addr[6];
	int r;

	/* Stable, so that what guests know of it holds when it comes back. */
	snprintf(seed, sizeof(seed), "bridge %s", bridge->name);
	net_mac_default(addr, seed, 0);
	r = link_add_bridge(bridge->nl, bridge->name, addr);
	if (!r)
		r = link_get(bridge->nl, bridge->name, &bridge->link);
	if (r) {
		log_error("bridge %s: cannot be made: %s%s", bridge->name, strerror(-r),
			  r == -EOPNOTSUPP ? " (load the driver: modprobe bridge)" : "");
		return r;
	}
	bridge->state.index = bridge->link.index;
	bridge->state.did |= BRIDGE_DID_MAKE;
	r = bridge_save(bridge);
	if (r)
		link_delete(bridge->nl, bridge->link.index);
	else
		bridge_say(bridge, "bridge made");
	return r;
}

static int set_link(struct up *up)
{
	struct bridge *bridge = &up->bridge;

	if (!bridge->same) {
		/* The one of that name to which these were done is gone. */
		bridge->state.did &= ~(BRIDGE_DID_MAKE | BRIDGE_DID_RAISE | BRIDGE_DID_ADDRESS |
				       BRIDGE_DID_FORWARD_ONE);
		bridge->state.index = bridge->link.index;
		bridge->state.netns = bridge->run.netns;
	}
	if (!bridge->known || !bridge->same)
		bridge->state.address = up->cidr;
	if (!bridge->exists)
		return make(bridge);
	bridge_say(bridge, "bridge there already");
	return bridge_save(bridge);
}

/* The old one first: with a second of its network, the kernel would take that along. */
static int set_address(struct up *up)
{
	struct bridge *bridge = &up->bridge;
	char text[CIDR_TEXT_BYTES];
	int r = 0;

	if (!cidr_equal(&bridge->state.address, &up->cidr))
		r = bridge_undo_address(bridge);
	if (r)
		return r;
	bridge->state.address = up->cidr;
	r = addr_add(bridge->nl, bridge->link.index, &up->cidr);
	cidr_format(&up->cidr, text);
	if (!r)
		bridge->state.did |= BRIDGE_DID_ADDRESS;
	else if (r != -EEXIST) {
		log_error("bridge %s: address %s cannot be added: %s", bridge->name, text,
			  strerror(-r));
		bridge_save(bridge);
		return r;
	}
	bridge_say(bridge, "address %s %s", text, r ? "there already" : "added");
	return bridge_save(bridge);
}

static int raise_link(struct up *up)
{
	const struct link_change change = {.fields = LINK_SET_UP, .up = true};
	struct bridge *bridge = &up->bridge;
	int r;

	if (bridge->link.up)
		return 0;
	r = link_set(bridge->nl, bridge->link.index, &change);
	if (r) {
		log_error("bridge %s: cannot be set up: %s", bridge->name, strerror(-r));
		return r;
	}
	bridge_say(bridge, "set up");
	bridge->state.did |= BRIDGE_DID_RAISE;
	return bridge_save(bridge);
}

/* Where the host forwards by some interfaces: what others may do is not ours to widen. */
static int set_forwarding_one(struct bridge *bridge)
{
	bool on;
	int r = forward_get_one(bridge->name, &on);

	if (r)
		return r;
	if (!on) {
		bridge->state.did |= BRIDGE_DID_FORWARD_ONE;
		r = bridge_save(bridge);
		if (!r)
			r = forward_set_one(bridge->name, true);
	}
	if (!r)
		bridge_say(bridge, "forwarding %s (net.ipv4.conf.%s.forwarding alone, as this host "
			   "forwards by some interfaces only; answers come by those)",
			   on ? "on already" : "turned on", bridge->name);
	return r;
}

/* On record before it is done: to turn off what is off does no harm. */
static int set_forwarding(struct bridge *bridge)
{
	bool on, any, redirects;
	int r = forward_get(&on);

	if (r)
		return r;
	if (on) {
		bridge_say(bridge, "forwarding on already");
		return 0;
	}
	r = forward_get_any(&any);
	if (!r)
		r = forward_get_redirects(&redirects);
	if (r)
		return r;
	if (any)
		return set_forwarding_one(bridge);
	bridge->state.did &= ~BRIDGE_HAD_REDIRECTS;
	bridge->state.did |= BRIDGE_DID_FORWARDING | (redirects ? BRIDGE_HAD_REDIRECTS : 0);
	r = bridge_save(bridge);
	if (!r)
		r = forward_turn_on();
	if (!r)
		bridge_say(bridge, "forwarding turned on (net.ipv4.ip_forward)");
	return r;
}

static int set_nat(struct up *up)
{
	struct bridge *bridge = &up->bridge;
	int r;

	if (!up->nat)
		return bridge_undo_nat(bridge);
	bridge->state.did |= BRIDGE_DID_NAT;
	r = bridge_save(bridge);
	if (!r)
		r = set_forwarding(bridge);
	if (!r)
		r = nat_set(bridge->name, &up->cidr);
	if (r < 0)
		return r;
	bridge_say(bridge, "NAT %s (nftables table ip " NAT_TABLE "%s)",
		   r ? "set up" : "there already", bridge->name);
	return 0;
}

static int set_dhcp(struct up *up)
{
	struct bridge *bridge = &up->bridge;
	char from[CIDR_TEXT_BYTES], to[CIDR_TEXT_BYTES];
	struct cidr first, last;
	int r;

	if (!up->dhcp)
		return bridge_undo_dhcp(bridge);
	bridge->state.did |= BRIDGE_DID_DHCP;
	r = bridge_save(bridge);
	if (!r)
		r = dhcp_start(&bridge->run, bridge->name, up->dnsmasq, &up->cidr, up->nat);
	if (r < 0)
		return r;
	dhcp_range(&up->cidr, &first, &last);
	cidr_format_addr(first.addr, from);
	cidr_format_addr(last.addr, to);
	bridge_say(bridge, "DHCP %s, %s to %s", r ? "started" : "there already", from, to);
	return 0;
}

/* --- what else may be in the way --- */

/* No table can let through what another drops. */
static void warn_of_firewall(const struct up *up)
{
	struct firewall_chain chain;

	if (up->nat && firewall_find_drop(NF_INET_FORWARD, up->name, &chain) == 1)
		log_warn("bridge %s: the host's firewall keeps guests from going out: chain %s of "
			 "table %s %s drops what it does not know (nft insert rule %s %s %s "
			 "iifname %s accept, and the same with oifname)", up->name, chain.name,
			 chain.family, chain.table, chain.family, chain.table, chain.name,
			 up->name);
	if (up->dhcp && firewall_find_drop(NF_INET_LOCAL_IN, up->name, &chain) == 1)
		log_warn("bridge %s: the host's firewall keeps guests from asking for an address: "
			 "chain %s of table %s %s drops what it does not know (nft insert rule %s "
			 "%s %s iifname %s udp dport { 53, 67 } accept)", up->name, chain.name,
			 chain.family, chain.table, chain.family, chain.table, chain.name,
			 up->name);
}

static int bring_up(struct up *up)
{
	int r = check(up);

	if (!r)
		r = set_link(up);
	if (!r)
		r = set_address(up);
	if (!r)
		r = raise_link(up);
	if (!r)
		r = set_nat(up);
	if (!r)
		r = set_dhcp(up);
	if (!r)
		r = bridge_save(&up->bridge);
	if (!r)
		warn_of_firewall(up);
	return r;
}

int bridge_up(int argc, char **argv)
{
	struct up up = {.nat = false};
	int r;

	if (parse(argc, argv, &up) < 0)
		return COMMAND_USAGE;
	if (bridge_open(&up.bridge, up.name) < 0)
		return COMMAND_FAILED;
	r = bring_up(&up);
	bridge_close(&up.bridge);
	return command_flush() < 0 || r ? COMMAND_FAILED : COMMAND_OK;
}
