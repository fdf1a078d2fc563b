/* SPDX-License-Identifier: MIT */
/*
 * Whether an interrupt may wait a little, as network cards have it.
 *
 * An interrupt takes the driver's processor some exits' time, and a driver that is about to submit
 * the next of many requests has no use for it yet. So one may be held back for as long as the
 * driver goes on: until it has been quiet for a few exits' time, or some more have passed in all.
 * That saves little where requests take longer than an exit themselves, and makes the driver idle
 * meanwhile; so it is done with short ones. Whether the driver goes on, only trying tells. Holds
 * that were in vain cost their credit, and without credit one is tried now and then: a driver that
 * waits for each answer hardly ever waits longer.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct moderation {
	bool holding;
	bool went_on; /* since then, the driver has */
	unsigned int credit;
	unsigned int passed_by; /* interrupts that were not held, since the last one that was */
	uint64_t start_ns, quiet_since_ns;
};

/*
 * An interrupt for `count` requests is due: hold it? Then ask whether to let it go. `exit_ns`: what
 * an exit takes on this machine.
 */
bool moderation_hold(struct moderation *mod, unsigned int count, uint64_t now_ns,
		     uint32_t exit_ns);
/* The driver has made something available; whether one is held or not. */
void moderation_goes_on(struct moderation *mod, uint64_t now_ns);
/* Long enough? */
bool moderation_is_over(const struct moderation *mod, uint64_t now_ns, uint32_t exit_ns);
/* It was let go. */
void moderation_end(struct moderation *mod);
