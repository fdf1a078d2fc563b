/* SPDX-License-Identifier: MIT */
/* minivmm as a child, its guest's console on two pipes, the guest a file in memory. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cmd/bench/bench.h"
#include "util/log.h"
#include "util/program.h"
#include "util/util.h"

#define PATIENCE_MS 60000
#define MEM_SMALL_PAGES MIB(16) /* at its begin, unless --mem has hugepages: a mapping of its own */

struct bench_vm {
	pid_t pid;
	int to, from; /* the console */
	char buf[512]; /* what came from it, up to `len` */
	size_t len;
};

/* --- the console --- */

/* The next line, without its end. 0, or -errno: -EPIPE where minivmm has ended. */
static int read_line(struct bench_vm *vm, char *line, size_t size)
{
	struct pollfd poll_fd = {vm->from, POLLIN, 0};
	ssize_t n;
	char *end;

	while (!(end = memchr(vm->buf, '\n', vm->len))) {
		if (vm->len == sizeof(vm->buf))
			return -EPROTO;
		n = poll(&poll_fd, 1, PATIENCE_MS);
		if (n == 0)
			return -ETIMEDOUT;
		if (n > 0)
			n = read(vm->from, vm->buf + vm->len, sizeof(vm->buf) - vm->len);
		if (n == 0)
			return -EPIPE;
		if (n < 0 && errno != EINTR)
			return -errno;
		vm->len += n > 0 ? (size_t)n : 0;
	}
	n = end - vm->buf;
	snprintf(line, size, "%.*s", (int)n, vm->buf);
	line[strcspn(line, "\r")] = '\0';
	vm->len -= (size_t)n + 1;
	memmove(vm->buf, end + 1, vm->len);
	return 0;
}

static int failed(const char *what, int err)
{
	if (err == -EPIPE)
		log_error("bench: minivmm ended before it should%s", what);
	else if (err == -ETIMEDOUT)
		log_error("bench: the guest did not answer within %d s%s", PATIENCE_MS / 1000, what);
	else
		log_error("bench: the guest's console: %s%s", strerror(-err), what);
	return err;
}

int bench_vm_do(struct bench_vm *vm, const char *job, uint64_t cycles, struct bench_answer *out)
{
	char line[256], about[192];
	int n = snprintf(line, sizeof(line), "%s cycles=%" PRIu64 "\n", job, cycles), r = 0;

	snprintf(about, sizeof(about), " (job: %.150s)", job);
	if (write(vm->to, line, (size_t)n) != n)
		r = errno == EPIPE ? -EPIPE : -EIO;
	if (!r)
		r = read_line(vm, line, sizeof(line));
	if (r)
		return failed(about, r);
	if (sscanf(line, "cycles=%" SCNu64 " requests=%" SCNu64, &out->cycles, &out->requests) == 2)
		return 0;
	log_error("bench: the guest says: %s%s", line, about);
	return -EPROTO;
}

/* --- its memory --- */

uint64_t bench_vm_extra_kib(const struct bench_vm *vm, uint64_t mem_bytes)
{
	uint64_t start, end, kib, sum = 0;
	bool guests = false;
	char line[512];
	FILE *file;

	snprintf(line, sizeof(line), "/proc/%d/smaps", (int)vm->pid);
	file = fopen(line, "re");
	if (!file)
		return 0;
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " ", &start, &end) == 2)
			guests = end - start == mem_bytes || end - start == MEM_SMALL_PAGES ||
				 end - start == mem_bytes - MEM_SMALL_PAGES;
		else if (!guests && sscanf(line, "Rss: %" SCNu64, &kib) == 1)
			sum += kib;
	}
	fclose(file);
	return sum;
}

/* --- its life --- */

/* Ends with NULL. `argv` has room for what is in front and behind. */
static void fill_argv(const char **argv, const char *guest, const char *const *options)
{
	unsigned int n = 0;

	argv[n++] = "minivmm";
	argv[n++] = "--kernel";
	argv[n++] = guest;
	argv[n++] = "--cmdline";
	argv[n++] = "";
	for (; *options; options++)
		argv[n++] = *options;
	argv[n] = NULL;
}

/* It dies with us, whatever we die of, and Ctrl-C is ours alone. */
static _Noreturn void become(const char *path, const char **argv, pid_t parent, int guest, int in,
			     int out)
{
	signal(SIGPIPE, SIG_DFL);
	signal(SIGHUP, SIG_DFL);
	if (setsid() < 0 || prctl(PR_SET_PDEATHSIG, SIGHUP) < 0 || getppid() != parent)
		_exit(EXIT_FAILURE);
	if (dup2(in, STDIN_FILENO) >= 0 && dup2(out, STDOUT_FILENO) >= 0 &&
	    fcntl(guest, F_SETFD, 0) == 0)
		execv(path, (char *const *)argv);
	log_error("bench: minivmm cannot be started: %s", strerror(errno));
	_exit(EXIT_FAILURE);
}

static int spawn(struct bench_vm *vm, int guest, int in, int out, const char *const *options)
{
	const char *argv[BENCH_OPTIONS_MAX + 6];
	char path[PATH_MAX], kernel[32];
	pid_t parent = getpid();
	int r = program_find("minivmm", path, sizeof(path));

	snprintf(kernel, sizeof(kernel), "/proc/self/fd/%d", guest);
	fill_argv(argv, kernel, options);
	if (!r) {
		vm->pid = fork();
		r = vm->pid < 0 ? -errno : 0;
	}
	if (r) {
		vm->pid = 0;
		log_error("bench: minivmm cannot be started: %s", strerror(-r));
		return r;
	}
	if (vm->pid == 0)
		become(path, argv, parent, guest, in, out);
	return 0;
}

static int start_guest(struct bench_vm *vm, enum bench_guest guest, const char *const *options)
{
	int in[2] = {-1, -1}, out[2] = {-1, -1}, fd = bench_guest_open(guest), r;

	if (fd < 0)
		return fd;
	r = pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0 ? -errno : 0;
	if (r)
		log_error("bench: no pipe: %s%s", strerror(-r), fd_remedy(-r));
	else
		r = spawn(vm, fd, in[0], out[1], options);
	close(fd);
	if (in[0] >= 0)
		close(in[0]);
	if (out[1] >= 0)
		close(out[1]);
	vm->to = in[1];
	vm->from = out[0];
	return r;
}

static int wait_ready(struct bench_vm *vm)
{
	char line[256];
	int r;

	do
		r = read_line(vm, line, sizeof(line));
	while (!r && strcmp(line, "ready") != 0 && strncmp(line, "FAIL", 4) != 0);
	if (r == -EPIPE)
		return r; /* it said why */
	if (r)
		return failed("", r);
	if (strcmp(line, "ready") == 0)
		return 0;
	log_error("bench: the guest says: %s", line);
	return -EPROTO;
}

int bench_vm_start(enum bench_guest guest, const char *const *options, struct bench_vm **out)
{
	struct bench_vm *vm = calloc(1, sizeof(*vm));
	int r;

	if (!vm)
		return -ENOMEM;
	vm->to = vm->from = -1;
	r = start_guest(vm, guest, options);
	if (!r)
		r = wait_ready(vm);
	if (r) {
		bench_vm_kill(vm);
		return r;
	}
	*out = vm;
	return 0;
}

static int reap(struct bench_vm *vm)
{
	int status = 0;

	if (vm->pid)
		while (waitpid(vm->pid, &status, 0) < 0 && errno == EINTR)
			;
	if (vm->to >= 0)
		close(vm->to);
	if (vm->from >= 0)
		close(vm->from);
	free(vm);
	return status;
}

int bench_vm_end(struct bench_vm *vm)
{
	int status;

	if (write(vm->to, "\n", 1) != 1) { /* then it has ended, and the status says so */
		close(vm->to);
		vm->to = -1;
	}
	status = reap(vm);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	log_error("bench: minivmm ended with %s %d", WIFSIGNALED(status) ? "signal" : "status",
		  WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
	return -EIO;
}

void bench_vm_kill(struct bench_vm *vm)
{
	if (!vm)
		return;
	if (vm->pid)
		kill(vm->pid, SIGKILL);
	reap(vm);
}
