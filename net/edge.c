/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * All this is the kernel's work, at the TAP, where the guest cannot see or stop it; whoever moves
 * the frames, minivmm or vhost-net, knows nothing of it.
 *
 *   from the guest   a copy to the monitor, the guard, police at the rate, the bridge
 *   to the guest     a copy to the monitor, the shaper's queue, the TAP's
 *
 * So the monitor has what the guest sends whatever becomes of it, and what is sent to the guest
 * whether it fits the rate or not. A copy that cannot be delivered is lost, the frame goes on. A
 * capture (pcap=, capture.c) sees the same, except that what goes to the guest it sees only when
 * that leaves the queue.
 *
 * A TAP of ours takes it all along when it goes. One that was adopted gets it taken off, and if we
 * are killed before that, at the next start (edge_clean).
 */
#include "net/edge.h"

#include <errno.h>
#include <linux/if_tun.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "net/capture.h"
#include "net/link.h"
#include "net/monitor.h"
#include "net/tc.h"
#include "util/log.h"
#include "util/util.h"

/* A frame with its segments yet to be cut has up to 64 KiB and a header for each. */
#define BURST_BYTES_MIN KIB(128)
/* What passes at once after a pause: a part of a second. Twice that may wait. */
#define BURST_DIVISOR 20

/* A port's flag has no number: where the alias is free it says that the flag is ours. */
#define ISOLATED_ALIAS "minivmm isolated"

#define ALL_KEYS "monitor=, pcap=, guard=, rate= and isolated"

/* What was done, to be undone. */
#define DONE_HOOK 1u
#define DONE_MIRROR_FROM 2u
#define DONE_MIRROR_TO 4u
#define DONE_GUARD 8u
#define DONE_POLICE 16u
#define DONE_SHAPER 32u
#define DONE_ALIAS 64u
#define DONE_ISOLATED 128u

struct edge {
	const char *ifname; /* the net's */
	struct mnl_socket *nl;
	struct link_info link;
	struct monitor monitor;
	struct capture *capture; /* or NULL */
	unsigned int done;
};

/* `what` failed, which takes `modules` of the kernel's, and which `key` asked for. Returns `r`. */
static int failed(const struct edge *edge, int r, const char *key, const char *what,
		  const char *modules)
{
	const char *name = edge->ifname;

	if (r == -EPERM)
		log_error("tap %s: no right to %s: CAP_NET_ADMIN is missing (run as root, or leave "
			  "%s out)", name, what, key);
	else if (r == -ENOENT || r == -EOPNOTSUPP)
		log_error("tap %s: cannot %s: a module of the kernel is missing (modprobe -a %s, "
			  "or leave %s out)", name, what, modules, key);
	else if (r == -EEXIST || r == -EINVAL)
		log_error("tap %s: cannot %s: it has tc settings of its own in that place (tc "
			  "filter show dev %s ingress; tc qdisc show dev %s)", name, what, name,
			  name);
	else
		log_error("tap %s: cannot %s: %s", name, what, strerror(-r));
	return r;
}

/* --- one after the other --- */

static int add_hook(struct edge *edge, const char *key)
{
	int r = tc_hook_add(edge->nl, edge->link.index);

	if (r == -EEXIST)
		return 0; /* somebody's, and stays so */
	if (r)
		return failed(edge, r, key, "look at its frames", "sch_ingress");
	edge->done |= DONE_HOOK;
	return 0;
}

static int check_monitor(const struct edge *edge, const char *name)
{
	struct link_info link;

	if (!strcmp(name, edge->ifname)) {
		log_error("tap %s: monitor=%s: cannot be its own monitor (name another interface, "
			  "or one that is not there yet)", edge->ifname, name);
		return -EINVAL;
	}
	if (edge->link.master && !link_get(edge->nl, name, &link) &&
	    link.index == edge->link.master) {
		log_error("tap %s: monitor=%s: its own bridge, which would send all copies on "
			  "(name another interface, or one that is not there yet)", edge->ifname,
			  name);
		return -EINVAL;
	}
	return 0;
}

static int add_monitor(struct edge *edge, const char *name)
{
	static const unsigned int done[] = { DONE_MIRROR_FROM, DONE_MIRROR_TO };
	int r = check_monitor(edge, name);

	if (!r)
		r = monitor_open(edge->nl, name, &edge->monitor);
	if (!r)
		r = add_hook(edge, "monitor=");
	for (enum tc_side side = TC_INGRESS; !r && side <= TC_EGRESS; side++) {
		r = tc_mirror_add(edge->nl, edge->link.index, side, edge->monitor.index);
		if (r)
			return failed(edge, r, "monitor=", "copy its frames", "cls_bpf act_mirred");
		edge->done |= done[side];
	}
	return r;
}

static int add_guard(struct edge *edge, const struct guard *guard, const uint8_t mac[6])
{
	struct sock_filter program[GUARD_PROGRAM_MAX];
	unsigned int count = guard_program(guard, mac, program);
	int r = add_hook(edge, "guard=");

	if (r)
		return r;
	r = tc_verdict_add(edge->nl, edge->link.index, program, count);
	if (r)
		return failed(edge, r, "guard=", "guard it", "cls_bpf");
	edge->done |= DONE_GUARD;
	return 0;
}

static int add_rate(struct edge *edge, uint64_t rate)
{
	uint64_t burst = MAX(rate / BURST_DIVISOR, BURST_BYTES_MIN);
	int r = add_hook(edge, "rate=");

	if (r)
		return r;
	r = tc_police_add(edge->nl, edge->link.index, rate, burst);
	if (r)
		return failed(edge, r, "rate=", "limit what the guest sends", "cls_bpf act_police");
	edge->done |= DONE_POLICE;
	r = tc_shaper_add(edge->nl, edge->link.index, rate, burst, 2 * burst);
	if (r)
		return failed(edge, r, "rate=", "limit what the guest gets", "sch_tbf");
	edge->done |= DONE_SHAPER;
	return 0;
}

static int set_alias(struct mnl_socket *nl, int index, const char *alias)
{
	const struct link_change change = { .fields = LINK_SET_ALIAS, .alias = alias };

	return link_set(nl, index, &change);
}

static int set_isolated(struct edge *edge)
{
	struct link_info master;
	int r;

	if (!edge->link.master || link_get_index(edge->nl, edge->link.master, &master) ||
	    strcmp(master.kind, "bridge")) {
		log_error("tap %s: isolated: it is on no bridge (add bridge=NAME, or leave "
			  "isolated out)", edge->ifname);
		return -EINVAL;
	}
	if (edge->link.isolated)
		return 0;
	if (!edge->link.alias[0] && !set_alias(edge->nl, edge->link.index, ISOLATED_ALIAS))
		edge->done |= DONE_ALIAS;
	r = link_set_isolated(edge->nl, edge->link.index, true);
	if (r)
		return failed(edge, r, "isolated", "isolate it", "bridge");
	edge->done |= DONE_ISOLATED;
	return 0;
}

static int add_all(struct edge *edge, const struct edge_options *opts, const uint8_t mac[6])
{
	int r = opts->isolated ? set_isolated(edge) : 0;

	if (!r && opts->monitor)
		r = add_monitor(edge, opts->monitor);
	if (!r && opts->guard.on)
		r = add_guard(edge, &opts->guard, mac);
	if (!r && opts->rate)
		r = add_rate(edge, opts->rate);
	if (!r && opts->pcap)
		r = capture_open(opts->pcap, edge->link.index, edge->ifname, &edge->capture);
	return r;
}

/* --- the whole --- */

static bool asks(const struct edge_options *opts)
{
	return opts->monitor || opts->pcap || opts->guard.on || opts->rate || opts->isolated;
}

/* A TAP of fd= may be in another, and another interface have its name here. */
static int check_namespace(const struct edge *edge, int tap_fd)
{
	int fd = ioctl(tap_fd, TUNGETDEVNETNS);
	struct stat its, ours;
	bool same;

	if (fd < 0)
		return failed(edge, -errno, ALL_KEYS, "work on it", "tun");
	same = fstat(fd, &its) == 0 && stat("/proc/self/ns/net", &ours) == 0 &&
	       its.st_dev == ours.st_dev && its.st_ino == ours.st_ino;
	close(fd);
	if (same)
		return 0;
	log_error("tap %s: in another network namespace: " ALL_KEYS " need it in minivmm's (leave "
		  "them out, or start minivmm there: ip netns exec)", edge->ifname);
	return -EXDEV;
}

static int find_link(struct edge *edge)
{
	int r = link_connect(&edge->nl);

	if (!r)
		r = link_get(edge->nl, edge->ifname, &edge->link);
	if (r)
		log_error("tap %s: %s", edge->ifname, strerror(-r));
	return r;
}

int edge_open(const struct net *net, const struct edge_options *opts, const uint8_t mac[6],
	      struct edge **out)
{
	struct edge *edge;
	int r;

	*out = NULL;
	if (!asks(opts))
		return 0;
	if (!net->ifname[0]) {
		log_error("net: " ALL_KEYS " need an interface of the host (use bridge= or tap=, "
			  "or leave them out)");
		return -EINVAL;
	}
	edge = calloc(1, sizeof(*edge));
	if (!edge)
		return -ENOMEM;
	edge->ifname = net->ifname;
	edge->monitor.fd = -1;
	r = check_namespace(edge, net->fds[0]);
	if (!r)
		r = find_link(edge);
	if (!r) {
		edge_clean(edge->nl, &edge->link); /* a TAP of fd= was not yet */
		r = link_get(edge->nl, edge->ifname, &edge->link);
	}
	if (!r)
		r = add_all(edge, opts, mac);
	if (r)
		edge_close(edge);
	else
		*out = edge;
	return r;
}

/* That somebody took it off before is nothing to complain about. */
static void note(const struct edge *edge, int r)
{
	if (r && r != -ENODEV && r != -ENOENT && r != -EINVAL)
		log_warn("tap %s: could not be put back as it was: %s", edge->ifname, strerror(-r));
}

static void take_off(struct edge *edge)
{
	static const struct {
		unsigned int done;
		enum tc_side side;
		enum tc_place place;
	} filters[] = {
		{ DONE_POLICE, TC_INGRESS, TC_PLACE_POLICE },
		{ DONE_GUARD, TC_INGRESS, TC_PLACE_VERDICT },
		{ DONE_MIRROR_TO, TC_EGRESS, TC_PLACE_MIRROR },
		{ DONE_MIRROR_FROM, TC_INGRESS, TC_PLACE_MIRROR },
	};
	struct mnl_socket *nl = edge->nl;
	int index = edge->link.index;

	if (edge->done & DONE_SHAPER)
		note(edge, tc_shaper_delete(nl, index));
	for (unsigned int i = 0; i < ARRAY_LEN(filters); i++)
		if (edge->done & filters[i].done)
			note(edge, tc_filter_delete(nl, index, filters[i].side, filters[i].place));
	if (edge->done & DONE_HOOK)
		note(edge, tc_hook_release(nl, index));
	if (edge->done & DONE_ISOLATED)
		note(edge, link_set_isolated(nl, index, false));
	if (edge->done & DONE_ALIAS)
		note(edge, set_alias(nl, index, ""));
}

void edge_close(struct edge *edge)
{
	if (!edge)
		return;
	capture_close(edge->capture);
	take_off(edge);
	monitor_close(&edge->monitor);
	link_disconnect(edge->nl);
	free(edge);
}

static int clean(struct mnl_socket *nl, const struct link_info *link)
{
	int r = tc_clean(nl, link->index);

	if (r || strcmp(link->alias, ISOLATED_ALIAS))
		return r;
	if (link->isolated)
		r = link_set_isolated(nl, link->index, false);
	return r ? r : set_alias(nl, link->index, "");
}

void edge_clean(struct mnl_socket *nl, const struct link_info *link)
{
	int r = clean(nl, link);

	if (r && r != -ENODEV)
		log_warn("tap %s: a minivmm that was killed left filters, a rate or its isolation "
			 "on it, and they cannot be taken off: %s (start minivmm on it as root "
			 "once)", link->name, strerror(-r));
}
