/* SPDX-License-Identifier: MIT */
/*
 * From what --net asks for to an attached TAP.
 *
 * Created ones are not persistent: the kernel deletes them with the last file, so even a killed
 * process leaves nothing. Adopted ones are put back as they were: bridge, up or down, header
 * size. Nothing is changed before everything that can be looked up was.
 */
#include <ctype.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "net/edge.h"
#include "net/link_watch.h"
#include "net/tap.h"
#include "util/log.h"
#include "util/util.h"

#define CREATED_PREFIX "mv"

static int no_right_to_create(const struct net_options *opts)
{
	const char *name = opts->tap ? opts->tap : "mv0";
	bool many = (opts->queues ? opts->queues : opts->queues_default) > 1;

	log_error("net: no right to create a TAP: CAP_NET_ADMIN is missing (run as root; or once "
		  "as root: ip tuntap add %s mode tap user NAME%s && ip link set %s %s%s%sup, then "
		  "use tap=%s; or pass an open TAP by fd=; or do without one: --net user)",
		  name, many ? " multi_queue" : "", name, opts->bridge ? "master " : "",
		  opts->bridge ? opts->bridge : "", opts->bridge ? " " : "", name);
	return -EPERM;
}

/* What an interface's name may have of the machine's, which leaves room for three digits. */
static void created_name(char name[IFNAMSIZ], const char *vm_name)
{
	size_t room = IFNAMSIZ - 1 - strlen(CREATED_PREFIX "-") - 3, len = 0;
	char part[IFNAMSIZ] = "";

	for (; vm_name && vm_name[len] && len < room; len++)
		part[len] = isalnum((unsigned char)vm_name[len]) ? vm_name[len] : '-';
	/* The kernel makes "%d" the first number that is free; no digit before belongs to it. */
	snprintf(name, IFNAMSIZ, CREATED_PREFIX "%s%s%%d", part,
		 len && isdigit((unsigned char)part[len - 1]) ? "-" : "");
}

static int check_names(const struct net_options *opts)
{
	const char *names[] = { opts->tap, opts->bridge };

	for (unsigned int i = 0; i < 2; i++) {
		if (!names[i] || link_name_valid(names[i]))
			continue;
		log_error("net: %s=%s: not an interface name (1 to %d characters, no space, / : %%)",
			  i ? "bridge" : "tap", names[i], IFNAMSIZ - 1);
		return -EINVAL;
	}
	return 0;
}

static int find_bridge(struct mnl_socket *nl, const char *name, struct link_info *out)
{
	int r = link_get(nl, name, out);

	if (r == -ENODEV) {
		log_error("bridge %s: no such interface (make it: ip link add %s type bridge && "
			  "ip link set %s up)", name, name, name);
		return r;
	}
	if (r) {
		log_error("bridge %s: %s", name, strerror(-r));
		return r;
	}
	if (strcmp(out->kind, "bridge")) {
		log_error("bridge %s: not a bridge but %s (ip link show type bridge lists them)",
			  name, out->kind[0] ? out->kind : "another kind of interface");
		return -EINVAL;
	}
	if (!out->up)
		log_warn("bridge %s: it is down, so nothing will pass (ip link set %s up)", name,
			 name);
	return 0;
}

static int busy(const char *name)
{
	log_error("tap %s: in use by another process (stop that, or name another TAP)", name);
	return -EBUSY;
}

/* Is what was found by name a TAP we can take? 0 or -errno; logs. */
static int check_adoptable(const struct link_info *link)
{
	if (strcmp(link->kind, "tun")) {
		log_error("tap %s: not a TAP but %s (name another, or one that is not there yet)",
			  link->name, link->kind[0] ? link->kind : "another kind of interface");
		return -EINVAL;
	}
	if (link->tun_type == IFF_TUN) {
		log_error("tap %s: a tun device, not a TAP (make one: ip tuntap add NAME mode tap)",
			  link->name);
		return -EINVAL;
	}
	/* One with many queues would let us in beside whoever has it. */
	return link->tun_queues ? busy(link->name) : 0;
}

/* How many queues are attached; `link` is the TAP to adopt, or NULL. -EINVAL; logs. */
static int choose_queues(const struct net_options *opts, const struct link_info *link,
			 unsigned int *out)
{
	bool many = !link || link->tun_multi_queue;

	*out = opts->queues ? opts->queues : many ? MAX(opts->queues_default, 1u) : 1;
	if (many || *out == 1)
		return 0;
	log_error("tap %s: has one queue, not %u (make it so: ip tuntap add %s mode tap "
		  "multi_queue; or leave queues= out)", link->name, *out, link->name);
	return -EINVAL;
}

static int not_attached(int r, const char *name, const struct net_options *opts,
			const struct link_info *link)
{
	if (r == -EBUSY)
		return busy(name);
	if (r == -EPERM && !link)
		return no_right_to_create(opts);
	if (r == -EPERM)
		log_error("tap %s: not yours (run as root, or as its user: ip tuntap add %s mode tap "
			  "user NAME)", name, name);
	else
		log_error("tap %s: cannot attach to it: %s", name, strerror(-r));
	return r;
}

/* A file for each queue. `link` is the TAP to adopt, or NULL. */
static int attach(struct tap *tap, const struct net_options *opts, const struct link_info *link)
{
	struct ifreq req = { .ifr_flags = (short)(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR) };
	struct net *net = &tap->net;
	unsigned int queues;
	int r = choose_queues(opts, link, &queues);

	if (r)
		return r;
	if (opts->tap)
		snprintf(req.ifr_name, IFNAMSIZ, "%s", opts->tap);
	else
		created_name(req.ifr_name, opts->vm_name);
	if (link ? link->tun_multi_queue : queues > 1)
		req.ifr_flags |= IFF_MULTI_QUEUE;
	if (!link)
		req.ifr_flags = (short)(req.ifr_flags | IFF_TUN_EXCL);
	while (net->queue_count < queues) {
		r = tap_open_file();
		if (r < 0)
			return r;
		net->fds[net->queue_count++] = r;
		if (ioctl(r, TUNSETIFF, &req) < 0)
			return not_attached(-errno, req.ifr_name, opts, link);
		tap->created = !link;
		req.ifr_flags = (short)(req.ifr_flags & ~IFF_TUN_EXCL); /* now it exists */
	}
	/* Or any user could open a queue of his own, and get some of the guest's frames. */
	if (tap->created && ioctl(net->fds[0], TUNSETOWNER, (unsigned long)geteuid()) < 0)
		return not_attached(-errno, req.ifr_name, opts, link);
	memcpy(net->ifname, req.ifr_name, IFNAMSIZ);
	net->ifname[IFNAMSIZ - 1] = 0;
	return 0;
}

static int apply(struct tap *tap, const struct link_change *change, const char *bridge)
{
	const char *name = tap->net.ifname;
	int r = change->fields ? link_set(tap->nl, tap->index, change) : 0;

	if (r == -EPERM)
		log_error("tap %s: no right to bring it up%s%s: CAP_NET_ADMIN is missing (run as root; "
			  "or once as root: ip link set %s %s%s%sup)", name,
			  bridge ? " on bridge " : "", bridge ? bridge : "", name,
			  bridge ? "master " : "", bridge ? bridge : "", bridge ? " " : "");
	else if (r)
		log_error("tap %s: cannot bring it up%s%s: %s", name, bridge ? " on bridge " : "",
			  bridge ? bridge : "", strerror(-r));
	return r;
}

/* A bridge may have more than a TAP can: 65521, as its Ethernet header counts there. */
static unsigned int mtu_on(const struct link_info *bridge, const struct link_info *tap)
{
	if (!tap->mtu_max || bridge->mtu <= tap->mtu_max)
		return bridge->mtu;
	log_warn("tap %s: its MTU is %u, the most there can be, and what is longer does not reach "
		 "the guest: bridge %s has %u (ip link set %s mtu %u)", tap->name, tap->mtu_max,
		 bridge->name, bridge->mtu, bridge->name, tap->mtu_max);
	return tap->mtu_max;
}

/* A new TAP takes the bridge's MTU, and an address that never becomes the bridge's: a bridge
 * takes the lowest of its ports', and would change it as guests come and go. */
static int bring_up_created(struct tap *tap, const struct link_info *bridge)
{
	struct link_change change = { .fields = LINK_SET_UP | LINK_SET_ADDR, .up = true };
	struct link_info link;
	int r = link_get(tap->nl, tap->net.ifname, &link);

	if (r) {
		log_error("tap %s: %s", tap->net.ifname, strerror(-r));
		return r;
	}
	if (link.tun_multi_queue && link.tun_queues != tap->net.queue_count)
		return busy(link.name); /* somebody got in before it was ours alone */
	tap->index = link.index;
	memcpy(change.addr, link.addr, sizeof(change.addr));
	change.addr[0] = 0xfe;
	tap->net.mtu = link.mtu;
	if (bridge) {
		change.fields |= LINK_SET_MASTER | LINK_SET_MTU;
		change.master = bridge->index;
		tap->net.mtu = change.mtu = mtu_on(bridge, &link);
		/* Nobody reaches a port's own; the guest would hear it asked for. Where there is
		 * no IPv6 there is nothing to turn off. */
		link_set_no_ipv6_address(tap->nl, tap->index);
	}
	return apply(tap, &change, bridge ? bridge->name : NULL);
}

static int bring_up_adopted(struct tap *tap, const struct link_info *link,
			    const struct link_info *bridge)
{
	struct link_change change = { .up = true };
	int r;

	tap->index = link->index;
	tap->net.mtu = link->mtu;
	edge_clean(tap->nl, link);
	if (!link->up)
		change.fields |= LINK_SET_UP;
	if (bridge && link->master != bridge->index) {
		change.fields |= LINK_SET_MASTER;
		change.master = bridge->index;
	}
	tap->restore = (struct link_change){
		.fields = change.fields, .master = link->master, .up = link->up,
	};
	r = apply(tap, &change, bridge ? bridge->name : NULL);
	if (r == -EPERM)
		tap->restore.fields = 0; /* nothing was changed, and nothing could be put back */
	return r;
}

static int open_link(struct tap *tap, const struct net_options *opts)
{
	struct link_info link, bridge;
	bool exists = false;
	int r = link_connect(&tap->nl);

	if (!r)
		r = link_watch_open(&tap->watch); /* first of all: it hears what is done below */
	if (!r)
		tap->net.link_fd = link_watch_fd(tap->watch);
	if (!r && opts->tap) {
		r = link_get(tap->nl, opts->tap, &link);
		exists = !r;
		r = r == -ENODEV ? 0 : r;
	}
	if (r) {
		log_error("net: cannot ask the kernel for its interfaces: %s", strerror(-r));
		return r;
	}
	if (!exists && !link_may_admin())
		return no_right_to_create(opts);
	if (opts->bridge)
		r = find_bridge(tap->nl, opts->bridge, &bridge);
	if (!r && exists)
		r = check_adoptable(&link);
	if (!r)
		r = attach(tap, opts, exists ? &link : NULL);
	if (!r)
		r = tap_setup(tap, opts->vhost);
	if (r)
		return r;
	if (exists)
		return bring_up_adopted(tap, &link, opts->bridge ? &bridge : NULL);
	return bring_up_created(tap, opts->bridge ? &bridge : NULL);
}

int tap_open_link(const struct net_options *opts, struct net **out)
{
	struct tap *tap;
	int r = check_names(opts);

	if (!r)
		r = tap_create(&tap);
	if (r)
		return r;
	r = open_link(tap, opts);
	if (r)
		tap_destroy(tap);
	else
		*out = &tap->net;
	return r;
}

/* TUNGETIFF says "no filter attached" with the same bit as IFF_NO_PI: attach one to ask again. */
static int get_flags(int fd, struct ifreq *req)
{
	struct sock_filter accept = BPF_STMT(BPF_RET | BPF_K, UINT32_MAX);
	struct sock_fprog program = { .len = 1, .filter = &accept };
	int r;

	if (ioctl(fd, TUNGETIFF, req) < 0)
		return -errno;
	if (!(req->ifr_flags & IFF_NOFILTER) || ioctl(fd, TUNATTACHFILTER, &program) < 0)
		return 0;
	r = ioctl(fd, TUNGETIFF, req) < 0 ? -errno : 0;
	ioctl(fd, TUNDETACHFILTER);
	return r;
}

static int no_good_fd(int fd, const char *ifname, const char *lacks)
{
	log_error("net: fd=%d: %s lacks %s (open it with IFF_TAP | IFF_NO_PI | IFF_VNET_HDR%s)", fd,
		  ifname, lacks, strcmp(lacks, "IFF_MULTI_QUEUE") ? "" : " | IFF_MULTI_QUEUE");
	return -EINVAL;
}

/* The file of queue `index`, of `count` in all. */
static int check_fd(int fd, struct net *net, unsigned int index, unsigned int count)
{
	struct ifreq req = { 0 };

	if (get_flags(fd, &req) < 0) {
		log_error("net: fd=%d: not an open TAP (open /dev/net/tun, TUNSETIFF with IFF_TAP | "
			  "IFF_NO_PI | IFF_VNET_HDR, and pass that)", fd);
		return -EINVAL;
	}
	req.ifr_name[IFNAMSIZ - 1] = 0;
	if (!(req.ifr_flags & IFF_TAP))
		return no_good_fd(fd, req.ifr_name, "IFF_TAP");
	if (!(req.ifr_flags & IFF_NO_PI))
		return no_good_fd(fd, req.ifr_name, "IFF_NO_PI");
	if (!(req.ifr_flags & IFF_VNET_HDR))
		return no_good_fd(fd, req.ifr_name, "IFF_VNET_HDR");
	if (count > 1 && !(req.ifr_flags & IFF_MULTI_QUEUE))
		return no_good_fd(fd, req.ifr_name, "IFF_MULTI_QUEUE");
	if (index == 0)
		memcpy(net->ifname, req.ifr_name, IFNAMSIZ);
	if (strcmp(net->ifname, req.ifr_name)) {
		log_error("net: fd=%d: is %s, not %s as the first (all files of one fd= are queues "
			  "of one TAP)", fd, req.ifr_name, net->ifname);
		return -EINVAL;
	}
	return 0;
}

static int check_fds(const struct net_options *opts, struct net *net)
{
	int r = 0;

	if (opts->queues && opts->queues != opts->fd_count) {
		log_error("net: fd=: %u file%s given, not the %u of queues= (one for each, as "
			  "fd=3:4; or leave queues= out)", opts->fd_count,
			  opts->fd_count == 1 ? "" : "s", opts->queues);
		return -EINVAL;
	}
	for (unsigned int i = 0; !r && i < opts->fd_count; i++)
		r = check_fd(opts->fds[i], net, i, opts->fd_count);
	return r;
}

/* Its link is its maker's, and perhaps in another network namespace: nothing to look up. */
int tap_open_fds(const struct net_options *opts, struct net **out)
{
	struct tap *tap;
	int r = tap_create(&tap);

	if (r)
		return r;
	r = check_fds(opts, &tap->net);
	if (!r) {
		tap->net.queue_count = opts->fd_count;
		memcpy(tap->net.fds, opts->fds, opts->fd_count * sizeof(opts->fds[0]));
		r = tap_setup(tap, opts->vhost);
	}
	if (r) {
		tap->keep_files = true;
		tap_destroy(tap);
		return r;
	}
	*out = &tap->net;
	return 0;
}
