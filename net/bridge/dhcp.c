/* SPDX-License-Identifier: MIT */
/*
 * dnsmasq goes into the background by itself, and says by its exit status whether it could. It is
 * found again by the process id it left and by its command line, which begins with the path of that
 * file: who the file is forged by can only point us at a process of its own with such a command
 * line. The same line tells whether it runs with the settings asked for.
 */
#include "net/bridge/dhcp.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/log.h"
#include "util/program.h"
#include "util/util.h"

#define ARGS_MAX 20
#define ARGS_BYTES 1024
#define START_MS 10000
#define STOP_MS 5000
/* Where it is most often, whatever PATH root has. */
#define PATH_FIRST "/usr/sbin:/usr/local/sbin:/sbin"

/* A command line as /proc has it: arguments, each with its NUL. */
struct args {
	char text[ARGS_BYTES];
	size_t len, identity_len; /* the arguments by which it is known */
};

__attribute__((format(printf, 2, 3)))
static void add(struct args *args, const char *fmt, ...)
{
	va_list list;

	va_start(list, fmt);
	args->len += (size_t)vsnprintf(args->text + args->len, sizeof(args->text) - args->len, fmt,
				       list) + 1;
	va_end(list);
}

void dhcp_range(const struct cidr *cidr, struct cidr *first, struct cidr *last)
{
	*first = *last = *cidr;
	first->addr = cidr_first(cidr) + 1;
	last->addr = cidr_last(cidr) - 1;
	first->addr += first->addr == cidr->addr;
	last->addr -= last->addr == cidr->addr;
}

static void identify(struct args *args, const char *name)
{
	char path[BRIDGE_PATH_BYTES];

	args->len = 0;
	bridge_run_path(name, "pid", path);
	add(args, "dnsmasq");
	add(args, "--pid-file=%s", path);
	args->identity_len = args->len;
}

/* None of the host's settings: no file of its, and no interface but the bridge. */
static void write_args(struct args *args, const char *name, const struct cidr *cidr, bool routed)
{
	char path[BRIDGE_PATH_BYTES], from[CIDR_TEXT_BYTES], to[CIDR_TEXT_BYTES];
	char mask[CIDR_TEXT_BYTES], addr[CIDR_TEXT_BYTES];
	struct cidr first, last;

	identify(args, name);
	dhcp_range(cidr, &first, &last);
	cidr_format_addr(first.addr, from);
	cidr_format_addr(last.addr, to);
	cidr_format_addr(cidr_mask(cidr), mask);
	cidr_format_addr(cidr->addr, addr);
	bridge_run_path(name, "leases", path);
	add(args, "--conf-file=/dev/null");
	add(args, "--no-hosts");
	add(args, "--bind-interfaces");
	add(args, "--interface=%s", name);
	add(args, "--except-interface=lo");
	add(args, "--dhcp-range=%s,%s,%s", from, to, mask);
	add(args, "--dhcp-leasefile=%s", path);
	add(args, "--domain-needed");
	add(args, "--bogus-priv");
	add(args, "--dhcp-option=option:dns-server,%s", addr);
	/* Without a value: that there is no way out. Nor are names a way, then. */
	add(args, "--dhcp-option=option:router%s%s", routed ? "," : "", routed ? addr : "");
	if (!routed)
		add(args, "--no-resolv");
}

/* --- which process it is --- */

static size_t read_command_line(int pid, char *buf, size_t size)
{
	char path[32];
	ssize_t len;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/cmdline", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	len = read(fd, buf, size);
	close(fd);
	return len < 0 ? 0 : (size_t)len;
}

/*
 * A file of the process that is the bridge's dnsmasq, opened before it was looked at, so that its
 * number can not have become another's; or -ESRCH. `same`: it has all of `args`, and no more.
 */
static int find(const struct bridge_run *run, const char *name, const struct args *args, bool *same)
{
	char line[ARGS_BYTES];
	int pid = bridge_run_read_pid(run, name);
	int fd = pid ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
	size_t len;

	if (fd < 0)
		return -ESRCH;
	len = read_command_line(pid, line, sizeof(line));
	if (len < args->identity_len || memcmp(line, args->text, args->identity_len)) {
		close(fd);
		return -ESRCH;
	}
	*same = len == args->len && !memcmp(line, args->text, len);
	return fd;
}

bool dhcp_runs(const struct bridge_run *run, const char *name)
{
	struct args args;
	bool same;
	int fd;

	identify(&args, name);
	fd = find(run, name, &args, &same);
	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

static int wait_end(int pidfd, int timeout_ms)
{
	struct pollfd pfd = {.fd = pidfd, .events = POLLIN};
	int r;

	do
		r = poll(&pfd, 1, timeout_ms);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : r ? 0 : -ETIMEDOUT;
}

static int end(const char *name, int pidfd)
{
	int r = syscall(SYS_pidfd_send_signal, pidfd, SIGTERM, NULL, 0) < 0 ? -errno : 0;

	if (!r)
		r = wait_end(pidfd, STOP_MS);
	if (r == -ESRCH)
		r = 0;
	if (r)
		log_error("bridge %s: its dnsmasq cannot be ended: %s", name, strerror(-r));
	return r;
}

int dhcp_stop(const struct bridge_run *run, const char *name)
{
	struct args args;
	bool same;
	int r, fd;

	identify(&args, name);
	fd = find(run, name, &args, &same);
	if (fd < 0)
		return 0;
	r = end(name, fd);
	close(fd);
	return r ? r : 1;
}

/* --- starting one --- */

int dhcp_find_program(char path[DHCP_PROGRAM_BYTES])
{
	const char *env = getenv("PATH");
	char list[DHCP_PROGRAM_BYTES], *rest = list, *dir;

	snprintf(list, sizeof(list), "%s:%.3000s", PATH_FIRST, env ? env : "");
	while ((dir = strsep(&rest, ":"))) {
		if (*dir != '/')
			continue;
		snprintf(path, DHCP_PROGRAM_BYTES, "%.4000s/dnsmasq", dir);
		if (access(path, X_OK) == 0)
			return 0;
	}
	log_error("dnsmasq: not installed (apt install dnsmasq-base, or do without --dhcp)");
	return -ENOENT;
}

/* Its standard error goes to `errors`, of the rest it gets nothing of ours. */
static int spawn(const char *program, struct args *args, int errors, pid_t *pid)
{
	char *argv[ARGS_MAX + 1], *env[] = {"LC_ALL=C", NULL};
	const struct program_start start = {
		.path = program,
		.argv = argv,
		.envp = env,
		.first_fd = STDERR_FILENO,
		.fd_count = 1,
		.fds = {errors},
	};
	size_t count = 0;

	for (size_t at = 0; at < args->len && count < ARGS_MAX; at += strlen(argv[count++]) + 1)
		argv[count] = args->text + at;
	argv[count] = NULL;
	return program_spawn(&start, pid);
}

/* Until it is in the background, or has failed: its exit status, or -errno. */
static int wait_started(pid_t pid)
{
	int fd = (int)syscall(SYS_pidfd_open, pid, 0);
	int r = fd < 0 ? -errno : wait_end(fd, START_MS);
	int status;

	if (fd >= 0)
		close(fd);
	if (r)
		kill(pid, SIGKILL);
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return r ? r : WIFEXITED(status) ? WEXITSTATUS(status) : -EINTR;
}

/* It says "dnsmasq: ...", perhaps after an empty line; the first line will do. */
static void say_why(const char *name, int r, int errors)
{
	char said[256], *text = said;
	ssize_t len = pread(errors, said, sizeof(said) - 1, 0);

	said[MAX(len, 0)] = 0;
	if (!strncmp(text, "\n", 1))
		text++;
	if (!strncmp(text, "dnsmasq: ", 9))
		text += 9;
	text[strcspn(text, "\n")] = 0;
	log_error("bridge %s: dnsmasq does not start: %s (mend that and say up again, or leave out "
		  "--dhcp)", name, *text ? text : r < 0 ? strerror(-r) : "it does not say why");
}

static int start(const char *name, const char *program, struct args *args)
{
	int errors = memfd_create("dnsmasq", MFD_CLOEXEC);
	pid_t pid;
	int r = errors < 0 ? -errno : spawn(program, args, errors, &pid);

	if (!r)
		r = wait_started(pid);
	if (r)
		say_why(name, r, errors);
	if (errors >= 0)
		close(errors);
	return r > 0 ? -EIO : r;
}

int dhcp_start(const struct bridge_run *run, const char *name, const char *program,
	       const struct cidr *cidr, bool routed)
{
	struct args args;
	bool same = false;
	int r = 0, fd;

	write_args(&args, name, cidr, routed);
	fd = find(run, name, &args, &same);
	if (fd >= 0) {
		r = same ? 0 : end(name, fd);
		close(fd);
	}
	if (r || same)
		return r;
	r = start(name, program, &args);
	return r ? r : 1;
}
