/* SPDX-License-Identifier: MIT */
#include "vmm/mem_room.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "util/log.h"
#include "util/util.h"

/* The sum of the numbers behind those `keys`, up to NULL, that the file has; false: it has none. */
static bool read_sum(const char *path, const char *const *keys, uint64_t *sum)
{
	FILE *file = fopen(path, "re");
	bool known = false;
	char line[256];

	*sum = 0;
	while (file && fgets(line, sizeof(line), file)) {
		for (const char *const *key = keys; *key; key++) {
			const char *at = strstr(line, *key);
			unsigned long long value;

			if (!at || (at > line && at[-1] != ' ') ||
			    sscanf(at + strlen(*key), "%llu", &value) != 1)
				continue;
			*sum += value;
			known = true;
		}
	}
	if (file)
		fclose(file);
	return known;
}

static bool read_number(const char *path, uint64_t *number)
{
	return read_sum(path, (const char *const[]){"", NULL}, number);
}

/*
 * Huge pages are set aside wherever in the host there are any: if then the node has none,
 * the first touch is a SIGBUS. Those that others have set aside, but not touched, count as free.
 */
static int check_huge_pages(const struct mem_options *options, const char *root)
{
	uint64_t page = mem_page_bytes(options->pages), needed = options->len_bytes / page, left;
	char path[PATH_MAX], name[96];

	snprintf(name, sizeof(name), "/sys/devices/system/node/node%u/hugepages/hugepages-%llukB/",
		 options->node, (unsigned long long)(page >> 10));
	snprintf(path, sizeof(path), "%s%sfree_hugepages", root, name);
	if (!read_number(path, &left) || needed <= left)
		return 0;
	log_error("--mem numa=%u: %llu huge pages of %llu MiB are needed, and %llu are free there "
		  "(as root: echo N > %snr_hugepages)", options->node, (unsigned long long)needed,
		  (unsigned long long)(page >> 20), (unsigned long long)left, name);
	return -ENOMEM;
}

int mem_room_check(const struct mem_options *options, const char *root)
{
	if (mem_page_bytes(options->pages) > 4096)
		return options->has_node ? check_huge_pages(options, root) : 0;
	return 0;
}
