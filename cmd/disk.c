/* SPDX-License-Identifier: MIT */
#include "cmd/disk.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/command.h"
#include "util/log.h"
#include "util/util.h"

static const struct {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *summary;
} commands[] = {
	{"check", disk_check, "see whether a qcow2 image's tables agree"},
	{"create", disk_create, "make a disk image"},
	{"info", disk_info, "say what an image is, and whether minivmm can use it"},
	{"map", disk_map, "say where each part of a disk is"},
	{"verify", disk_verify, "read a qcow2 image with two engines and compare"},
};

static void print_help(FILE *to)
{
	fputs("Usage: minivmm disk COMMAND [ARGUMENT]...\n"
	      "Make disk images, and look into them.\n"
	      "\n", to);
	for (size_t i = 0; i < ARRAY_LEN(commands); i++)
		fprintf(to, "  %-8s  %s\n", commands[i].name, commands[i].summary);
	fputs("\n"
	      "minivmm disk COMMAND --help says more about each, man minivmm-disk all.\n", to);
}

int disk_getopt(int argc, char **argv, const char *shorts, const struct option *longs,
		const char *help)
{
	int option;

	opterr = 0;
	option = getopt_long(argc, argv, shorts, longs, NULL);
	if (option == 'h') {
		fputs(help, stdout);
		exit(command_flush() < 0 ? DISK_FAILED : DISK_OK);
	}
	if (option != '?' && option != ':')
		return option;
	if (option == ':')
		log_error("disk %s: %s: a value is missing", argv[0], argv[optind - 1]);
	else if (optopt > ' ' && optopt < 0x7f && strncmp(argv[optind - 1], "--", 2) != 0)
		log_error("disk %s: -%c: unknown option (see minivmm disk %s --help)", argv[0],
			  optopt, argv[0]);
	else if (optopt)
		log_error("disk %s: %s: this option takes no value", argv[0], argv[optind - 1]);
	else
		log_error("disk %s: %s: unknown option (see minivmm disk %s --help)", argv[0],
			  argv[optind - 1], argv[0]);
	return '?';
}

int disk_operands(int argc, char **argv, int min, int max)
{
	if (argc - optind < min) {
		log_error("disk %s: a file's name is expected (see minivmm disk %s --help)",
			  argv[0], argv[0]);
		return -EINVAL;
	}
	if (argc - optind > max) {
		log_error("disk %s: '%s': unexpected argument (see minivmm disk %s --help)",
			  argv[0], argv[optind + max], argv[0]);
		return -EINVAL;
	}
	return 0;
}

int disk_parse_format(const char *command, const char *option, const char *text,
		      enum blk_format *out)
{
	if (strcmp(text, "qcow2") == 0)
		*out = BLK_FORMAT_QCOW2;
	else if (strcmp(text, "raw") == 0)
		*out = BLK_FORMAT_RAW;
	else {
		log_error("disk %s: %s %s: qcow2 or raw is expected", command, option, text);
		return -EINVAL;
	}
	return 0;
}

static bool is_option(const char *word, const char *name, const char *letter)
{
	return strcmp(word, name) == 0 || strcmp(word, letter) == 0;
}

int main(int argc, char **argv)
{
	if (argc < 2) {
		print_help(stderr);
		return DISK_USAGE;
	}
	if (is_option(argv[1], "--help", "-h")) {
		print_help(stdout);
		return command_flush() < 0 ? DISK_FAILED : DISK_OK;
	}
	if (is_option(argv[1], "--version", "-V")) {
		puts("minivmm " MINIVMM_VERSION);
		return DISK_OK;
	}
	for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
		if (strcmp(argv[1], commands[i].name) == 0)
			return commands[i].run(argc - 1, argv + 1);
	}
	log_error("disk %s: unknown command (see minivmm disk --help)", argv[1]);
	return DISK_USAGE;
}
