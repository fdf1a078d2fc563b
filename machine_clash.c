/* SPDX-License-Identifier: MIT */
/*
 * Two machines of one name have the same addresses, and on one bridge lose frames to each other.
 * Whoever starts second sees the first in the run directory, and says so.
 */
#include "machine_impl.h"

#include <string.h>

#include "util/log.h"
#include "util/run_dir.h"
#include "util/util.h"

struct clash {
	struct run_reader reader;
	const struct run_entry *own;
	bool said;
};

static bool may_clash(const struct run_entry *entry)
{
	for (unsigned int i = 0; i < entry->nic_count; i++)
		if (entry->nics[i].bridge[0])
			return true;
	return false;
}

static bool same_place(const struct run_nic *a, const struct run_nic *b)
{
	return a->bridge[0] && strcmp(a->bridge, b->bridge) == 0 &&
	       memcmp(a->mac, b->mac, sizeof(a->mac)) == 0;
}

/* Not by its name: that is somebody else's text. */
static void say(struct clash *clash, const struct run_nic *nic, uint32_t pid)
{
	const uint8_t *mac = nic->mac;

	if (clash->said)
		return;
	clash->said = true;
	log_warn("%s: on bridge %s another machine, process %u, has the address "
		 "%02x:%02x:%02x:%02x:%02x:%02x, too: frames will go astray (give this one another "
		 "--name, or mac=)", nic->name, nic->bridge, pid, mac[0], mac[1], mac[2], mac[3],
		 mac[4], mac[5]);
}

static void compare(struct run_reader *reader, const struct run_found *found)
{
	struct clash *clash = CONTAINER_OF(reader, struct clash, reader);
	const struct run_entry *own = clash->own, *other = &found->entry;

	if (other->netns != own->netns || (other->pid == own->pid && other->start == own->start))
		return;
	for (unsigned int i = 0; i < own->nic_count; i++)
		for (unsigned int j = 0; j < other->nic_count; j++)
			if (same_place(&own->nics[i], &other->nics[j]))
				say(clash, &own->nics[i], other->pid);
}

void machine_warn_of_clash(const struct run_entry *own)
{
	struct clash clash = {.reader.found = compare, .own = own};

	if (may_clash(own))
		run_read(&clash.reader);
}
