/* SPDX-License-Identifier: MIT */
/* What some machines need besides options: huge pages, an image, a TAP that sends frames back. */
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "block/qcow2/make.h"
#include "cmd/bench/bench.h"
#include "net/link.h"
#include "net/tc.h"
#include "util/log.h"
#include "util/util.h"

#define HUGE_NEEDED 257ull /* groups.c asks for 514M */
#define DISK_BYTES MIB(256)
#define FILL_BYTES KIB(256)
#define TAP "bench0"

static int skip(struct bench_setup *setup, const char *why)
{
	snprintf(setup->why, sizeof(setup->why), "%s", why);
	return BENCH_SKIP;
}

static void add_option(struct bench_setup *setup, const char *name, const char *value)
{
	size_t n = 0;

	while (setup->options[n])
		n++;
	if (n + 2 > BENCH_OPTIONS_MAX)
		abort();
	setup->options[n] = name;
	setup->options[n + 1] = value;
}

/* The first line of a file, "" where there is none. */
static void read_line_of(const char *path, char *out, size_t len)
{
	FILE *file = fopen(path, "re");

	if (!file || !fgets(out, (int)len, file))
		out[0] = '\0';
	if (file)
		fclose(file);
}

/* --- memory --- */

int bench_thp_prepare(const struct bench_options *opts, struct bench_setup *setup)
{
	char text[64];

	read_line_of("/sys/kernel/mm/transparent_hugepage/enabled", text, sizeof(text));
	if (!text[0] || strstr(text, "[never]"))
		return skip(setup, "this host has no transparent huge pages");
	return 0;
}

int bench_huge_prepare(const struct bench_options *opts, struct bench_setup *setup)
{
	char text[64];

	read_line_of("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", text,
		     sizeof(text));
	if (strtoull(text, NULL, 10) < HUGE_NEEDED)
		return skip(setup, "too few huge pages (sysctl vm.nr_hugepages=257)");
	return 0;
}

/* --- disks: a file without a name, which ends with us --- */

static int disk_fd = -1;

static int open_file(const struct bench_options *opts)
{
	int fd = opts->dir ? open(opts->dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600)
			   : memfd_create("disk", MFD_CLOEXEC);
	int r = -errno;

	if (fd >= 0)
		return fd;
	log_error("bench: %s: no file can be made there: %s", opts->dir ? opts->dir : "memory",
		  strerror(-r));
	return r;
}

static int make_image(int fd, bool qcow2)
{
	const struct qcow2_make_options make = {.name = "bench", .size_bytes = DISK_BYTES,
						.temporary = true};
	int r;

	if (qcow2)
		return qcow2_make(fd, &make);
	if (ftruncate(fd, (off_t)DISK_BYTES) == 0)
		return 0;
	r = -errno;
	log_error("bench: no room for an image: %s", strerror(-r));
	return r;
}

static int prepare_disk(const struct bench_options *opts, struct bench_setup *setup, bool qcow2)
{
	static char option[96];

	disk_fd = open_file(opts);
	if (disk_fd < 0)
		return disk_fd;
	snprintf(option, sizeof(option), "/proc/%d/fd/%d,format=%s,direct=%s", (int)getpid(),
		 disk_fd, qcow2 ? "qcow2" : "raw", opts->dir ? "on" : "off");
	add_option(setup, "--disk", option);
	return make_image(disk_fd, qcow2);
}

int bench_raw_prepare(const struct bench_options *opts, struct bench_setup *setup)
{
	return prepare_disk(opts, setup, false);
}

int bench_qcow2_prepare(const struct bench_options *opts, struct bench_setup *setup)
{
	return prepare_disk(opts, setup, true);
}

/* All of it is written once, by the guest: what it reads has to be there. */
int bench_disk_started(struct bench_vm *vm, struct bench_setup *setup)
{
	uint64_t left = DISK_BYTES / FILL_BYTES;
	struct bench_answer answer;
	int r;

	while (left) {
		r = bench_vm_do(vm, "write bytes=262144 depth=8", (uint64_t)(bench_tsc_hz() / 10),
				&answer);
		if (r)
			return r;
		left -= MIN(left, answer.requests);
	}
	return 0;
}

void bench_disk_finish(void)
{
	if (disk_fd >= 0)
		close(disk_fd);
	disk_fd = -1;
}

/* --- the network: a namespace of our own, in which we may do anything --- */

static int write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC), r = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		r = -errno;
	close(fd);
	return r;
}

/* Once, for all that this process starts from now on. */
static int enter_namespace(void)
{
	static bool entered;
	char uids[32], gids[32];
	int r;

	if (entered)
		return 0;
	if (unshare(CLONE_NEWNET) == 0) {
		entered = true;
		return 0;
	}
	snprintf(uids, sizeof(uids), "0 %d 1", (int)geteuid());
	snprintf(gids, sizeof(gids), "0 %d 1", (int)getegid());
	if (unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0)
		return -errno;
	entered = true; /* whatever it may do there */
	r = write_text("/proc/self/setgroups", "deny");
	if (!r)
		r = write_text("/proc/self/uid_map", uids);
	return r ? r : write_text("/proc/self/gid_map", gids);
}

static int prepare_net(struct bench_setup *setup, const char *option)
{
	if (access("/dev/net/tun", R_OK | W_OK) < 0)
		return skip(setup, "no /dev/net/tun (modprobe tun)");
	if (enter_namespace() < 0 || !link_may_admin())
		return skip(setup, "no network namespace can be made (run it as root)");
	add_option(setup, "--net", option);
	return 0;
}

int bench_net_prepare(const struct bench_options *opts, struct bench_setup *setup)
{
	return prepare_net(setup, "tap=" TAP ",vhost=off");
}

int bench_vhost_prepare(const struct bench_options *opts, struct bench_setup *setup)
{
	if (access("/dev/vhost-net", R_OK | W_OK) < 0)
		return skip(setup, "no /dev/vhost-net, or no rights to it (modprobe vhost_net)");
	return prepare_net(setup, "tap=" TAP ",vhost=on");
}

/* What the guest sends comes back at once. */
int bench_net_started(struct bench_vm *vm, struct bench_setup *setup)
{
	struct mnl_socket *nl;
	struct link_info link;
	int r = link_connect(&nl);

	if (r) {
		log_error("bench: no rtnetlink: %s", strerror(-r));
		return r;
	}
	r = link_get(nl, TAP, &link);
	if (!r)
		r = tc_hook_add(nl, link.index);
	if (!r)
		r = tc_mirror_add(nl, link.index, TC_INGRESS, link.index);
	link_disconnect(nl);
	if (r == -ENOENT)
		return skip(setup, "this kernel has not act_mirred (modprobe act_mirred cls_bpf)");
	if (r)
		log_error("bench: tc at " TAP ": %s", strerror(-r));
	return r;
}
