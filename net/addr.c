/* SPDX-License-Identifier: MIT */
#include "net/addr.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>

#include "net/link_impl.h"
#include "util/util.h"

struct each {
	void (*found)(int index, const struct cidr *cidr, void *arg);
	void *arg;
};

static int each_addr(const struct nlmsghdr *msg, void *arg)
{
	const struct ifaddrmsg *info = mnl_nlmsg_get_payload(msg);
	const struct each *each = arg;
	const struct nlattr *attr;
	struct cidr cidr;
	bool has_addr = false;

	if (msg->nlmsg_type != RTM_NEWADDR || info->ifa_family != AF_INET ||
	    info->ifa_prefixlen > 32)
		return MNL_CB_OK;
	mnl_attr_for_each(attr, msg, sizeof(*info)) {
		/* IFA_ADDRESS is the other end's where there is one. */
		if (mnl_attr_get_type(attr) != IFA_LOCAL ||
		    mnl_attr_validate(attr, MNL_TYPE_U32) < 0)
			continue;
		cidr.addr = ntohl(mnl_attr_get_u32(attr));
		has_addr = true;
	}
	cidr.prefix = info->ifa_prefixlen;
	if (has_addr)
		each->found((int)info->ifa_index, &cidr, each->arg);
	return MNL_CB_OK;
}

static struct nlmsghdr *start(char *buf, uint16_t type, uint16_t flags)
{
	struct nlmsghdr *msg = mnl_nlmsg_put_header(buf);

	msg->nlmsg_type = type;
	msg->nlmsg_flags = NLM_F_REQUEST | flags;
	msg->nlmsg_seq = 1;
	return msg;
}

int addr_each(void (*found)(int index, const struct cidr *cidr, void *arg), void *arg)
{
	struct each each = {found, arg};
	char buf[256];
	struct nlmsghdr *msg = start(buf, RTM_GETADDR, NLM_F_DUMP);
	struct ifaddrmsg *info = mnl_nlmsg_put_extra_header(msg, sizeof(*info));

	info->ifa_family = AF_INET;
	return link_dump(NETLINK_ROUTE, msg, each_addr, &each);
}

static int change(struct mnl_socket *nl, struct nlmsghdr *msg, int index, const struct cidr *cidr)
{
	struct ifaddrmsg *info = mnl_nlmsg_put_extra_header(msg, sizeof(*info));

	info->ifa_family = AF_INET;
	info->ifa_prefixlen = (uint8_t)cidr->prefix;
	info->ifa_index = (unsigned int)index;
	mnl_attr_put_u32(msg, IFA_LOCAL, htonl(cidr->addr));
	mnl_attr_put_u32(msg, IFA_ADDRESS, htonl(cidr->addr));
	if (msg->nlmsg_type == RTM_NEWADDR)
		mnl_attr_put_u32(msg, IFA_BROADCAST, htonl(cidr_last(cidr)));
	return link_talk(nl, msg, NULL, NULL);
}

int addr_add(struct mnl_socket *nl, int index, const struct cidr *cidr)
{
	char buf[256];

	return change(nl, start(buf, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK), index,
		      cidr);
}

int addr_delete(struct mnl_socket *nl, int index, const struct cidr *cidr)
{
	char buf[256];

	return change(nl, start(buf, RTM_DELADDR, NLM_F_ACK), index, cidr);
}

static int parse_route(const struct nlmsghdr *msg, void *arg)
{
	const struct nlattr *attr;
	int *index = arg;

	if (msg->nlmsg_type != RTM_NEWROUTE)
		return MNL_CB_OK;
	mnl_attr_for_each(attr, msg, sizeof(struct rtmsg)) {
		if (mnl_attr_get_type(attr) == RTA_OIF &&
		    mnl_attr_validate(attr, MNL_TYPE_U32) >= 0)
			*index = (int)mnl_attr_get_u32(attr);
	}
	return MNL_CB_OK;
}

int route_get(struct mnl_socket *nl, uint32_t addr, int *index)
{
	char buf[256];
	struct nlmsghdr *msg = start(buf, RTM_GETROUTE, NLM_F_ACK);
	struct rtmsg *info = mnl_nlmsg_put_extra_header(msg, sizeof(*info));
	int r;

	info->rtm_family = AF_INET;
	info->rtm_dst_len = 32;
	mnl_attr_put_u32(msg, RTA_DST, htonl(addr));
	*index = 0;
	r = link_talk(nl, msg, parse_route, index);
	return r ? r : *index ? 0 : -ENETUNREACH;
}
