/* SPDX-License-Identifier: MIT */
#include "util/cpus.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

static bool has(const unsigned int *cpus, unsigned int count, unsigned int cpu)
{
	for (unsigned int i = 0; i < count; i++)
		if (cpus[i] == cpu)
			return true;
	return false;
}

static int number(const char **at, unsigned int max, unsigned int *out)
{
	unsigned long value;
	char *end;

	if (!isdigit((unsigned char)**at))
		return -EINVAL;
	value = strtoul(*at, &end, 10);
	if (value >= max)
		return -ERANGE;
	*at = end;
	*out = (unsigned int)value;
	return 0;
}

/* "3" or "0-3" */
static int range(const char **at, unsigned int max, unsigned int *first, unsigned int *last)
{
	int r = number(at, max, first);

	*last = *first;
	if (r < 0 || **at != '-')
		return r;
	++*at;
	r = number(at, max, last);
	return r == 0 && *last < *first ? -EINVAL : r;
}

int cpus_parse(const char *text, unsigned int *cpus, unsigned int max)
{
	unsigned int count = 0, first = 0, last = 0;

	for (;; text++) {
		int r = range(&text, max, &first, &last);

		if (r < 0)
			return r;
		for (unsigned int cpu = first; cpu <= last; cpu++) {
			if (has(cpus, count, cpu))
				return -EINVAL;
			cpus[count++] = cpu;
		}
		if (*text != '+' && *text != ',')
			break;
	}
	return *text && *text != '\n' ? -EINVAL : (int)count;
}

int cpus_siblings(unsigned int cpu, unsigned int *cpus, unsigned int max)
{
	unsigned int all[4096];
	char path[80], text[256];
	FILE *file;
	int count;

	snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%u/topology/thread_siblings_list",
		 cpu);
	file = fopen(path, "re");
	if (!file)
		return -errno;
	count = fgets(text, sizeof(text), file) ? cpus_parse(text, all, 4096) : -EINVAL;
	fclose(file);
	for (int i = 0; i < count && (unsigned int)i < max; i++)
		cpus[i] = all[i];
	return count > (int)max ? (int)max : count;
}
