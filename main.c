/* SPDX-License-Identifier: MIT */
#include <stdio.h>

#include "machine.h"
#include "options.h"

#define EXIT_USAGE 2

int main(int argc, char **argv)
{
	struct machine_config config;

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
