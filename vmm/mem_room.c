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

/* --- prefault: else the kernel would look for memory among its processes, ours first --- */

static int check_left(const struct mem_options *options, uint64_t left, const char *where)
{
	if (options->len_bytes <= left)
		return 0;
	log_error("--mem prefault: %llu MiB: %llu MiB are left %s (free some, or give a smaller "
		  "--mem)", (unsigned long long)(options->len_bytes >> 20),
		  (unsigned long long)(left >> 20), where);
	return -ENOMEM;
}

static int check_host(const struct mem_options *options, const char *root)
{
	char path[PATH_MAX];
	uint64_t kib;

	snprintf(path, sizeof(path), "%s/proc/meminfo", root);
	if (!read_sum(path, (const char *const[]){"MemAvailable:", NULL}, &kib))
		return 0;
	return check_left(options, kib << 10, "on this host");
}

/* A node does not say what is available: about what is free, or holds files. */
static int check_node(const struct mem_options *options, const char *root)
{
	static const char *const keys[] = {"MemFree:", "Active(file):", "Inactive(file):", NULL};
	char path[PATH_MAX], where[32];
	uint64_t kib;

	snprintf(path, sizeof(path), "%s/sys/devices/system/node/node%u/meminfo", root,
		 options->node);
	if (!read_sum(path, keys, &kib))
		return 0;
	snprintf(where, sizeof(where), "on node %u", options->node);
	return check_left(options, kib << 10, where);
}

/* `group`: its path from the top; "" is the top itself, which has a limit in a container. */
static int check_cgroup(const struct mem_options *options, const char *root, const char *group)
{
	static const char *const cached[] = {"active_file", "inactive_file", NULL};
	char max_path[PATH_MAX], path[PATH_MAX], where[PATH_MAX];
	uint64_t max, used, files;

	snprintf(max_path, sizeof(max_path), "%s/sys/fs/cgroup%s/memory.max", root, group);
	snprintf(path, sizeof(path), "%s/sys/fs/cgroup%s/memory.current", root, group);
	if (!read_number(max_path, &max) || !read_number(path, &used)) /* "max": none */
		return 0;
	snprintf(path, sizeof(path), "%s/sys/fs/cgroup%s/memory.stat", root, group);
	read_sum(path, cached, &files);
	used -= MIN(files, used);
	snprintf(where, sizeof(where), "by /sys/fs/cgroup%s/memory.max", group);
	return check_left(options, max - MIN(used, max), where);
}

/* The path of our group of version 2; false: there is none. */
static bool own_cgroup(const char *root, char *group, size_t len)
{
	char path[PATH_MAX], line[PATH_MAX];
	bool found = false;
	FILE *file;

	snprintf(path, sizeof(path), "%s/proc/self/cgroup", root);
	file = fopen(path, "re");
	while (file && !found && fgets(line, sizeof(line), file))
		found = strncmp(line, "0::/", 4) == 0;
	if (file)
		fclose(file);
	if (found)
		snprintf(group, len, "%.*s", (int)strcspn(line + 3, "\n"), line + 3);
	return found;
}

/* Ours, and all that it is in. */
static int check_cgroups(const struct mem_options *options, const char *root)
{
	char group[PATH_MAX], *end;
	int r;

	if (!own_cgroup(root, group, sizeof(group)))
		return 0;
	if (!group[1])
		group[0] = '\0';
	r = check_cgroup(options, root, group);
	while (r == 0 && (end = strrchr(group, '/'))) {
		*end = '\0';
		r = check_cgroup(options, root, group);
	}
	return r;
}

int mem_room_check(const struct mem_options *options, const char *root)
{
	int r;

	if (mem_page_bytes(options->pages) > 4096)
		return options->has_node ? check_huge_pages(options, root) : 0;
	if (!options->prefault)
		return 0;
	r = check_host(options, root);
	if (r == 0 && options->has_node)
		r = check_node(options, root);
	return r < 0 ? r : check_cgroups(options, root);
}
