/* SPDX-License-Identifier: MIT */
/* What a loop looks for (struct loop_look): inside the loop, and for those who stand in for it. */
#pragma once

#include "util/loop.h"

LIST_HEAD(looks, loop_look);

/* Nothing if it is looked for already. */
void looks_add(struct looks *looks, struct loop_look *look);
/* Is anything there? */
bool looks_see(const struct looks *looks);
/* Before a sleep. False: not now, something is there. */
bool looks_may_sleep(struct looks *looks);
/* What is there now is found, each once. */
void looks_run(struct looks *looks);
