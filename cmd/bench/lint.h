/* SPDX-License-Identifier: MIT */
/* What of this host makes figures slow, or swing. */
#pragma once

#include <stddef.h>

#define LINT_MAX 24

struct lint_finding {
	const char *name;
	char value[128];
	const char *advice; /* NULL: as it should be */
};

struct lint {
	struct lint_finding list[LINT_MAX];
	size_t count;
};

/* `root` is "", or a folder in place of it. */
void lint_look(const char *root, struct lint *lint);
void lint_print(const struct lint *lint);
