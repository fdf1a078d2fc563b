/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * A monitor interface that is not there is made: a TAP that nobody reads, with a filter which drops
 * every frame once those who listen on it (AF_PACKET) have seen it. So it is as good as a dummy
 * interface, and dies with its last file: kill -9 leaves none.
 *
 * It has as many queues as NICs that use it, in whichever processes; each holds the file of one.
 * So whoever is the last takes it away, and the kernel does the counting. It is made under a name
 * of its own, set up, and renamed: under the name asked for there is never half of one. Whose it is
 * its alias says. Only its owner or root may open more queues of it: a queue could take the filter
 * off, and read.
 */
#include "net/monitor.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "net/link.h"
#include "net/tap.h"
#include "util/log.h"

#define TEMPORARY_NAME "mvmon%d"
#define ALIAS "minivmm monitor"
#define TRIES 10

static int attach(int fd, const char *name, int extra_flags, char ifname[IFNAMSIZ])
{
	struct ifreq req = {
		.ifr_flags = (short)(IFF_TAP | IFF_NO_PI | IFF_MULTI_QUEUE | extra_flags),
	};

	snprintf(req.ifr_name, IFNAMSIZ, "%s", name);
	if (ioctl(fd, TUNSETIFF, &req) < 0)
		return -errno;
	memcpy(ifname, req.ifr_name, IFNAMSIZ);
	ifname[IFNAMSIZ - 1] = '\0';
	return 0;
}

/* Frames come as they are: checksums and segments to be made are not made for the copy. */
static int set_up_file(int fd)
{
	struct sock_filter drop_all = BPF_STMT(BPF_RET | BPF_K, 0);
	struct sock_fprog program = { .len = 1, .filter = &drop_all };
	unsigned long offloads = NET_OFFLOAD_CSUM | NET_OFFLOAD_TSO4 | NET_OFFLOAD_TSO6 |
				 NET_OFFLOAD_ECN;

	if (ioctl(fd, TUNSETOWNER, (unsigned long)geteuid()) < 0 ||
	    ioctl(fd, TUNATTACHFILTER, &program) < 0)
		return -errno;
	if (ioctl(fd, TUNSETOFFLOAD, offloads | NET_OFFLOAD_USO) < 0 &&
	    ioctl(fd, TUNSETOFFLOAD, offloads) < 0)
		return -errno;
	return 0;
}

static int set_up_link(struct mnl_socket *nl, int index, const char *name)
{
	const struct link_change named = {
		.fields = LINK_SET_NAME | LINK_SET_ALIAS, .name = name, .alias = ALIAS,
	};
	const struct link_change up = { .fields = LINK_SET_UP, .up = true };
	int r;

	/* Where there is no IPv6 there is nothing to turn off. */
	link_set_no_ipv6_address(nl, index);
	r = link_set(nl, index, &named);
	return r ? r : link_set(nl, index, &up);
}

/* -EEXIST: somebody was faster. */
static int make(struct mnl_socket *nl, const char *name, struct monitor *out)
{
	char ifname[IFNAMSIZ];
	struct link_info link;
	int r = attach(out->fd, TEMPORARY_NAME, IFF_TUN_EXCL, ifname);

	if (!r)
		r = set_up_file(out->fd);
	if (!r)
		r = link_get(nl, ifname, &link);
	if (!r && link.tun_queues != 1)
		r = -EBUSY; /* somebody got in before it was ours alone */
	if (!r)
		r = set_up_link(nl, link.index, name);
	if (!r)
		out->index = link.index;
	return r;
}

/* -ENODEV: it is gone, and what the kernel made in its place goes with the file. */
static int join(struct mnl_socket *nl, const char *name, struct monitor *out)
{
	char ifname[IFNAMSIZ];
	struct link_info link;
	int r = attach(out->fd, name, 0, ifname);

	if (!r)
		r = link_get(nl, ifname, &link);
	if (!r && strcmp(link.alias, ALIAS))
		r = -ENODEV;
	if (!r)
		out->index = link.index;
	return r;
}

static bool is_ours(const struct link_info *link)
{
	return !strcmp(link->kind, "tun") && link->tun_type == IFF_TAP && link->tun_multi_queue &&
	       !link->tun_persist && !strcmp(link->alias, ALIAS);
}

static int adopt(const struct link_info *link, struct monitor *out)
{
	if (!link->ethernet) {
		log_error("monitor %s: not an Ethernet interface, so nothing can be copied to it "
			  "(name another, or one that is not there yet)", link->name);
		return -EINVAL;
	}
	if (!link->up)
		log_warn("monitor %s: it is down, so nothing is seen there (ip link set %s up)",
			 link->name, link->name);
	*out = (struct monitor){ .index = link->index, .fd = -1 };
	return 0;
}

/* -EAGAIN: things changed meanwhile. */
static int try_open(struct mnl_socket *nl, const char *name, struct monitor *out)
{
	struct link_info link;
	int r = link_get(nl, name, &link);

	if (r && r != -ENODEV) {
		log_error("monitor %s: %s", name, strerror(-r));
		return r;
	}
	if (!r && !is_ours(&link))
		return adopt(&link, out);
	out->fd = tap_open_file();
	if (out->fd < 0)
		return out->fd; /* it logs */
	r = r ? make(nl, name, out) : join(nl, name, out);
	if (!r)
		return 0;
	monitor_close(out);
	if (r == -EEXIST || r == -ENODEV || r == -EBUSY)
		return -EAGAIN;
	if (r == -EPERM)
		log_error("monitor %s: no right to make it: CAP_NET_ADMIN is missing (run as root)",
			  name);
	else
		log_error("monitor %s: cannot make it: %s", name, strerror(-r));
	return r;
}

int monitor_open(struct mnl_socket *nl, const char *name, struct monitor *out)
{
	int r = -EAGAIN;

	*out = (struct monitor){ .fd = -1 };
	if (!link_name_valid(name)) {
		log_error("net: monitor=%s: not an interface name (1 to %d characters, no space, / "
			  ": %%)", name, IFNAMSIZ - 1);
		return -EINVAL;
	}
	for (int i = 0; r == -EAGAIN && i < TRIES; i++)
		r = try_open(nl, name, out);
	if (r == -EAGAIN)
		log_error("monitor %s: it comes and goes, or another process holds its queues "
			  "(stop that, or name another)", name);
	return r;
}

void monitor_close(struct monitor *monitor)
{
	if (monitor->fd >= 0)
		close(monitor->fd);
	monitor->fd = -1;
}
