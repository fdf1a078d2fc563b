/* SPDX-License-Identifier: MIT */
#include "cmd/bench/bench.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/bench/report.h"
#include "cmd/command.h"
#include "util/log.h"
#include "util/util.h"

static const char help[] =
	"Usage: minivmm bench [OPTION]...\n"
	"       minivmm bench host\n"
	"       minivmm bench compare BEFORE.json AFTER.json\n"
	"       minivmm bench guests DIR\n"
	"\n"
	"Measure what a machine costs on this host, with small guests of its own: starting it,\n"
	"leaving the guest, interrupts, memory, disks, the network. About a minute. `host` says only\n"
	"what of this host makes figures slow, `compare` puts two results side by side, `guests`\n"
	"writes the guests' files, to be started under other VMMs.\n"
	"\n"
	"  -o, --only TEXT           only what has TEXT in its name\n"
	"  -r, --rounds N            machines of each kind, one after the other (default 3)\n"
	"  -s, --seconds S           of each job in each machine (default 0.5)\n"
	"  -d, --dir DIR             make disk images there and use them with O_DIRECT; without it\n"
	"                            they are in memory\n"
	"  -j, --json FILE           write the figures, with what they were measured on\n"
	"      --help\n";

static const struct option options[] = {
	{"only", required_argument, NULL, 'o'},
	{"rounds", required_argument, NULL, 'r'},
	{"seconds", required_argument, NULL, 's'},
	{"dir", required_argument, NULL, 'd'},
	{"json", required_argument, NULL, 'j'},
	COMMAND_OPTIONS_END,
};

static int parse_seconds(const char *text, double *out)
{
	char *end;

	*out = strtod(text, &end);
	if (*text && !*end && *out >= 0.01 && *out <= 3600)
		return 0;
	log_error("bench: --seconds %s: 0.01 to 3600 is expected", text);
	return -EINVAL;
}

static int parse_option(int option, struct bench_options *opts)
{
	uint64_t number;

	switch (option) {
	case 'o':
		opts->only = optarg;
		return 0;
	case 'r':
		if (parse_uint(optarg, 1, 1000, &number) < 0) {
			log_error("bench: --rounds %s: 1 to 1000 is expected", optarg);
			return -EINVAL;
		}
		opts->rounds = (unsigned int)number;
		return 0;
	case 's':
		return parse_seconds(optarg, &opts->seconds);
	case 'd':
		opts->dir = optarg;
		return 0;
	case 'j':
		opts->json = optarg;
		return 0;
	default:
		return -EINVAL;
	}
}

static int parse(int argc, char **argv, struct bench_options *opts)
{
	int option;

	while ((option = command_getopt(argc, argv, ":o:r:s:d:j:h", options, help)) != -1)
		if (parse_option(option, opts) < 0)
			return -EINVAL;
	return command_operands("nothing", argc, argv, 0, 0);
}

static int report(const struct bench_options *opts, const struct lint *lint,
		  struct bench_results *results)
{
	if (!results->count) {
		log_error("bench: --only %s: nothing has that in its name", opts->only);
		return -EINVAL;
	}
	bench_print(results);
	if (command_flush() < 0)
		return -EIO;
	return opts->json ? bench_write_json(opts->json, opts, lint, results) : 0;
}

static int run(int argc, char **argv)
{
	struct bench_options opts = {.rounds = 3, .seconds = 0.5};
	struct bench_results results = {.count = 0};
	struct lint lint;
	int r;

	if (parse(argc, argv, &opts) < 0)
		return COMMAND_USAGE;
	signal(SIGPIPE, SIG_IGN);
	lint_look("", &lint); /* before we are the load */
	lint_print(&lint);
	putchar('\n');
	fflush(stdout);
	r = bench_measure(&opts, &results);
	if (!r)
		r = report(&opts, &lint, &results);
	bench_results_free(&results);
	return r < 0 ? COMMAND_FAILED : COMMAND_OK;
}

/* --- the other commands --- */

static int no_options(int argc, char **argv, const char *what, int operands)
{
	if (command_getopt(argc, argv, ":h", options + ARRAY_LEN(options) - 2, help) != -1)
		return -EINVAL;
	return command_operands(what, argc, argv, operands, operands);
}

static int host(int argc, char **argv)
{
	struct lint lint;

	if (no_options(argc, argv, "nothing", 0) < 0)
		return COMMAND_USAGE;
	lint_look("", &lint);
	lint_print(&lint);
	return command_flush() < 0 ? COMMAND_FAILED : COMMAND_OK;
}

static int compare(int argc, char **argv)
{
	if (no_options(argc, argv, "two files of --json", 2) < 0)
		return COMMAND_USAGE;
	if (bench_compare(argv[optind], argv[optind + 1]) < 0 || command_flush() < 0)
		return COMMAND_FAILED;
	return COMMAND_OK;
}

static int guests(int argc, char **argv)
{
	if (no_options(argc, argv, "a folder", 1) < 0)
		return COMMAND_USAGE;
	return bench_guests_write(argv[optind]) < 0 ? COMMAND_FAILED : COMMAND_OK;
}

int main(int argc, char **argv)
{
	static char name[] = "bench";
	static const struct command commands[] = {
		{"compare", compare, "put the figures of two files side by side"},
		{"guests", guests, "write the guests' files"},
		{"host", host, "say what of this host makes figures slow"},
	};
	static const struct command_set set = {
		.word = "bench",
		.about = "",
		.commands = commands,
		.count = ARRAY_LEN(commands),
	};

	if (argc < 2 || argv[1][0] == '-') {
		argv[0] = name;
		return run(argc, argv);
	}
	return command_main(&set, argc, argv);
}
