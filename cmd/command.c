/* SPDX-License-Identifier: MIT */
#include "cmd/command.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/log.h"

static const char version[] = "minivmm " MINIVMM_VERSION "\n";

static void print_help(const struct command_set *set, FILE *to)
{
	fprintf(to, "Usage: minivmm %s COMMAND [ARGUMENT]...\n%s\n", set->word, set->about);
	for (size_t i = 0; i < set->count; i++)
		fprintf(to, "  %-8s  %s\n", set->commands[i].name, set->commands[i].summary);
	fprintf(to, "\nminivmm %s COMMAND --help says more about each, man minivmm-%s all.\n",
		set->word, set->word);
}

/* A letter that is no option, not an option whose value has no place. */
static bool is_unknown_letter(const char *shorts)
{
	return optopt && optopt <= CHAR_MAX && (optopt == ':' || !strchr(shorts, optopt));
}

int command_getopt(int argc, char **argv, const char *shorts, const struct option *longs,
		   const char *help)
{
	const char *arg; /* the one before, if a letter has others behind it */
	int option;

	opterr = 0;
	option = getopt_long(argc, argv, shorts, longs, NULL);
	if (option == 'h' || option == 'V') {
		fputs(option == 'h' ? help : version, stdout);
		exit(command_flush() < 0 ? COMMAND_FAILED : COMMAND_OK);
	}
	if (option != '?' && option != ':')
		return option;
	arg = argv[optind - 1];
	if (option == ':')
		log_error("%s: %s: a value is missing", argv[0], arg);
	else if (is_unknown_letter(shorts))
		log_error("%s: -%c: unknown option (see minivmm %s --help)", argv[0],
			  optopt > ' ' && optopt < 0x7f ? optopt : '?', argv[0]);
	else if (optopt) /* then it knows the option */
		log_error("%s: %s: this option takes no value", argv[0], arg);
	else
		log_error("%s: %s: unknown option (see minivmm %s --help)", argv[0], arg, argv[0]);
	return '?';
}

int command_operands(const char *what, int argc, char **argv, int min, int max)
{
	if (argc - optind < min) {
		log_error("%s: %s is expected (see minivmm %s --help)", argv[0], what, argv[0]);
		return -EINVAL;
	}
	if (argc - optind > max) {
		log_error("%s: '%s': unexpected argument (see minivmm %s --help)", argv[0],
			  argv[optind + max], argv[0]);
		return -EINVAL;
	}
	return 0;
}

int command_flush(void)
{
	int r = fflush(stdout), err = errno;

	if (r == 0 && !ferror(stdout))
		return 0;
	log_error("standard output cannot be written: %s", strerror(r < 0 ? err : EIO));
	return -EIO;
}

static bool is_option(const char *word, const char *name, const char *letter)
{
	return strcmp(word, name) == 0 || strcmp(word, letter) == 0;
}

int command_main(const struct command_set *set, int argc, char **argv)
{
	char name[32];

	if (argc < 2) {
		print_help(set, stderr);
		return COMMAND_USAGE;
	}
	if (is_option(argv[1], "--help", "-h")) {
		print_help(set, stdout);
		return command_flush() < 0 ? COMMAND_FAILED : COMMAND_OK;
	}
	if (is_option(argv[1], "--version", "-V")) {
		fputs(version, stdout);
		return COMMAND_OK;
	}
	for (size_t i = 0; i < set->count; i++) {
		if (strcmp(argv[1], set->commands[i].name) != 0)
			continue;
		snprintf(name, sizeof(name), "%s %s", set->word, argv[1]);
		argv[1] = name;
		return set->commands[i].run(argc - 1, argv + 1);
	}
	log_error("%s %s: unknown command (see minivmm %s --help)", set->word, argv[1], set->word);
	return COMMAND_USAGE;
}
