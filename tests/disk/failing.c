/* SPDX-License-Identifier: MIT */
/* failing CALL ERROR PROGRAM [ARGUMENT]...: runs a program whose system call CALL always fails. */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static const struct {
	const char *name;
	unsigned int number;
} calls[] = {
	{"fsync", SYS_fsync},
	{"ftruncate", SYS_ftruncate},
	{"pwrite", SYS_pwrite64},
};

static int number_of(const char *name)
{
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
		if (!strcmp(calls[i].name, name))
			return (int)calls[i].number;
	return -1;
}

int main(int argc, char **argv)
{
	int number = argc > 3 ? number_of(argv[1]) : -1;
	unsigned int error = argc > 3 ? (unsigned int)atoi(argv[2]) & SECCOMP_RET_DATA : 0;
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned int)number, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {sizeof(filter) / sizeof(filter[0]), filter};

	if (number < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0) {
		perror("failing");
		return 77;
	}
	execv(argv[3], argv + 3);
	perror(argv[3]);
	return 77;
}
