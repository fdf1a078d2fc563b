/* SPDX-License-Identifier: MIT */
#include "cmd/found.h"

#include <stdio.h>
#include <string.h>

#include "util/log.h"

bool found_is(const struct run_entry *entry, const char *wanted)
{
	char pid[16];

	snprintf(pid, sizeof(pid), "%u", entry->pid);
	return !wanted || strcmp(wanted, entry->name) == 0 || strcmp(wanted, pid) == 0;
}

int found_order(const struct run_entry *left, const struct run_entry *right)
{
	int r = strcmp(left->name, right->name);

	return r ? r : (left->pid > right->pid) - (left->pid < right->pid);
}

void found_none(const char *word, const char *wanted)
{
	log_error("%s: %s: no machine of this name or process id is running (minivmm net lists "
		  "those that are)", word, wanted);
}
