/* SPDX-License-Identifier: MIT */
/*
 * Time commands from exec to the first byte they write, and to their end.
 *
 *	first_byte RUNS -- COMMAND... [-- COMMAND...]...
 *
 * The commands run in turn, RUNS times over, so that whatever else the machine does falls on
 * all of them. Prints medians with minimum and maximum, and each command's ratio to the first.
 * A command that does not end by itself within END_MS is killed, and has no end.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define COMMANDS_MAX 8
#define END_MS 200
#define RUNS_MAX 1000

extern char **environ;

struct command {
	char **argv;
	double first_ms[RUNS_MAX];
	double end_ms[RUNS_MAX];
};

static double now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec * 1e3 + (double)ts.tv_nsec / 1e6;
}

static pid_t spawn(char **argv, int out_fd)
{
	posix_spawn_file_actions_t actions;
	pid_t pid;
	int r;

	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&actions, out_fd, 1);
	posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
	r = posix_spawnp(&pid, argv[0], &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	if (r == 0)
		return pid;
	fprintf(stderr, "%s: %s\n", argv[0], strerror(r));
	exit(1);
}

/* True if it ended by itself. Killed or not, it is gone afterwards. */
static bool wait_end(pid_t pid)
{
	int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	struct pollfd pfd = {.fd = pidfd, .events = POLLIN};
	bool ended = poll(&pfd, 1, END_MS) == 1;

	if (!ended)
		kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	close(pidfd);
	return ended;
}

static void run(struct command *command, int index)
{
	int fds[2];
	double start;
	char byte;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0)
		exit(1);
	start = now_ms();
	pid = spawn(command->argv, fds[1]);
	close(fds[1]);
	if (read(fds[0], &byte, 1) != 1) {
		fprintf(stderr, "%s: wrote nothing\n", command->argv[0]);
		exit(1);
	}
	command->first_ms[index] = now_ms() - start;
	command->end_ms[index] = wait_end(pid) ? now_ms() - start : 0;
	close(fds[0]);
}

static int compare(const void *a, const void *b)
{
	const double *left = a, *right = b;

	return (*left > *right) - (*left < *right);
}

static double print_times(const char *what, double *ms, int runs)
{
	qsort(ms, (size_t)runs, sizeof(*ms), compare);
	printf("  %s %8.2f ms (%.2f to %.2f)", what, ms[runs / 2], ms[0], ms[runs - 1]);
	return ms[runs / 2];
}

static void report(struct command *commands, int count, int runs)
{
	double base_first = 0, base_end = 0;

	for (int i = 0; i < count; i++) {
		double first, end;

		first = print_times("first byte", commands[i].first_ms, runs);
		end = print_times("  end", commands[i].end_ms, runs);
		if (i == 0) {
			base_first = first;
			base_end = end;
		}
		printf("  ratio %5.2f %5.2f  %s\n", first / base_first, end / base_end,
		       commands[i].argv[0]);
	}
}

int main(int argc, char **argv)
{
	static struct command commands[COMMANDS_MAX];
	int runs = argc > 1 ? atoi(argv[1]) : 0;
	int count = 0;

	for (int i = 2; i < argc; i++) {
		if (strcmp(argv[i], "--") != 0)
			continue;
		argv[i] = NULL;
		if (count < COMMANDS_MAX && i + 1 < argc)
			commands[count++].argv = &argv[i + 1];
	}
	if (runs < 1 || runs > RUNS_MAX || !count) {
		fprintf(stderr, "usage: first_byte RUNS -- COMMAND... [-- COMMAND...]...\n");
		return 2;
	}
	for (int i = 0; i < runs; i++)
		for (int c = 0; c < count; c++)
			run(&commands[c], i);
	report(commands, count, runs);
	return 0;
}
