/* SPDX-License-Identifier: MIT */
/*
 * All filters are of the classic BPF kind (cls_bpf): the guard needs one, and a program that
 * takes every frame serves for the rest, so that one module does it all. After each but a drop
 * the next one has its turn (TC_ACT_UNSPEC), ours or whoever's.
 */
#include "net/tc.h"

#include <errno.h>
#include <linux/gen_stats.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <linux/tc_act/tc_mirred.h>
#include <string.h>

#include "net/link_impl.h"
#include "util/util.h"

/* "mv": filters have this number, and a shaper this one as its major one. */
#define MARK 0x6d760001u
#define SHAPER_HANDLE 0x6d760000u

/* A tick of the packet scheduler: see /proc/net/psched. */
#define TICK_NS 64u
#define NS_PER_S 1000000000u
#define RATE_TABLE_BYTES 1024u

/* The guard's program is the largest thing that is sent. */
#define MSG_BYTES 8192

static const struct sock_filter take_all[] = { BPF_STMT(BPF_RET | BPF_K, UINT32_MAX) };

static struct tcmsg *start(char *buf, uint16_t type, uint16_t flags, int index,
			   struct nlmsghdr **msg)
{
	struct tcmsg *tcm;

	*msg = mnl_nlmsg_put_header(buf);
	(*msg)->nlmsg_type = type;
	(*msg)->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | flags;
	(*msg)->nlmsg_seq = 1;
	tcm = mnl_nlmsg_put_extra_header(*msg, sizeof(*tcm));
	tcm->tcm_family = AF_UNSPEC;
	tcm->tcm_ifindex = index;
	return tcm;
}

/* --- the place for filters --- */

static struct nlmsghdr *start_hook(char *buf, uint16_t type, uint16_t flags, int index)
{
	struct nlmsghdr *msg;
	struct tcmsg *tcm = start(buf, type, flags, index, &msg);

	tcm->tcm_parent = TC_H_CLSACT;
	tcm->tcm_handle = TC_H_MAKE(TC_H_CLSACT, 0);
	mnl_attr_put_strz(msg, TCA_KIND, "clsact");
	return msg;
}

static int hook(struct mnl_socket *nl, uint16_t type, uint16_t flags, int index)
{
	char buf[256];

	return link_talk(nl, start_hook(buf, type, flags, index), NULL, NULL);
}

int tc_hook_add(struct mnl_socket *nl, int index)
{
	int r = hook(nl, RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, index);

	/* Its older sister has the same number, and is told by its kind. */
	return r == -EEXIST && hook(nl, RTM_GETQDISC, 0, index) ? -EINVAL : r;
}

/* --- filters --- */

static uint32_t side_parent(enum tc_side side)
{
	return TC_H_MAKE(TC_H_CLSACT, side == TC_INGRESS ? TC_H_MIN_INGRESS : TC_H_MIN_EGRESS);
}

static void start_filter(char *buf, uint16_t type, uint16_t flags, int index, enum tc_side side,
			 enum tc_place place, struct nlmsghdr **msg)
{
	struct tcmsg *tcm = start(buf, type, flags, index, msg);

	tcm->tcm_parent = side_parent(side);
	tcm->tcm_handle = MARK;
	tcm->tcm_info = TC_H_MAKE((uint32_t)place << 16, __builtin_bswap16(ETH_P_ALL));
	mnl_attr_put_strz(*msg, TCA_KIND, "bpf");
}

/* As `msg`'s TCA_OPTIONS, which the caller ends. */
static struct nlattr *put_program(struct nlmsghdr *msg, const struct sock_filter *program,
				  unsigned int count)
{
	struct nlattr *options = mnl_attr_nest_start(msg, TCA_OPTIONS);

	mnl_attr_put_u16(msg, TCA_BPF_OPS_LEN, (uint16_t)count);
	mnl_attr_put(msg, TCA_BPF_OPS, count * sizeof(*program), program);
	return options;
}

/* What is done with each frame: end with end_action. */
struct action {
	struct nlattr *options, *list, *first, *own;
};

static struct action start_action(struct nlmsghdr *msg, const char *kind)
{
	struct action action;

	action.options = put_program(msg, take_all, ARRAY_LEN(take_all));
	action.list = mnl_attr_nest_start(msg, TCA_BPF_ACT);
	action.first = mnl_attr_nest_start(msg, 1);
	mnl_attr_put_strz(msg, TCA_ACT_KIND, kind);
	action.own = mnl_attr_nest_start(msg, TCA_ACT_OPTIONS);
	return action;
}

static void end_action(struct nlmsghdr *msg, const struct action *action)
{
	mnl_attr_nest_end(msg, action->own);
	mnl_attr_nest_end(msg, action->first);
	mnl_attr_nest_end(msg, action->list);
	mnl_attr_nest_end(msg, action->options);
}

int tc_mirror_add(struct mnl_socket *nl, int index, enum tc_side side, int to)
{
	const struct tc_mirred mirred = {
		.action = TC_ACT_UNSPEC, .eaction = TCA_EGRESS_MIRROR, .ifindex = (uint32_t)to,
	};
	char buf[MSG_BYTES];
	struct nlmsghdr *msg;
	struct action action;

	start_filter(buf, RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL, index, side, TC_PLACE_MIRROR,
		     &msg);
	action = start_action(msg, "mirred");
	mnl_attr_put(msg, TCA_MIRRED_PARMS, sizeof(mirred), &mirred);
	end_action(msg, &action);
	return link_talk(nl, msg, NULL, NULL);
}

int tc_verdict_add(struct mnl_socket *nl, int index, const struct sock_filter *program,
		   unsigned int count)
{
	char buf[MSG_BYTES];
	struct nlmsghdr *msg;
	struct nlattr *options;

	start_filter(buf, RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL, index, TC_INGRESS,
		     TC_PLACE_VERDICT, &msg);
	options = put_program(msg, program, count);
	mnl_attr_put_u32(msg, TCA_BPF_FLAGS, TCA_BPF_FLAG_ACT_DIRECT);
	mnl_attr_nest_end(msg, options);
	return link_talk(nl, msg, NULL, NULL);
}

/* Where the rate has 32 bits the kernel wants a table of the old kind, but not its content. */
static struct tc_ratespec rate_spec(uint64_t rate)
{
	return (struct tc_ratespec){
		.rate = rate > UINT32_MAX ? UINT32_MAX : (uint32_t)rate,
		.linklayer = TC_LINKLAYER_ETHERNET,
		.cell_log = 3,
	};
}

static uint32_t rate_ticks(uint64_t rate, uint64_t bytes)
{
	uint64_t ticks = bytes * (NS_PER_S / TICK_NS) / rate;

	return ticks > UINT32_MAX ? UINT32_MAX : (uint32_t)ticks;
}

int tc_police_add(struct mnl_socket *nl, int index, uint64_t rate, uint64_t burst)
{
	static const uint8_t table[RATE_TABLE_BYTES];
	const struct tc_police police = {
		.action = TC_ACT_SHOT, .rate = rate_spec(rate), .burst = rate_ticks(rate, burst),
		.mtu = UINT32_MAX, /* as large as the guest likes */
	};
	char buf[MSG_BYTES];
	struct nlmsghdr *msg;
	struct action action;

	start_filter(buf, RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL, index, TC_INGRESS,
		     TC_PLACE_POLICE, &msg);
	action = start_action(msg, "police");
	mnl_attr_put(msg, TCA_POLICE_TBF, sizeof(police), &police);
	mnl_attr_put(msg, TCA_POLICE_RATE, sizeof(table), table);
	mnl_attr_put_u64(msg, TCA_POLICE_RATE64, rate);
	mnl_attr_put_u32(msg, TCA_POLICE_RESULT, (uint32_t)TC_ACT_UNSPEC);
	end_action(msg, &action);
	return link_talk(nl, msg, NULL, NULL);
}

static int filter(struct mnl_socket *nl, uint16_t type, int index, enum tc_side side,
		  enum tc_place place)
{
	char buf[256];
	struct nlmsghdr *msg;

	start_filter(buf, type, 0, index, side, place, &msg);
	return link_talk(nl, msg, NULL, NULL);
}

int tc_filter_delete(struct mnl_socket *nl, int index, enum tc_side side, enum tc_place place)
{
	return filter(nl, RTM_DELTFILTER, index, side, place);
}

static int count_filter(const struct nlmsghdr *msg, void *arg)
{
	unsigned int *count = arg;

	*count += msg->nlmsg_type == RTM_NEWTFILTER;
	return MNL_CB_OK;
}

/* Of anybody's, at either side. */
static unsigned int count_filters(struct mnl_socket *nl, int index)
{
	unsigned int count = 0;

	for (enum tc_side side = TC_INGRESS; side <= TC_EGRESS; side++) {
		char buf[256];
		struct nlmsghdr *msg;

		start(buf, RTM_GETTFILTER, NLM_F_DUMP, index, &msg)->tcm_parent = side_parent(side);
		if (link_talk(nl, msg, count_filter, &count))
			return UINT32_MAX;
	}
	return count;
}

int tc_hook_release(struct mnl_socket *nl, int index)
{
	return count_filters(nl, index) ? 0 : hook(nl, RTM_DELQDISC, 0, index);
}

/* --- the shaper --- */

static struct nlmsghdr *start_shaper(char *buf, uint16_t type, uint16_t flags, int index)
{
	struct nlmsghdr *msg;
	struct tcmsg *tcm = start(buf, type, flags, index, &msg);

	tcm->tcm_parent = TC_H_ROOT;
	tcm->tcm_handle = SHAPER_HANDLE;
	mnl_attr_put_strz(msg, TCA_KIND, "tbf");
	return msg;
}

int tc_shaper_add(struct mnl_socket *nl, int index, uint64_t rate, uint64_t burst,
		  uint64_t queue)
{
	const struct tc_tbf_qopt tbf = {
		.rate = rate_spec(rate), .limit = (uint32_t)MIN(queue, UINT32_MAX),
	};
	char buf[512];
	struct nlmsghdr *msg = start_shaper(buf, RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, index);
	struct nlattr *options = mnl_attr_nest_start(msg, TCA_OPTIONS);

	mnl_attr_put(msg, TCA_TBF_PARMS, sizeof(tbf), &tbf);
	mnl_attr_put_u64(msg, TCA_TBF_RATE64, rate);
	mnl_attr_put_u32(msg, TCA_TBF_BURST, (uint32_t)MIN(burst, UINT32_MAX));
	mnl_attr_nest_end(msg, options);
	return link_talk(nl, msg, NULL, NULL);
}

int tc_shaper_delete(struct mnl_socket *nl, int index)
{
	char buf[256];

	return link_talk(nl, start_shaper(buf, RTM_DELQDISC, 0, index), NULL, NULL);
}

/* --- what was dropped --- */

static int parse_drops(const struct nlmsghdr *msg, void *arg)
{
	const struct nlattr *attr, *inner;
	struct gnet_stats_queue queue;
	uint64_t *drops = arg;

	if (msg->nlmsg_type != RTM_NEWQDISC)
		return MNL_CB_OK;
	mnl_attr_for_each(attr, msg, sizeof(struct tcmsg)) {
		if (mnl_attr_get_type(attr) != TCA_STATS2)
			continue;
		mnl_attr_for_each_nested(inner, attr) {
			if (mnl_attr_get_type(inner) != TCA_STATS_QUEUE ||
			    mnl_attr_get_payload_len(inner) < sizeof(queue))
				continue;
			memcpy(&queue, mnl_attr_get_payload(inner), sizeof(queue));
			*drops = queue.drops;
		}
	}
	return MNL_CB_OK;
}

int tc_drops_get(struct mnl_socket *nl, int index, struct tc_drops *out)
{
	const uint16_t flags = NLM_F_ECHO; /* or the answer is only for those who listen to all */
	char buf[256];
	int r;

	*out = (struct tc_drops){0};
	r = link_talk(nl, start_hook(buf, RTM_GETQDISC, flags, index), parse_drops, &out->filters);
	if (r && r != -ENOENT && r != -EINVAL) /* none, or one of another kind */
		return r;
	r = link_talk(nl, start_shaper(buf, RTM_GETQDISC, flags, index), parse_drops, &out->shaper);
	return r == -ENOENT || r == -EINVAL ? 0 : r;
}

/* --- what was left --- */

static int clean_filters(struct mnl_socket *nl, int index)
{
	static const struct {
		enum tc_side side;
		enum tc_place place;
	} ours[] = {
		{ TC_INGRESS, TC_PLACE_MIRROR }, { TC_INGRESS, TC_PLACE_VERDICT },
		{ TC_INGRESS, TC_PLACE_POLICE }, { TC_EGRESS, TC_PLACE_MIRROR },
	};
	bool found = false;
	int r = 0;

	for (unsigned int i = 0; !r && i < ARRAY_LEN(ours); i++) {
		if (filter(nl, RTM_GETTFILTER, index, ours[i].side, ours[i].place))
			continue;
		found = true;
		r = tc_filter_delete(nl, index, ours[i].side, ours[i].place);
	}
	return !r && found ? tc_hook_release(nl, index) : r;
}

int tc_clean(struct mnl_socket *nl, int index)
{
	char buf[256];
	int r = clean_filters(nl, index);

	if (!r && !link_talk(nl, start_shaper(buf, RTM_GETQDISC, 0, index), NULL, NULL))
		r = tc_shaper_delete(nl, index);
	return r;
}
