/* SPDX-License-Identifier: MIT */
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>

#include "machine.h"
#include "options.h"
#include "util/log.h"

#define EXIT_USAGE 2

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

int main(int argc, char **argv)
{
	struct machine_config config;

	if (!hold_standard_fds()) {
		log_error("cannot open /dev/null in place of a closed stdin, stdout or stderr");
		return 1;
	}
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
	return machine_run(&config);
}
