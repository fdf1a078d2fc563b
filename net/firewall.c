/* SPDX-License-Identifier: MIT */
#include "net/firewall.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "net/link_impl.h"
#include "util/util.h"

/* Of dropping chains, and of the rules of a table, more are not looked at. */
#define CHAINS_MAX 8
#define RULES_MAX 2000

static struct nlmsghdr *start(char *buf, uint16_t type, uint8_t family)
{
	struct nlmsghdr *msg = mnl_nlmsg_put_header(buf);
	struct nfgenmsg *info;

	msg->nlmsg_type = (uint16_t)(NFNL_SUBSYS_NFTABLES << 8 | type);
	msg->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	msg->nlmsg_seq = 1;
	info = mnl_nlmsg_put_extra_header(msg, sizeof(*info));
	info->nfgen_family = family;
	info->version = NFNETLINK_V0;
	return msg;
}

/* --- chains --- */

struct search {
	unsigned int hook;
	unsigned int count;
	struct firewall_chain chains[CHAINS_MAX];
	uint8_t families[CHAINS_MAX];
};

static bool get_be32(const struct nlattr *attr, uint32_t *out)
{
	if (mnl_attr_validate(attr, MNL_TYPE_U32) < 0)
		return false;
	*out = ntohl(mnl_attr_get_u32(attr));
	return true;
}

static bool get_name(const struct nlattr *attr, char out[FIREWALL_NAME_BYTES])
{
	if (mnl_attr_validate(attr, MNL_TYPE_NUL_STRING) < 0)
		return false;
	snprintf(out, FIREWALL_NAME_BYTES, "%s", mnl_attr_get_str(attr));
	return true;
}

static bool is_at_hook(const struct nlattr *nest, unsigned int hook)
{
	const struct nlattr *attr;
	uint32_t number;

	mnl_attr_for_each_nested(attr, nest) {
		if (mnl_attr_get_type(attr) == NFTA_HOOK_HOOKNUM && get_be32(attr, &number))
			return number == hook;
	}
	return false;
}

static int add_chain(const struct nlmsghdr *msg, void *arg)
{
	const struct nfgenmsg *info = mnl_nlmsg_get_payload(msg);
	struct search *search = arg;
	struct firewall_chain *chain = &search->chains[search->count];
	uint32_t policy = NF_ACCEPT;
	bool at_hook = false, named = false, placed = false;
	const struct nlattr *attr;

	if (search->count == CHAINS_MAX ||
	    (info->nfgen_family != NFPROTO_IPV4 && info->nfgen_family != NFPROTO_INET))
		return MNL_CB_OK;
	mnl_attr_for_each(attr, msg, sizeof(*info)) {
		switch (mnl_attr_get_type(attr)) {
		case NFTA_CHAIN_TABLE:
			placed = get_name(attr, chain->table);
			break;
		case NFTA_CHAIN_NAME:
			named = get_name(attr, chain->name);
			break;
		case NFTA_CHAIN_HOOK:
			at_hook = is_at_hook(attr, search->hook);
			break;
		case NFTA_CHAIN_POLICY:
			get_be32(attr, &policy);
			break;
		}
	}
	if (!at_hook || !named || !placed || policy != NF_DROP)
		return MNL_CB_OK;
	chain->family = info->nfgen_family == NFPROTO_INET ? "inet" : "ip";
	search->families[search->count++] = info->nfgen_family;
	return MNL_CB_OK;
}

/* --- rules --- */

struct mention {
	char needle[24]; /* the name between NULs, as the data of a comparison is */
	size_t len;
	unsigned int rules;
	bool found;
};

/* No rule is taken apart: that a comparison with the name is in it will do. */
static int look_for_mention(const struct nlmsghdr *msg, void *arg)
{
	static const char physdev[] = "physdev"; /* iptables -m physdev: "if it is bridged" */
	struct mention *mention = arg;
	const void *rule = mnl_nlmsg_get_payload(msg);
	size_t len = mnl_nlmsg_get_payload_len(msg);

	if (memmem(rule, len, mention->needle, mention->len) ||
	    memmem(rule, len, physdev, sizeof(physdev)))
		mention->found = true;
	return mention->found || ++mention->rules == RULES_MAX ? MNL_CB_STOP : MNL_CB_OK;
}

static int is_mentioned(const char *table, uint8_t family, const char *ifname, bool *out)
{
	char buf[512];
	struct nlmsghdr *msg = start(buf, NFT_MSG_GETRULE, family);
	struct mention mention = {.len = strlen(ifname) + 2};
	int r;

	snprintf(mention.needle + 1, sizeof(mention.needle) - 1, "%s", ifname);
	mnl_attr_put_strz(msg, NFTA_RULE_TABLE, table);
	r = link_dump(NETLINK_NETFILTER, msg, look_for_mention, &mention);
	*out = mention.found;
	return r;
}

int firewall_find_drop(unsigned int hook, const char *ifname, struct firewall_chain *out)
{
	struct search search = {.hook = hook};
	char buf[256];
	bool mentioned;
	int r = link_dump(NETLINK_NETFILTER, start(buf, NFT_MSG_GETCHAIN, NFPROTO_UNSPEC),
			  add_chain, &search);

	for (unsigned int i = 0; !r && i < search.count; i++) {
		r = is_mentioned(search.chains[i].table, search.families[i], ifname, &mentioned);
		if (r || mentioned)
			continue;
		*out = search.chains[i];
		return 1;
	}
	return r;
}
