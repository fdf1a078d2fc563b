/* SPDX-License-Identifier: MIT */
#include "util/looks.h"

#include <stddef.h>

void looks_add(struct looks *looks, struct loop_look *look)
{
	if (look->listed)
		return;
	look->listed = true;
	LIST_INSERT_HEAD(looks, look, entry);
}

void loop_unlook(struct loop_look *look)
{
	if (!look->listed)
		return;
	look->listed = false;
	LIST_REMOVE(look, entry);
}

bool looks_see(const struct looks *looks)
{
	struct loop_look *look;

	LIST_FOREACH(look, looks, entry)
		if (look->there(look))
			return true;
	return false;
}

bool looks_may_sleep(struct looks *looks)
{
	struct loop_look *look;

	if (looks_see(looks))
		return false;
	while ((look = LIST_FIRST(looks))) {
		if (look->arm(look))
			return false;
		loop_unlook(look);
	}
	return true;
}

void looks_run(struct looks *looks)
{
	struct looks found = LIST_HEAD_INITIALIZER(found);
	struct loop_look *look, *next;

	for (look = LIST_FIRST(looks); look; look = next) {
		next = LIST_NEXT(look, entry);
		if (!look->there(look))
			continue;
		LIST_REMOVE(look, entry);
		LIST_INSERT_HEAD(&found, look, entry);
	}
	/* These may look again, or give up others. */
	while ((look = LIST_FIRST(&found))) {
		loop_unlook(look);
		look->found(look);
	}
}
