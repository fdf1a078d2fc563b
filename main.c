/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "machine.h"
#include "options.h"
#include "util/log.h"
#include "util/program.h"
#include "util/util.h"

#define EXIT_USAGE 2
#define STACK_BYTES KIB(512)

/*
 * Where one of the first three fds is closed, the next file would get its number, and the
 * guest's output with it.
 */
static bool hold_standard_fds(void)
{
	for (int fd = 0; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd)
			return false;
	return true;
}

/* Where huge pages are given to all who have room for one, each thread's stack of 8 MiB gets one. */
static void keep_stacks_small(void)
{
	pthread_attr_t attr;

	if (pthread_attr_init(&attr))
		return;
	if (!pthread_attr_setstacksize(&attr, STACK_BYTES))
		pthread_setattr_default_np(&attr);
	pthread_attr_destroy(&attr);
}

/*
 * `minivmm WORD ...` is the program minivmm-WORD: what has nothing to do with running a machine
 * costs minivmm no library and no time. Returns an exit status where there is none.
 */
static int run_command(char **argv)
{
	const char *word = argv[0];
	char name[64], path[PATH_MAX];

	snprintf(name, sizeof(name), "minivmm-%.40s", word);
	if (!*word || strlen(word) > 40 || strchr(word, '/') ||
	    program_find(name, path, sizeof(path)) < 0) {
		log_error("'%.200s': unknown command (disks are given with --disk; see minivmm "
			  "--help)", word);
		return EXIT_USAGE;
	}
	execv(path, argv);
	log_error("%s: cannot be run: %s", path, strerror(errno));
	return 1;
}

int main(int argc, char **argv)
{
	struct machine_config config;

	if (!hold_standard_fds()) {
		log_error("cannot open /dev/null in place of a closed stdin, stdout or stderr");
		return 1;
	}
	if (argc > 1 && argv[1][0] != '-')
		return run_command(argv + 1);
	switch (options_parse(argc, argv, &config)) {
	case OPTIONS_HELP:
		fputs(options_help, stdout);
		return 0;
	case OPTIONS_VERSION:
		puts("minivmm " MINIVMM_VERSION);
		return 0;
	case OPTIONS_ERROR:
		return EXIT_USAGE;
	case OPTIONS_RUN:
		break;
	}
	keep_stacks_small();
	return machine_run(&config);
}
