/* SPDX-License-Identifier: MIT */
#include "net/neigh.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "util/util.h"

/* The kernel fills what it is offered, up to 32 KiB. */
#define BUF_BYTES 32768

struct list {
	struct neigh *items;
	unsigned int count, room;
};

static int append(struct list *list, const struct neigh *item)
{
	if (list->count == NEIGH_MAX)
		return 0;
	if (list->count == list->room) {
		unsigned int room = list->room ? list->room * 2 : 64;
		struct neigh *items = realloc(list->items, room * sizeof(*items));

		if (!items)
			return -ENOMEM;
		list->items = items;
		list->room = room;
	}
	list->items[list->count++] = *item;
	return 0;
}

/* Permanent ones in a bridge's table are its ports' own. */
static bool is_known(const struct ndmsg *nd)
{
	if (nd->ndm_family == AF_BRIDGE)
		return !(nd->ndm_state & NUD_PERMANENT);
	return nd->ndm_state & (NUD_REACHABLE | NUD_STALE | NUD_DELAY | NUD_PROBE | NUD_PERMANENT);
}

static int parse(const struct nlmsghdr *msg, void *arg)
{
	const struct ndmsg *nd = mnl_nlmsg_get_payload(msg);
	struct neigh item = { .index = nd->ndm_ifindex, .family = nd->ndm_family };
	bool has_mac = false, has_addr = nd->ndm_family == AF_BRIDGE;
	size_t addr_bytes = nd->ndm_family == AF_INET ? 4 : 16;
	const struct nlattr *attr;
	int r;

	if (msg->nlmsg_type != RTM_NEWNEIGH || !is_known(nd))
		return MNL_CB_OK;
	mnl_attr_for_each(attr, msg, sizeof(*nd)) {
		size_t len = mnl_attr_get_payload_len(attr);

		if (mnl_attr_get_type(attr) == NDA_LLADDR && len == sizeof(item.mac)) {
			memcpy(item.mac, mnl_attr_get_payload(attr), len);
			has_mac = true;
		} else if (mnl_attr_get_type(attr) == NDA_DST && len == addr_bytes &&
			   nd->ndm_family != AF_BRIDGE) {
			memcpy(item.addr, mnl_attr_get_payload(attr), len);
			has_addr = true;
		}
	}
	if (!has_mac || !has_addr || item.mac[0] & 1)
		return MNL_CB_OK;
	r = append(arg, &item);
	if (!r)
		return MNL_CB_OK;
	errno = -r;
	return MNL_CB_ERROR;
}

/* Tables change while they are read; ours then lacks what came, and that is all. */
static void accept_changes(char *buf, ssize_t len)
{
	int left = (int)len;

	for (struct nlmsghdr *msg = (struct nlmsghdr *)buf; mnl_nlmsg_ok(msg, left);
	     msg = mnl_nlmsg_next(msg, &left))
		msg->nlmsg_flags &= (uint16_t)~NLM_F_DUMP_INTR;
}

static int receive(struct mnl_socket *nl, unsigned int seq, struct list *list)
{
	char buf[BUF_BYTES];
	ssize_t len;
	int r;

	do {
		len = mnl_socket_recvfrom(nl, buf, sizeof(buf));
		if (len < 0)
			return -errno;
		accept_changes(buf, len);
		r = mnl_cb_run(buf, (size_t)len, seq, mnl_socket_get_portid(nl), parse, list);
	} while (r > MNL_CB_STOP);
	return r < 0 ? -errno : 0;
}

static int dump(struct mnl_socket *nl, int family, struct list *list)
{
	char buf[64];
	struct nlmsghdr *msg = mnl_nlmsg_put_header(buf);
	struct ndmsg *nd;

	msg->nlmsg_type = RTM_GETNEIGH;
	msg->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	msg->nlmsg_seq = 2; /* link.c asks with 1 */
	nd = mnl_nlmsg_put_extra_header(msg, sizeof(*nd));
	nd->ndm_family = (uint8_t)family;
	if (mnl_socket_sendto(nl, msg, msg->nlmsg_len) < 0)
		return -errno;
	return receive(nl, msg->nlmsg_seq, list);
}

int neigh_list(struct mnl_socket *nl, int family, struct neigh **out, unsigned int *count)
{
	struct list list = { 0 };
	int r = dump(nl, family, &list);

	if (r) {
		free(list.items);
		return r;
	}
	*out = list.items;
	*count = list.count;
	return 0;
}
