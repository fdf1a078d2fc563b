/* SPDX-License-Identifier: MIT */
/*
 * tc over rtnetlink: filters where frames enter and leave an interface, and a shaper.
 *
 * Each is told from what others made by its number, so that what a killed process left on an
 * interface that outlived it is found again. Silent, as link.h: 0 or -errno. -ENOENT where
 * something is added: this kernel has not what it takes; the comments name it.
 */
#pragma once

#include <linux/filter.h>
#include <stdbool.h>
#include <stdint.h>

struct mnl_socket;

enum tc_side {
	TC_INGRESS, /* of a TAP: what the guest sends */
	TC_EGRESS,
};

/* Filters of one side run in this order, until one drops the frame. */
enum tc_place {
	TC_PLACE_MIRROR = 1,
	TC_PLACE_VERDICT,
	TC_PLACE_POLICE,
};

/* The place for filters (sch_ingress). -EEXIST: there is one; -EINVAL: only for ingress. */
int tc_hook_add(struct mnl_socket *nl, int index);
/* Remove it, if nobody has a filter there. */
int tc_hook_release(struct mnl_socket *nl, int index);

/*
 * Filters (cls_bpf). -EEXIST or -EINVAL where somebody else's is at that place.
 *
 * mirror: a copy of each frame leaves by interface `to`; only what cannot be copied is lost, and
 * only there (act_mirred).
 * verdict: `program` returns TC_ACT_UNSPEC for what may pass and TC_ACT_SHOT for what may not.
 * police: frames beyond `rate` bytes per second are dropped, after `burst` bytes (act_police).
 */
int tc_mirror_add(struct mnl_socket *nl, int index, enum tc_side side, int to);
int tc_verdict_add(struct mnl_socket *nl, int index, const struct sock_filter *program,
		   unsigned int count);
int tc_police_add(struct mnl_socket *nl, int index, uint64_t rate, uint64_t burst);
int tc_filter_delete(struct mnl_socket *nl, int index, enum tc_side side, enum tc_place place);

/*
 * What leaves by the interface waits so that `rate` bytes per second do, in a queue of `queue`
 * bytes (sch_tbf). -EEXIST where the interface has a queueing discipline that somebody chose.
 */
int tc_shaper_add(struct mnl_socket *nl, int index, uint64_t rate, uint64_t burst,
		  uint64_t queue);
int tc_shaper_delete(struct mnl_socket *nl, int index);

/* Frames dropped so far by filters, whoever's, and by our shaper. Zero where there are none. */
struct tc_drops {
	uint64_t filters, shaper;
};
int tc_drops_get(struct mnl_socket *nl, int index, struct tc_drops *out);

/* Remove what was left. -EPERM: there is something. */
int tc_clean(struct mnl_socket *nl, int index);
