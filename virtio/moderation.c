/* SPDX-License-Identifier: MIT */
#include "virtio/moderation.h"

/* In exits' times, of which an interrupt takes two or three. */
#define QUIET_EXITS 4
#define HOLD_EXITS 32
#define SHORT_EXITS 2

#define CREDIT_MAX 8
#define TRY_EVERY 64

bool moderation_hold(struct moderation *mod, unsigned int count, uint64_t now_ns,
		     uint32_t exit_ns)
{
	if (now_ns - mod->quiet_since_ns > SHORT_EXITS * (uint64_t)exit_ns * count)
		return false;
	if (!mod->credit && ++mod->passed_by < TRY_EVERY)
		return false;
	mod->holding = true;
	mod->went_on = false;
	mod->passed_by = 0;
	mod->start_ns = mod->quiet_since_ns = now_ns;
	return true;
}

void moderation_goes_on(struct moderation *mod, uint64_t now_ns)
{
	mod->went_on = true;
	mod->quiet_since_ns = now_ns;
}

bool moderation_is_over(const struct moderation *mod, uint64_t now_ns, uint32_t exit_ns)
{
	return now_ns - mod->quiet_since_ns >= QUIET_EXITS * (uint64_t)exit_ns ||
	       now_ns - mod->start_ns >= HOLD_EXITS * (uint64_t)exit_ns;
}

void moderation_end(struct moderation *mod)
{
	if (mod->went_on)
		mod->credit = CREDIT_MAX;
	else if (mod->credit)
		mod->credit--;
	mod->holding = false;
}
