/* SPDX-License-Identifier: MIT */
#include "net/link.h"

#include <ctype.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/capability.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "net/link_impl.h"
#include "util/util.h"

/* An answer with statistics and a bridge's settings stays under 4 KiB; the kernel may send 8. */
#define LINK_BUF_BYTES 8192
/* IFF_LOWER_UP, which <linux/if.h> has, and that does not go with <net/if.h>. */
#define LINK_LOWER_UP 0x10000
/* br_private.h: BR_KERNEL_STP. The other way to have it on is a daemon, which knows better. */
#define STP_BY_KERNEL 1
/* A list that changes each time it is asked for is given up. */
#define DUMP_TRIES 10

bool link_name_valid(const char *name)
{
	size_t len = strlen(name);

	if (!len || len >= IFNAMSIZ || !strcmp(name, ".") || !strcmp(name, ".."))
		return false;
	for (; *name; name++)
		if (*name == '/' || *name == ':' || *name == '%' || isspace((unsigned char)*name) ||
		    !isprint((unsigned char)*name))
			return false;
	return true;
}

bool link_may_admin(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];

	if (syscall(SYS_capget, &header, data) < 0)
		return true; /* then the kernel says no where it has to */
	return data[CAP_TO_INDEX(CAP_NET_ADMIN)].effective & CAP_TO_MASK(CAP_NET_ADMIN);
}

static int connect_to(int bus, struct mnl_socket **out)
{
	struct mnl_socket *nl = mnl_socket_open2(bus, SOCK_CLOEXEC);
	int r;

	if (!nl)
		return -errno;
	if (mnl_socket_bind(nl, 0, MNL_SOCKET_AUTOPID) < 0) {
		r = -errno;
		mnl_socket_close(nl);
		return r;
	}
	*out = nl;
	return 0;
}

int link_connect(struct mnl_socket **out)
{
	return connect_to(NETLINK_ROUTE, out);
}

void link_disconnect(struct mnl_socket *nl)
{
	if (nl)
		mnl_socket_close(nl);
}

int link_talk(struct mnl_socket *nl, struct nlmsghdr *msg, mnl_cb_t cb, void *arg)
{
	char buf[LINK_BUF_BYTES];
	ssize_t len;
	int r;

	if (mnl_socket_sendto(nl, msg, msg->nlmsg_len) < 0)
		return -errno;
	do {
		len = mnl_socket_recvfrom(nl, buf, sizeof(buf));
		if (len < 0 && errno == EINTR)
			continue;
		if (len < 0)
			return -errno;
		/* An error answer, also one of 0 (the ACK), ends in MNL_CB_STOP or errno. */
		r = mnl_cb_run(buf, (size_t)len, msg->nlmsg_seq, mnl_socket_get_portid(nl), cb,
			       arg);
		if (r < 0)
			return -errno;
	} while (len < 0 || r > MNL_CB_STOP);
	return 0;
}

int link_dump(int bus, struct nlmsghdr *msg, mnl_cb_t cb, void *arg)
{
	struct mnl_socket *nl = NULL;
	int r = -EINTR;

	for (unsigned int i = 0; r == -EINTR && i < DUMP_TRIES; i++) {
		r = connect_to(bus, &nl);
		if (r)
			return r;
		r = link_talk(nl, msg, cb, arg);
		link_disconnect(nl);
	}
	return r;
}

static struct ifinfomsg *start(char *buf, uint16_t type, uint16_t flags, int index,
			       struct nlmsghdr **msg)
{
	struct ifinfomsg *info;

	*msg = mnl_nlmsg_put_header(buf);
	(*msg)->nlmsg_type = type;
	(*msg)->nlmsg_flags = NLM_F_REQUEST | flags;
	(*msg)->nlmsg_seq = 1;
	info = mnl_nlmsg_put_extra_header(*msg, sizeof(*info));
	info->ifi_family = AF_UNSPEC;
	info->ifi_index = index;
	return info;
}

static void parse_tun(const struct nlattr *data, struct link_info *link)
{
	const struct nlattr *attr;

	mnl_attr_for_each_nested(attr, data) {
		switch (mnl_attr_get_type(attr)) {
		case IFLA_TUN_TYPE:
			if (!mnl_attr_validate(attr, MNL_TYPE_U8))
				link->tun_type = mnl_attr_get_u8(attr);
			break;
		case IFLA_TUN_MULTI_QUEUE:
			if (!mnl_attr_validate(attr, MNL_TYPE_U8))
				link->tun_multi_queue = mnl_attr_get_u8(attr);
			break;
		case IFLA_TUN_PERSIST:
			if (!mnl_attr_validate(attr, MNL_TYPE_U8))
				link->tun_persist = mnl_attr_get_u8(attr);
			break;
		case IFLA_TUN_NUM_QUEUES:
		case IFLA_TUN_NUM_DISABLED_QUEUES:
			if (!mnl_attr_validate(attr, MNL_TYPE_U32))
				link->tun_queues += mnl_attr_get_u32(attr);
			break;
		}
	}
}

static void parse_bridge_port(const struct nlattr *data, struct link_info *link)
{
	const struct nlattr *attr;

	mnl_attr_for_each_nested(attr, data)
		if (mnl_attr_get_type(attr) == IFLA_BRPORT_ISOLATED &&
		    !mnl_attr_validate(attr, MNL_TYPE_U8))
			link->isolated = mnl_attr_get_u8(attr);
}

static void parse_bridge(const struct nlattr *data, struct link_info *link)
{
	const struct nlattr *attr;

	mnl_attr_for_each_nested(attr, data) {
		switch (mnl_attr_get_type(attr)) {
		case IFLA_BR_STP_STATE:
			if (!mnl_attr_validate(attr, MNL_TYPE_U32))
				link->stp = mnl_attr_get_u32(attr) == STP_BY_KERNEL;
			break;
		case IFLA_BR_FORWARD_DELAY:
			if (!mnl_attr_validate(attr, MNL_TYPE_U32))
				link->forward_delay_ms = mnl_attr_get_u32(attr) * 10;
			break;
		case IFLA_BR_NF_CALL_IPTABLES:
			if (!mnl_attr_validate(attr, MNL_TYPE_U8))
				link->nf_call_iptables = mnl_attr_get_u8(attr);
			break;
		}
	}
}

static void parse_linkinfo(const struct nlattr *info, struct link_info *link)
{
	const struct nlattr *attr, *data = NULL, *port = NULL;
	bool on_bridge = false;

	mnl_attr_for_each_nested(attr, info) {
		if (mnl_attr_get_type(attr) == IFLA_INFO_KIND &&
		    !mnl_attr_validate(attr, MNL_TYPE_NUL_STRING))
			snprintf(link->kind, sizeof(link->kind), "%s", mnl_attr_get_str(attr));
		else if (mnl_attr_get_type(attr) == IFLA_INFO_DATA)
			data = attr;
		else if (mnl_attr_get_type(attr) == IFLA_INFO_SLAVE_KIND &&
			 !mnl_attr_validate(attr, MNL_TYPE_NUL_STRING))
			on_bridge = !strcmp(mnl_attr_get_str(attr), "bridge");
		else if (mnl_attr_get_type(attr) == IFLA_INFO_SLAVE_DATA)
			port = attr;
	}
	if (data && !strcmp(link->kind, "tun"))
		parse_tun(data, link);
	if (data && !strcmp(link->kind, "bridge"))
		parse_bridge(data, link);
	if (port && on_bridge)
		parse_bridge_port(port, link);
}

static void parse_stats(const struct nlattr *attr, struct link_info *link)
{
	struct rtnl_link_stats64 stats = { 0 };

	memcpy(&stats, mnl_attr_get_payload(attr),
	       MIN(mnl_attr_get_payload_len(attr), sizeof(stats)));
	link->rx = (struct link_traffic){ stats.rx_packets, stats.rx_bytes, stats.rx_dropped };
	link->tx = (struct link_traffic){ stats.tx_packets, stats.tx_bytes, stats.tx_dropped };
}

static int parse_link(const struct nlmsghdr *msg, void *arg)
{
	const struct ifinfomsg *info = mnl_nlmsg_get_payload(msg);
	struct link_info *link = arg;
	const struct nlattr *attr;

	if (msg->nlmsg_type != RTM_NEWLINK)
		return MNL_CB_OK;
	link->index = info->ifi_index;
	link->up = info->ifi_flags & IFF_UP;
	link->carrier = info->ifi_flags & LINK_LOWER_UP;
	link->ethernet = info->ifi_type == ARPHRD_ETHER;
	mnl_attr_for_each(attr, msg, sizeof(*info)) {
		switch (mnl_attr_get_type(attr)) {
		case IFLA_IFNAME:
			snprintf(link->name, sizeof(link->name), "%s", mnl_attr_get_str(attr));
			break;
		case IFLA_MASTER:
			link->master = (int)mnl_attr_get_u32(attr);
			break;
		case IFLA_MTU:
			link->mtu = mnl_attr_get_u32(attr);
			break;
		case IFLA_MAX_MTU:
			link->mtu_max = mnl_attr_get_u32(attr);
			break;
		case IFLA_ADDRESS:
			if (mnl_attr_get_payload_len(attr) == sizeof(link->addr))
				memcpy(link->addr, mnl_attr_get_payload(attr), sizeof(link->addr));
			break;
		case IFLA_IFALIAS:
			snprintf(link->alias, sizeof(link->alias), "%s", mnl_attr_get_str(attr));
			break;
		case IFLA_STATS64:
			parse_stats(attr, link);
			break;
		case IFLA_LINKINFO:
			parse_linkinfo(attr, link);
			break;
		}
	}
	return MNL_CB_OK;
}

static int get(struct mnl_socket *nl, int index, const char *name, struct link_info *out)
{
	char buf[256];
	struct nlmsghdr *msg;
	int r;

	memset(out, 0, sizeof(*out));
	/* With an ACK, so that there is one way to know the end of an answer. */
	start(buf, RTM_GETLINK, NLM_F_ACK, index, &msg);
	if (name)
		mnl_attr_put_strz(msg, IFLA_IFNAME, name);
	r = link_talk(nl, msg, parse_link, out);
	return r ? r : out->index ? 0 : -ENODEV;
}

int link_get(struct mnl_socket *nl, const char *name, struct link_info *out)
{
	return link_name_valid(name) ? get(nl, 0, name, out) : -EINVAL;
}

int link_get_index(struct mnl_socket *nl, int index, struct link_info *out)
{
	return get(nl, index, NULL, out);
}

struct each {
	void (*found)(const struct link_info *link, void *arg);
	void *arg;
};

static int each_link(const struct nlmsghdr *msg, void *arg)
{
	const struct each *each = arg;
	struct link_info link = { 0 };

	parse_link(msg, &link);
	if (link.index)
		each->found(&link, each->arg);
	return MNL_CB_OK;
}

int link_each(void (*found)(const struct link_info *link, void *arg), void *arg)
{
	struct each each = { found, arg };
	char buf[256];
	struct nlmsghdr *msg;

	start(buf, RTM_GETLINK, NLM_F_DUMP, 0, &msg);
	return link_dump(NETLINK_ROUTE, msg, each_link, &each);
}

int link_add_bridge(struct mnl_socket *nl, const char *name, const uint8_t addr[6])
{
	struct nlattr *info, *data;
	char buf[256];
	struct nlmsghdr *msg;

	start(buf, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK, 0, &msg);
	mnl_attr_put_strz(msg, IFLA_IFNAME, name);
	mnl_attr_put(msg, IFLA_ADDRESS, 6, addr);
	info = mnl_attr_nest_start(msg, IFLA_LINKINFO);
	mnl_attr_put_strz(msg, IFLA_INFO_KIND, "bridge");
	data = mnl_attr_nest_start(msg, IFLA_INFO_DATA);
	mnl_attr_put_u32(msg, IFLA_BR_STP_STATE, 0);
	mnl_attr_put_u32(msg, IFLA_BR_FORWARD_DELAY, 0);
	mnl_attr_nest_end(msg, data);
	mnl_attr_nest_end(msg, info);
	return link_talk(nl, msg, NULL, NULL);
}

int link_set(struct mnl_socket *nl, int index, const struct link_change *change)
{
	char buf[256];
	struct nlmsghdr *msg;
	struct ifinfomsg *info = start(buf, RTM_SETLINK, NLM_F_ACK, index, &msg);

	if (change->fields & LINK_SET_UP) {
		info->ifi_change = IFF_UP;
		info->ifi_flags = change->up ? IFF_UP : 0;
	}
	if (change->fields & LINK_SET_MASTER)
		mnl_attr_put_u32(msg, IFLA_MASTER, (uint32_t)change->master);
	if (change->fields & LINK_SET_MTU)
		mnl_attr_put_u32(msg, IFLA_MTU, change->mtu);
	if (change->fields & LINK_SET_ADDR)
		mnl_attr_put(msg, IFLA_ADDRESS, sizeof(change->addr), change->addr);
	if (change->fields & LINK_SET_NAME)
		mnl_attr_put_strz(msg, IFLA_IFNAME, change->name);
	if (change->fields & LINK_SET_ALIAS)
		mnl_attr_put_str(msg, IFLA_IFALIAS, change->alias);
	return link_talk(nl, msg, NULL, NULL);
}

int link_set_isolated(struct mnl_socket *nl, int index, bool isolated)
{
	char buf[256];
	struct nlmsghdr *msg;
	struct ifinfomsg *info = start(buf, RTM_SETLINK, NLM_F_ACK, index, &msg);
	struct nlattr *port;

	info->ifi_family = AF_BRIDGE;
	port = mnl_attr_nest_start(msg, IFLA_PROTINFO);
	mnl_attr_put_u8(msg, IFLA_BRPORT_ISOLATED, isolated);
	mnl_attr_nest_end(msg, port);
	return link_talk(nl, msg, NULL, NULL);
}

int link_set_no_ipv6_address(struct mnl_socket *nl, int index)
{
	char buf[256];
	struct nlmsghdr *msg;
	struct nlattr *families, *ipv6;

	start(buf, RTM_SETLINK, NLM_F_ACK, index, &msg);
	families = mnl_attr_nest_start(msg, IFLA_AF_SPEC);
	ipv6 = mnl_attr_nest_start(msg, AF_INET6);
	mnl_attr_put_u8(msg, IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE);
	mnl_attr_nest_end(msg, ipv6);
	mnl_attr_nest_end(msg, families);
	return link_talk(nl, msg, NULL, NULL);
}

int link_delete(struct mnl_socket *nl, int index)
{
	char buf[256];
	struct nlmsghdr *msg;

	start(buf, RTM_DELLINK, NLM_F_ACK, index, &msg);
	return link_talk(nl, msg, NULL, NULL);
}
