/* SPDX-License-Identifier: MIT */
/*
 * The sandbox of minivmm-qcow, from inside: what ends the process, what each wall does alone.
 * Built without sanitizers, as the real one is; it includes the source to reach the walls.
 */
#include "block/qcow/sandbox.c"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <cmocka.h>

#define PASSED 42 /* exit status of a child that found all as it should be */

static int run(void (*fn)(const void *arg), const void *arg)
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (!pid) {
		fn(arg);
		_exit(PASSED);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static bool passed(int status)
{
	return WIFEXITED(status) && WEXITSTATUS(status) == PASSED;
}

static void check(bool good, const char *what)
{
	if (good)
		return;
	dprintf(STDERR_FILENO, "not so: %s\n", what);
	_exit(1);
}

/* --- all of it --- */

struct call {
	const char *name;
	long nr, args[6];
};

#define HERE ((long)AT_FDCWD)
#define TEXT(s) ((long)(uintptr_t)(s))

static const struct call forbidden[] = {
	{"open", SYS_open, {TEXT("/etc/passwd"), O_RDONLY}},
	{"openat", SYS_openat, {HERE, TEXT("/etc/passwd"), O_RDONLY}},
	{"openat2", SYS_openat2, {HERE, TEXT("/etc/passwd"), 0, 0}},
	{"creat", SYS_creat, {TEXT("/tmp/x"), 0600}},
	{"stat", SYS_stat, {TEXT("/etc/passwd"), 0}},
	{"newfstatat", SYS_newfstatat, {HERE, TEXT("/etc/passwd"), 0, 0}},
	{"statx", SYS_statx, {HERE, TEXT("/etc/passwd"), 0, 0, 0}},
	{"readlink", SYS_readlink, {TEXT("/proc/self/exe"), 0, 0}},
	{"getcwd", SYS_getcwd, {0, 0}},
	{"chdir", SYS_chdir, {TEXT("/")}},
	{"unlink", SYS_unlink, {TEXT("/nowhere")}},
	{"mount", SYS_mount, {0, 0, 0, 0, 0}},
	{"socket", SYS_socket, {AF_UNIX, SOCK_STREAM, 0}},
	{"socketpair", SYS_socketpair, {AF_UNIX, SOCK_STREAM, 0, 0}},
	{"connect", SYS_connect, {QCOW_FD_SOCKET, 0, 0}},
	{"bind", SYS_bind, {QCOW_FD_SOCKET, 0, 0}},
	{"sendmsg: passing fds", SYS_sendmsg, {QCOW_FD_SOCKET, 0, 0}},
	{"recvmsg: taking fds", SYS_recvmsg, {QCOW_FD_SOCKET, 0, 0}},
	{"sendto to another", SYS_sendto, {2, 0, 0, 0, 0, 0}},
	{"recvfrom another", SYS_recvfrom, {2, 0, 0, 0, 0, 0}},
	{"read of another", SYS_read, {0, 0, 0}},
	{"read of the socket", SYS_read, {QCOW_FD_SOCKET, 0, 0}},
	{"write", SYS_write, {QCOW_FD_IMAGE, 0, 0}},
	{"pwrite64", SYS_pwrite64, {QCOW_FD_IMAGE, 0, 0, 0}},
	{"ftruncate", SYS_ftruncate, {QCOW_FD_SLOT, 0}},
	{"fcntl: locks, flags", SYS_fcntl, {QCOW_FD_IMAGE, F_SETFL, 0}},
	{"flock", SYS_flock, {QCOW_FD_IMAGE, 0}},
	{"ioctl: a terminal's", SYS_ioctl, {2, 0x5412, 0}},
	{"dup", SYS_dup, {QCOW_FD_IMAGE}},
	{"fork", SYS_fork, {0}},
	{"vfork", SYS_vfork, {0}},
	{"clone", SYS_clone, {SIGCHLD, 0, 0, 0, 0}},
	{"clone3", SYS_clone3, {0, 0}},
	{"execve", SYS_execve, {TEXT("/bin/true"), 0, 0}},
	{"execveat", SYS_execveat, {HERE, TEXT("/bin/true"), 0, 0, 0}},
	{"kill", SYS_kill, {1, 0}},
	{"tgkill", SYS_tgkill, {1, 1, 0}},
	{"ptrace", SYS_ptrace, {PTRACE_ATTACH, 1, 0, 0}},
	{"process_vm_readv", SYS_process_vm_readv, {1, 0, 0, 0, 0, 0}},
	{"pidfd_open", SYS_pidfd_open, {1, 0}},
	{"setuid", SYS_setuid, {0}},
	{"unshare", SYS_unshare, {0}},
	{"prctl", SYS_prctl, {PR_SET_DUMPABLE, 1, 0, 0, 0}},
	{"prlimit64", SYS_prlimit64, {0, RLIMIT_NOFILE, 0, 0}},
	{"seccomp", SYS_seccomp, {0, 0, 0}},
	{"bpf", SYS_bpf, {0, 0, 0}},
	{"io_uring_setup", SYS_io_uring_setup, {1, 0}},
	{"memfd_create", SYS_memfd_create, {TEXT("x"), 0}},
	{"shmget", SYS_shmget, {0, 4096, 0}},
	{"userfaultfd", SYS_userfaultfd, {0}},
	{"mmap of code", SYS_mmap, {0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS,
				    -1, 0}},
	{"mprotect to code", SYS_mprotect, {0, 4096, PROT_EXEC}},
	{"pkey_mprotect", SYS_pkey_mprotect, {0, 4096, PROT_EXEC, -1}},
	{"open, x32", SYS_open | 0x40000000, {TEXT("/etc/passwd"), O_RDONLY}},
	{"a high fd", SYS_read, {QCOW_FD_IMAGE + 16, 0, 0}},
};

static void call_inside(const void *arg)
{
	const struct call *c = arg;

	check(sandbox_enter() > 0, "the sandbox is entered");
	syscall(c->nr, c->args[0], c->args[1], c->args[2], c->args[3], c->args[4], c->args[5]);
}

static void test_forbidden(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(forbidden); i++) {
		int status = run(call_inside, &forbidden[i]);

		if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGSYS)
			fail_msg("%s did not end it (status 0x%x)", forbidden[i].name, status);
	}
}

/* getpid as 32-bit code asks for it; where the kernel knows none of that, that ends it too. */
static void call_32bit(const void *arg)
{
	long result = 20;

	check(sandbox_enter() > 0, "the sandbox is entered");
	__asm__ volatile("int $0x80" : "+a"(result) : : "memory");
}

static void test_32bit(void **state)
{
	assert_true(WIFSIGNALED(run(call_32bit, NULL)));
}

/* What libqcow and malloc do. */
static void use_allowed(const void *arg)
{
	unsigned char byte;
	void *some, *much;

	check(sandbox_enter() > 0, "the sandbox is entered");
	check(syscall(SYS_lseek, QCOW_FD_IMAGE, 1, SEEK_SET) == 1, "lseek");
	check(syscall(SYS_read, QCOW_FD_IMAGE, &byte, 1) == 1, "read");
	check(send(QCOW_FD_SOCKET, &byte, 1, MSG_NOSIGNAL) == 1, "send");
	some = malloc(512 << 20);
	check(some, "512 MiB");
	much = malloc(1 << 30);
	check(!much, "no more than 1 GiB");
	free(some);
	free(much);
}

static void test_allowed(void **state)
{
	assert_true(passed(run(use_allowed, NULL)));
}

/* --- each alone --- */

static void only_landlock(const void *arg)
{
	check(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, "no new privileges");
	if (!enter_landlock())
		_exit(77);
	check(open("/etc/passwd", O_RDONLY | O_CLOEXEC) < 0 && errno == EACCES, "no file");
	check(open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC) < 0 && errno == EACCES, "no folder");
	check(open("/tmp/minivmm-landlock", O_CREAT | O_RDWR | O_CLOEXEC, 0600) < 0 &&
	      errno == EACCES, "no new file");
}

static void test_landlock(void **state)
{
	int status = run(only_landlock, NULL);

	if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
		print_message("skipped: this kernel has no Landlock\n");
		skip();
	}
	assert_true(passed(status));
}

static void only_limits(const void *arg)
{
	check(set_limits() == 0, "limits");
	check(open("/etc/passwd", O_RDONLY | O_CLOEXEC) < 0 && errno == EMFILE, "no file");
	check(socket(AF_UNIX, SOCK_STREAM, 0) < 0 && errno == EMFILE, "no socket");
	/* root is not limited, unless its capabilities are gone */
	check(geteuid() == 0 || fork() < 0, "no process");
}

static void test_limits(void **state)
{
	assert_true(passed(run(only_limits, NULL)));
}

/* fds 3 to 5 as the real one's, in all children. */
static int have_fds(void **state)
{
	static char text[] = "image";
	int fds[2], image = memfd_create("image", MFD_CLOEXEC);

	if (image < 0 || write(image, text, sizeof(text)) != sizeof(text) ||
	    socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fds) < 0)
		return -1;
	if (fcntl(fds[0], F_DUPFD, 16) < 0 || fcntl(fds[1], F_DUPFD, 17) < 0 ||
	    fcntl(image, F_DUPFD, 18) < 0)
		return -1;
	return dup2(18, QCOW_FD_IMAGE) < 0 || dup2(17, QCOW_FD_SOCKET) < 0 ||
	       dup2(18, QCOW_FD_SLOT) < 0 ? -1 : 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_forbidden),
		cmocka_unit_test(test_32bit),
		cmocka_unit_test(test_allowed),
		cmocka_unit_test(test_landlock),
		cmocka_unit_test(test_limits),
	};

	return cmocka_run_group_tests(tests, have_fds, NULL);
}
