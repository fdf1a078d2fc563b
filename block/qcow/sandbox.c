/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * Whoever takes over this process by a crafted image has: an image that he made, read-only; the
 * memory by which the guest gets the disk's contents, which he says anyway; a socket to minivmm,
 * which believes nothing it hears; and 1 GiB of memory.
 *
 * Three walls, each enough. seccomp: a list of system calls and arguments, all on those three
 * fds or on memory that can not become code; anything else ends the process. Landlock: no file
 * and no TCP port can be opened; where the kernel has none (before 5.13, or not enabled),
 * seccomp refuses every open and socket by itself, so that is said and we go on. Limits: no new
 * file, process, core or larger file, whatever the other two let through. Without seccomp there
 * is no sandbox worth the name, and we do not start.
 */
#include "block/qcow/sandbox.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/fs.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "block/qcow/proto.h"
#include "util/util.h"

#define MEMORY_BYTES GIB(1)

/* --- limits --- */

static int limit(int resource, rlim_t value)
{
	struct rlimit max = {value, value};

	return setrlimit((__rlimit_resource_t)resource, &max) < 0 ? -errno : 0;
}

static int set_limits(void)
{
	static const struct {
		int resource;
		rlim_t value;
	} limits[] = {
		{RLIMIT_CORE, 0},
		{RLIMIT_FSIZE, 0},
		{RLIMIT_NPROC, 0},
		{RLIMIT_NOFILE, QCOW_FD_END},
		{RLIMIT_MEMLOCK, 0},
		{RLIMIT_AS, MEMORY_BYTES},
	};
	int r = 0;

	for (size_t i = 0; i < ARRAY_LEN(limits) && !r; i++)
		r = limit(limits[i].resource, limits[i].value);
	return r;
}

/* --- Landlock --- */

/* As linux/landlock.h has it since ABI 6; older kernels take its beginning. */
struct landlock_rules {
	uint64_t files, net, scoped;
};

/* No rule allows anything. False: the kernel has it not, or not enabled. */
static bool enter_landlock(void)
{
	/* by ABI: how many kinds of access there are to forbid, and how much the kernel reads */
	static const unsigned int files[] = {0, 13, 14, 15, 15, 16, 16};
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, 1);
	struct landlock_rules rules = {0};
	size_t len = abi >= 6 ? 24 : abi >= 4 ? 16 : 8;
	long fd;

	if (abi < 1)
		return false;
	abi = MIN(abi, (long)ARRAY_LEN(files) - 1);
	rules.files = (1ull << files[abi]) - 1;
	rules.net = abi >= 4 ? 3 : 0;
	rules.scoped = abi >= 6 ? 3 : 0;
	fd = syscall(SYS_landlock_create_ruleset, &rules, len, 0);
	if (fd < 0)
		return false;
	abi = syscall(SYS_landlock_restrict_self, fd, 0);
	close((int)fd);
	return abi == 0;
}

/* --- seccomp --- */

#define ANY UINT32_MAX

/* A call that is allowed where argument `arg`, as far as `mask` goes, is `value`. */
struct rule {
	unsigned int nr;
	unsigned int arg; /* or ANY */
	uint32_t mask, value;
};

static const struct rule rules[] = {
	{SYS_read, 0, ANY, QCOW_FD_IMAGE},
	{SYS_lseek, 0, ANY, QCOW_FD_IMAGE},
	{SYS_fstat, 0, ANY, QCOW_FD_IMAGE},
	{SYS_close, 0, ANY, QCOW_FD_IMAGE},
	{SYS_ioctl, 1, ANY, (uint32_t)BLKGETSIZE64},
	{SYS_recvfrom, 0, ANY, QCOW_FD_SOCKET},
	{SYS_sendto, 0, ANY, QCOW_FD_SOCKET},
	/* what malloc and locks need */
	{SYS_brk, ANY, 0, 0},
	{SYS_mmap, 2, PROT_EXEC, 0},
	{SYS_mprotect, 2, PROT_EXEC, 0},
	{SYS_mremap, ANY, 0, 0},
	{SYS_munmap, ANY, 0, 0},
	{SYS_madvise, ANY, 0, 0},
	{SYS_futex, ANY, 0, 0},
	{SYS_getrandom, ANY, 0, 0},
	{SYS_restart_syscall, ANY, 0, 0},
	{SYS_exit_group, ANY, 0, 0},
};

#define RULE_CODE 6 /* instructions per rule */
#define HEAD_CODE 4
#define CODE_LEN (HEAD_CODE + RULE_CODE * ARRAY_LEN(rules) + 1)
#define KILL BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS)

/* Where the call is another, go on with what follows. */
static void put_rule(struct sock_filter *code, const struct rule *rule)
{
	uint32_t arg = rule->arg == ANY ? 0 : rule->arg;
	uint32_t at = (uint32_t)(offsetof(struct seccomp_data, args) + 8 * arg);

	const struct sock_filter made[RULE_CODE] = {
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, rule->nr, 0, RULE_CODE - 1),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, at),
		BPF_STMT(BPF_ALU | BPF_AND | BPF_K, rule->mask),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, rule->value, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		KILL,
	};

	memcpy(code, made, sizeof(made));
}

static int enter_seccomp(void)
{
	struct sock_filter code[CODE_LEN] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0),
		KILL,
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	};
	struct sock_fprog program = {.len = CODE_LEN, .filter = code};

	for (size_t i = 0; i < ARRAY_LEN(rules); i++)
		put_rule(code + HEAD_CODE + RULE_CODE * i, &rules[i]);
	code[CODE_LEN - 1] = (struct sock_filter)KILL;
	return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) < 0 ? -errno : 0;
}

int sandbox_enter(void)
{
	int has = QCOW_SANDBOX_SECCOMP;
	int r = 0;

	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || prctl(PR_SET_DUMPABLE, 0) < 0 ||
	    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	if (enter_landlock())
		has |= QCOW_SANDBOX_LANDLOCK;
	r = set_limits();
	if (!r)
		r = enter_seccomp();
	return r < 0 ? r : has;
}
