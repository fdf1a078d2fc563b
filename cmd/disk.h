/* SPDX-License-Identifier: MIT */
/* `minivmm disk SUBCOMMAND ...`: one file per subcommand, and a line for it in disk.c. */
#pragma once

#include <getopt.h>

#include "block/block.h"

/* Exit statuses; `check` has others (see its file). */
enum disk_exit {
	DISK_OK = 0,
	DISK_FAILED = 1,
	DISK_USAGE = 2,
};

/* `argv[0]` is the subcommand's name. The exit status comes back; errors are logged. */
int disk_check(int argc, char **argv);
int disk_create(int argc, char **argv);
int disk_info(int argc, char **argv);
int disk_map(int argc, char **argv);
int disk_verify(int argc, char **argv);

/*
 * The next option of subcommand `argv[0]`, as getopt_long (operands may come before or after),
 * or '?' after a line about what is wrong with it, or -1. `--help` prints `help` and exits.
 */
int disk_getopt(int argc, char **argv, const char *shorts, const struct option *longs,
		const char *help);
/* What every subcommand's list of options ends with. */
#define DISK_OPTIONS_END {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}

/* That there are `min` to `max` operands; logs. */
int disk_operands(int argc, char **argv, int min, int max);

/* qcow2 or raw, the value of `option`; logs. */
int disk_parse_format(const char *command, const char *option, const char *text,
		      enum blk_format *out);
