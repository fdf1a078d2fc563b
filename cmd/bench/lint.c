/* SPDX-License-Identifier: MIT */
/* One function for each thing to look at; what a host does not show is not reported. */
#include "cmd/bench/lint.h"

#include <dirent.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cmd/print.h"
#include "util/util.h"

static bool there(const char *root, const char *path)
{
	char full[PATH_MAX];

	snprintf(full, sizeof(full), "%s%s", root, path);
	return access(full, F_OK) == 0;
}

/* The first line of a file; false where there is none. */
static bool read_text(const char *root, const char *path, char *out, size_t len)
{
	char full[PATH_MAX];
	FILE *file;
	bool read;

	snprintf(full, sizeof(full), "%s%s", root, path);
	file = fopen(full, "re");
	if (!file)
		return false;
	read = fgets(out, (int)len, file);
	fclose(file);
	if (read)
		out[strcspn(out, "\n")] = '\0';
	return read;
}

static void add(struct lint *lint, const char *name, const char *value, const char *advice)
{
	struct lint_finding *finding = &lint->list[lint->count];

	if (lint->count == LINT_MAX)
		return;
	lint->count++;
	finding->name = name;
	finding->advice = advice;
	snprintf(finding->value, sizeof(finding->value), "%.*s",
		 (int)sizeof(finding->value) - 1, value);
}

/* The same, or of a list the choice, which stands in brackets. */
static bool read_choice(const char *root, const char *path, char *out, size_t len)
{
	char *choice, *end;

	if (!read_text(root, path, out, len))
		return false;
	choice = strchr(out, '[');
	end = choice ? strchr(choice, ']') : NULL;
	if (end) {
		*end = '\0';
		memmove(out, choice + 1, strlen(choice));
	}
	return true;
}

/* What a file says, and the advice where it is not `good`. */
static void look_at(struct lint *lint, const char *root, const char *name, const char *path,
		    const char *good, const char *advice)
{
	char text[128];

	if (read_choice(root, path, text, sizeof(text)))
		add(lint, name, text, strcmp(text, good) == 0 ? NULL : advice);
}

static void look_at_huge_pages(struct lint *lint, const char *root)
{
	const char *path = "/sys/kernel/mm/transparent_hugepage/enabled";
	char text[128];

	if (read_choice(root, path, text, sizeof(text)))
		add(lint, "huge pages", text, strcmp(text, "always") && strcmp(text, "madvise")
			? "guest memory is small pages (echo madvise > "
			  "/sys/kernel/mm/transparent_hugepage/enabled)" : NULL);
}

/* The value behind "NAME :" in /proc/cpuinfo, of the first processor. */
static bool cpuinfo(const char *root, const char *name, char *out, size_t len)
{
	char full[PATH_MAX], line[4096];
	bool found = false;
	FILE *file;

	snprintf(full, sizeof(full), "%s/proc/cpuinfo", root);
	file = fopen(full, "re");
	while (file && !found && fgets(line, sizeof(line), file)) {
		char *colon = strchr(line, ':');

		line[strcspn(line, "\n")] = '\0';
		if (!colon || strncmp(line, name, strlen(name)) != 0)
			continue;
		found = true;
		snprintf(out, len, "%s", colon[1] ? colon + 2 : "");
	}
	if (file)
		fclose(file);
	return found;
}

static void look_at_cpu(struct lint *lint, const char *root)
{
	char text[4096];

	if (cpuinfo(root, "model name", text, sizeof(text)))
		add(lint, "processor", text, NULL);
	if (cpuinfo(root, "flags", text, sizeof(text)) && strstr(text, " hypervisor"))
		add(lint, "nested", "this host is a guest itself",
		    "exits cost many times what they do on bare metal");
}

static void look_at_kvm(struct lint *lint, const char *root)
{
	static const struct {
		const char *path, *name, *advice;
	} kinds[] = {
		{"/sys/module/kvm_pvm", "kvm_pvm", "no virtualization hardware: memory and exits are "
			"slow, and polling guests get no interrupts"},
		{"/sys/module/kvm_intel", "kvm_intel", NULL},
		{"/sys/module/kvm_amd", "kvm_amd", NULL},
	};
	static const struct {
		const char *path, *name;
	} two_stage[] = {
		{"/sys/module/kvm_intel/parameters/ept", "EPT"},
		{"/sys/module/kvm_amd/parameters/npt", "NPT"},
	};
	char text[128];

	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		if (!there(root, kinds[i].path))
			continue;
		add(lint, "KVM", kinds[i].name, kinds[i].advice);
		break;
	}
	for (size_t i = 0; i < ARRAY_LEN(two_stage); i++)
		if (read_text(root, two_stage[i].path, text, sizeof(text)))
			add(lint, two_stage[i].name, text,
			    text[0] == 'Y' || text[0] == '1' ? NULL :
			    "the guest's page tables are shadowed: faults are dear");
	if (read_text(root, "/sys/module/kvm/parameters/halt_poll_ns", text, sizeof(text)))
		add(lint, "halt polling", text, strcmp(text, "0") != 0 ? NULL :
		    "a guest that halts sleeps at once, and wakes up slowly (ns; 200000 is usual)");
}

static void look_at_mitigations(struct lint *lint, const char *root)
{
	static const char folder[] = "/sys/devices/system/cpu/vulnerabilities";
	char full[PATH_MAX], text[256], list[128] = "";
	struct dirent *entry;
	size_t len = 0;
	DIR *dir;

	snprintf(full, sizeof(full), "%s%s", root, folder);
	dir = opendir(full);
	if (!dir)
		return;
	while ((entry = readdir(dir))) {
		snprintf(full, sizeof(full), "%s/%.200s", folder, entry->d_name);
		if (entry->d_name[0] == '.' || !read_text(root, full, text, sizeof(text)) ||
		    strncmp(text, "Mitigation", 10) != 0 || len >= sizeof(list))
			continue;
		len += (size_t)snprintf(list + len, sizeof(list) - len, "%s%s", len ? " " : "",
					entry->d_name);
	}
	closedir(dir);
	add(lint, "mitigations", len ? list : "none",
	    len ? "each exit pays for them (mitigations=off on the host's command line)" : NULL);
}

static void look_at_load(struct lint *lint, const char *root)
{
	char text[64];
	double load;

	if (!read_text(root, "/proc/loadavg", text, sizeof(text)))
		return;
	load = strtod(text, NULL);
	snprintf(text, sizeof(text), "%.2f", load);
	add(lint, "load", text, load < 0.5 ? NULL : "something else runs here: figures will swing");
}

static void look_at_devices(struct lint *lint, const char *root)
{
	bool vhost = there(root, "/dev/vhost-net");

	add(lint, "vhost-net", vhost ? "there" : "not there",
	    vhost ? NULL : "frames are moved in user space (modprobe vhost_net)");
}

void lint_look(const char *root, struct lint *lint)
{
	lint->count = 0;
	look_at_cpu(lint, root);
	look_at_kvm(lint, root);
	look_at(lint, root, "governor", "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor",
		"performance", "the clock follows the load (cpupower frequency-set -g performance)");
	look_at(lint, root, "SMT", "/sys/devices/system/cpu/smt/active", "0",
		"processors share cores: leave every second one idle (--pin)");
	look_at(lint, root, "turbo off", "/sys/devices/system/cpu/intel_pstate/no_turbo", "1",
		"the clock depends on what else runs, and for how long");
	look_at_huge_pages(lint, root);
	look_at(lint, root, "KSM", "/sys/kernel/mm/ksm/run", "0",
		"pages are merged, and copied again when they are written");
	look_at(lint, root, "NUMA balancing", "/proc/sys/kernel/numa_balancing", "0",
		"pages are unmapped to see who uses them");
	look_at(lint, root, "clock", "/sys/devices/system/clocksource/clocksource0/current_clocksource",
		"tsc", "each look at the clock is slow");
	look_at(lint, root, "io_uring off", "/proc/sys/kernel/io_uring_disabled", "0",
		"disks are served by threads, which is slower");
	look_at_mitigations(lint, root);
	look_at_devices(lint, root);
	look_at_load(lint, root);
}

void lint_print(const struct lint *lint)
{
	for (size_t i = 0; i < lint->count; i++) {
		const struct lint_finding *finding = &lint->list[i];

		printf("  %-15s ", finding->name);
		print_clean(finding->value);
		if (finding->advice)
			printf("\n  %-15s   ! %s", "", finding->advice);
		putchar('\n');
	}
}
