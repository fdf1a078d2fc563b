/* SPDX-License-Identifier: MIT */
#include "cmd/bridge.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "net/addr.h"
#include "net/bridge/dhcp.h"
#include "net/bridge/forward.h"
#include "net/bridge/nat.h"
#include "util/log.h"
#include "util/util.h"

static const struct command commands[] = {
	{"down", bridge_down, "undo what up did"},
	{"list", bridge_list, "say which bridges up has set up"},
	{"up", bridge_up, "make a bridge for guests, with NAT and DHCP if wanted"},
};

/* It becomes part of file names, of nftables' and of dnsmasq's settings. */
static bool is_plain(const char *name)
{
	for (const char *c = name; *c; c++)
		if (!isalnum((unsigned char)*c) && (!strchr("-_.", *c) || c == name))
			return false;
	return link_name_valid(name);
}

int bridge_operand(int argc, char **argv, const char **name)
{
	if (command_operands("a bridge's name", argc, argv, 1, 1) < 0)
		return -EINVAL;
	*name = argv[optind];
	if (is_plain(*name))
		return 0;
	log_error("%s: '%s': not a bridge's name (1 to 15 letters, digits, - _ . and the "
		  "first a letter or digit)", argv[0], *name);
	return -EINVAL;
}

/* --- what there is --- */

static int look(struct bridge *bridge)
{
	int r = bridge_run_load(&bridge->run, bridge->name, &bridge->state);

	if (r && r != -ENOENT)
		return r;
	bridge->known = !r;
	if (bridge->known && bridge->state.netns != bridge->run.netns) {
		log_error("bridge %s: one of that name was set up in another network namespace "
			  "(take that down there; if it is gone: rm -r " BRIDGE_RUN_DIR
			  "/bridge-%s)", bridge->name, bridge->name);
		return -EEXIST;
	}
	r = link_get(bridge->nl, bridge->name, &bridge->link);
	if (r && r != -ENODEV) {
		log_error("bridge %s: %s", bridge->name, strerror(-r));
		return r;
	}
	bridge->exists = !r;
	bridge->same = !r && bridge->known && bridge->state.index == bridge->link.index;
	return 0;
}

int bridge_open(struct bridge *bridge, const char *name)
{
	int r;

	*bridge = (struct bridge){.name = name};
	if (!link_may_admin()) {
		log_error("bridge %s: no right to change it: CAP_NET_ADMIN is missing (run as "
			  "root)", name);
		return -EPERM;
	}
	r = bridge_run_open(&bridge->run, true);
	if (r)
		return r;
	r = link_connect(&bridge->nl);
	if (r)
		log_error("bridge %s: cannot ask the kernel for its interfaces: %s", name,
			  strerror(-r));
	else
		r = look(bridge);
	if (r)
		bridge_close(bridge);
	return r;
}

void bridge_close(struct bridge *bridge)
{
	link_disconnect(bridge->nl);
	bridge_run_close(&bridge->run);
}

int bridge_save(const struct bridge *bridge)
{
	return bridge_run_save(&bridge->run, bridge->name, &bridge->state);
}

void bridge_say(const struct bridge *bridge, const char *fmt, ...)
{
	va_list args;

	printf("%s: ", bridge->name);
	va_start(args, fmt);
	vprintf(fmt, args);
	va_end(args);
	putchar('\n');
}

/* --- what up and down both undo --- */

int bridge_undo_address(struct bridge *bridge)
{
	char text[CIDR_TEXT_BYTES];
	int r;

	if (!(bridge->state.did & BRIDGE_DID_ADDRESS))
		return 0;
	r = addr_delete(bridge->nl, bridge->link.index, &bridge->state.address);
	cidr_format(&bridge->state.address, text);
	if (r && r != -EADDRNOTAVAIL) {
		log_error("bridge %s: address %s cannot be removed: %s", bridge->name, text,
			  strerror(-r));
		return r;
	}
	if (!r)
		bridge_say(bridge, "address %s removed", text);
	bridge->state.did &= ~BRIDGE_DID_ADDRESS;
	return 0;
}

/* Another bridge that needs forwarding. */
struct heir {
	const struct bridge *bridge;
	char name[16];
	struct bridge_state state;
};

static void find_heir(const char *name, const struct bridge_state *state, void *arg)
{
	struct heir *heir = arg;

	if (heir->name[0] || !strcmp(name, heir->bridge->name) || !(state->did & BRIDGE_DID_NAT))
		return;
	snprintf(heir->name, sizeof(heir->name), "%.15s", name);
	heir->state = *state;
}

/* Who turned it on answers for it; with another that needs it, that one does from now on. */
static int undo_forwarding(struct bridge *bridge)
{
	const unsigned int bits = BRIDGE_DID_FORWARDING | BRIDGE_HAD_REDIRECTS;
	struct heir heir = {.bridge = bridge};
	int r = bridge_run_each(&bridge->run, find_heir, &heir);

	if (r)
		return r;
	if (heir.name[0]) {
		heir.state.did |= bridge->state.did & bits;
		r = bridge_run_save(&bridge->run, heir.name, &heir.state);
	} else {
		r = forward_turn_off(bridge->state.did & BRIDGE_HAD_REDIRECTS);
	}
	if (r)
		return r;
	if (heir.name[0])
		bridge_say(bridge, "forwarding left on, bridge %s needs it", heir.name);
	else
		bridge_say(bridge, "forwarding turned off (net.ipv4.ip_forward)");
	bridge->state.did &= ~bits;
	return bridge_save(bridge);
}

/* Once the whole host forwards, whoever turned that on meant the bridge, too. */
static int undo_forwarding_one(struct bridge *bridge)
{
	bool on;
	int r = forward_get(&on);

	if (!r && !on && bridge->same) {
		r = forward_set_one(bridge->name, false);
		if (!r)
			bridge_say(bridge, "forwarding turned off (net.ipv4.conf.%s.forwarding)",
				   bridge->name);
	}
	if (r)
		return r;
	bridge->state.did &= ~BRIDGE_DID_FORWARD_ONE;
	return bridge_save(bridge);
}

int bridge_undo_nat(struct bridge *bridge)
{
	int r = 0;

	if (bridge->state.did & BRIDGE_DID_NAT)
		r = nat_remove(bridge->name);
	if (r < 0)
		return r;
	if (r)
		bridge_say(bridge, "NAT removed (nftables table ip " NAT_TABLE "%s)", bridge->name);
	bridge->state.did &= ~BRIDGE_DID_NAT;
	r = bridge->state.did & BRIDGE_DID_FORWARD_ONE ? undo_forwarding_one(bridge) : 0;
	if (r)
		return r;
	return bridge->state.did & BRIDGE_DID_FORWARDING ? undo_forwarding(bridge) : 0;
}

int bridge_undo_dhcp(struct bridge *bridge)
{
	int r = 0;

	if (bridge->state.did & BRIDGE_DID_DHCP)
		r = dhcp_stop(&bridge->run, bridge->name);
	if (r < 0)
		return r;
	if (r)
		bridge_say(bridge, "DHCP stopped");
	bridge->state.did &= ~BRIDGE_DID_DHCP;
	return 0;
}

/* --- ports --- */

static void add_port(const struct link_info *link, void *arg)
{
	struct bridge_ports *ports = arg;
	size_t len = strlen(ports->names);

	if (link->master != ports->bridge)
		return;
	ports->count++;
	ports->taps += !strcmp(link->kind, "tun");
	/* Room for this one, and for the "..." of the next. */
	if (len + sizeof(link->name) + sizeof(", , ...") < sizeof(ports->names))
		snprintf(ports->names + len, sizeof(ports->names) - len, "%s%s", len ? ", " : "",
			 link->name);
	else if (strcmp(ports->names + len - 3, "..."))
		snprintf(ports->names + len, sizeof(ports->names) - len, ", ...");
}

int bridge_find_ports(int index, struct bridge_ports *out)
{
	int r;

	*out = (struct bridge_ports){.bridge = index};
	r = link_each(add_port, out);
	if (r)
		log_error("bridge: cannot ask the kernel for its interfaces: %s", strerror(-r));
	return r;
}

int main(int argc, char **argv)
{
	static const struct command_set set = {
		.word = "bridge",
		.about = "Set up bridges for guests, and take them down. Needs root's rights.\n",
		.commands = commands,
		.count = ARRAY_LEN(commands),
	};

	return command_main(&set, argc, argv);
}
