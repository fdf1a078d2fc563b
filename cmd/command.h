/* SPDX-License-Identifier: MIT */
/* What the programs behind `minivmm WORD` have in common: subcommands, and options of each. */
#pragma once

#include <getopt.h>
#include <stddef.h>

enum command_exit {
	COMMAND_OK = 0,
	COMMAND_FAILED = 1,
	COMMAND_USAGE = 2,
};

struct command {
	const char *name;
	/* `argv[0]` is "WORD NAME". The exit status comes back; errors are logged. */
	int (*run)(int argc, char **argv);
	const char *summary;
};

struct command_set {
	const char *word;  /* of `minivmm WORD` */
	const char *about; /* a sentence, with its newline */
	const struct command *commands;
	size_t count;
};

/* What main() returns. */
int command_main(const struct command_set *set, int argc, char **argv);

/*
 * The next option of `minivmm argv[0]`, as getopt_long (operands may come before or after), or
 * '?' after a line about what is wrong with it, or -1. `--help` prints `help` and exits, and so
 * does `--version` with its own where it is an option, 'V'.
 */
int command_getopt(int argc, char **argv, const char *shorts, const struct option *longs,
		   const char *help);
/* What every subcommand's list of options ends with. */
#define COMMAND_OPTIONS_END {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}

/* That there are `min` to `max` operands, the first of them "a file's name" say; logs. */
int command_operands(const char *what, int argc, char **argv, int min, int max);

/* All that was printed is out: 0, or -EIO; logs. */
int command_flush(void);
