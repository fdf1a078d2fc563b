/* SPDX-License-Identifier: MIT */
#include "netns.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <net/if.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static int old_stderr = -1, caught = -1;

static const char *missing(void)
{
	pid_t pid;
	int status;

	if (access("/dev/net/tun", R_OK | W_OK) < 0)
		return "no /dev/net/tun, or no right to it";
	pid = fork();
	if (pid == 0)
		_exit(unshare(CLONE_NEWNET) < 0);
	if (pid < 0 || waitpid(pid, &status, 0) < 0 || status)
		return "no network namespaces (needs CAP_SYS_ADMIN)";
	if (system("ip -V >/dev/null 2>&1"))
		return "no ip (apt install iproute2)";
	return NULL;
}

static const char *missing_tc(void)
{
	if (system("tc -V >/dev/null 2>&1"))
		return "no tc (apt install iproute2)";
	if (system("unshare -n sh -c 'ip tuntap add t0 mode tap && tc qdisc add dev t0 clsact && "
		   "tc filter add dev t0 ingress bpf bytecode \"1,6 0 0 0,\" "
		   "action mirred egress mirror dev t0' >/dev/null 2>&1"))
		return "this kernel lacks sch_ingress, cls_bpf or act_mirred";
	return NULL;
}

static bool skip_for(const char *reason)
{
	if (reason)
		printf("skipped: %s\n", reason);
	return reason;
}

bool netns_skip(void)
{
	return skip_for(missing());
}

bool netns_skip_tc(void)
{
	return skip_for(missing()) || skip_for(missing_tc());
}

int netns_enter(void **state)
{
	if (unshare(CLONE_NEWNET) < 0)
		return -1;
	return netns_run("ip link set lo up") ? 0 : -1;
}

bool netns_run(const char *fmt, ...)
{
	char command[512];
	va_list args;

	va_start(args, fmt);
	vsnprintf(command, sizeof(command), fmt, args);
	va_end(args);
	return system(command) == 0;
}

bool netns_shows(const char *command, const char *pattern)
{
	return netns_run("%s | grep -q -- '%s'", command, pattern);
}

bool exists(const char *name)
{
	return if_nametoindex(name) != 0;
}

unsigned int count_links(void)
{
	struct if_nameindex *list = if_nameindex();
	unsigned int count = 0;

	assert_non_null(list);
	while (list[count].if_index)
		count++;
	if_freenameindex(list);
	return count;
}

void kill_child(pid_t pid)
{
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

void stderr_begin(void)
{
	fflush(stderr);
	old_stderr = dup(STDERR_FILENO);
	caught = memfd_create("stderr", MFD_CLOEXEC);
	dup2(caught, STDERR_FILENO);
}

const char *stderr_end(void)
{
	static char text[4096];
	ssize_t len;

	fflush(stderr);
	dup2(old_stderr, STDERR_FILENO);
	close(old_stderr);
	len = pread(caught, text, sizeof(text) - 1, 0);
	close(caught);
	text[len < 0 ? 0 : len] = 0;
	fputs(text, stderr);
	return text;
}

void assert_one_line(const char *said, va_list texts)
{
	const char *want;

	assert_non_null(strchr(said, '\n'));
	assert_string_equal(strchr(said, '\n'), "\n");
	while ((want = va_arg(texts, const char *)))
		if (!strstr(said, want))
			fail_msg("no \"%s\" in: %s", want, said);
}

void drop_net_admin(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];

	syscall(SYS_capget, &header, data);
	data[CAP_TO_INDEX(CAP_NET_ADMIN)].effective &= ~CAP_TO_MASK(CAP_NET_ADMIN);
	data[CAP_TO_INDEX(CAP_NET_ADMIN)].permitted &= ~CAP_TO_MASK(CAP_NET_ADMIN);
	syscall(SYS_capset, &header, data);
}
