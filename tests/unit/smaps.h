/* SPDX-License-Identifier: MIT */
/* For tests of huge pages: what the kernel says of our mappings, and of itself. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* The number behind `key` of the mapping that holds `at`, in KiB; or whether it has `flag`. */
static inline long smaps(const void *at, const char *key, const char *flag)
{
	FILE *file = fopen("/proc/self/smaps", "re");
	unsigned long long start, end;
	bool inside = false;
	long found = -1;
	char line[512];

	assert_non_null(file);
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%llx-%llx ", &start, &end) == 2)
			inside = (uintptr_t)at >= start && (uintptr_t)at < end;
		else if (inside && strncmp(line, key, strlen(key)) == 0)
			found = flag ? !!strstr(line, flag) : strtol(line + strlen(key), NULL, 10);
	}
	fclose(file);
	return found;
}

static inline bool host_has_thp(const char *path)
{
	char modes[128] = "";
	FILE *file = fopen(path, "re");

	if (file) {
		assert_non_null(fgets(modes, sizeof(modes), file));
		fclose(file);
	}
	return *modes && !strstr(modes, "[never]") && !strstr(modes, "[deny]");
}
