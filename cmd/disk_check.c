/* SPDX-License-Identifier: MIT */
/* `minivmm disk check`, with the exit statuses of qemu-img check. */
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "block/image.h"
#include "block/impl.h"
#include "block/qcow2/check.h"
#include "cmd/command.h"
#include "cmd/disk.h"
#include "cmd/json.h"
#include "util/log.h"

static const char help[] =
	"Usage: minivmm disk check FILE [OPTION]...\n"
	"See whether the tables of a qcow2 image agree with each other.\n"
	"\n"
	"  -r, --repair leaks|all  leaks: give back space that nothing refers to, if that is\n"
	"                          all that is wrong; all: set wrong counts and flags right\n"
	"      --json              report as JSON\n"
	"\n"
	"Exit status: 0 nothing is wrong (any more), 1 it could not be checked, 2 it is\n"
	"corrupt, 3 it has leaks and nothing else, 63 not an image that can be checked.\n";

enum check_exit {
	CHECK_CLEAN = 0,
	CHECK_FAILED = 1, /* bad usage as well: 2 would say too much */
	CHECK_CORRUPT = 2,
	CHECK_LEAKS = 3,
	CHECK_NOT_SUPPORTED = 63,
};

enum {
	OPTION_JSON = 256,
};

static const struct option options[] = {
	{"repair", required_argument, NULL, 'r'},
	{"json", no_argument, NULL, OPTION_JSON},
	COMMAND_OPTIONS_END,
};

struct check_args {
	const char *path;
	enum check_repair repair;
	bool json;
};

static int parse_repair(const char *text, struct check_args *args)
{
	if (strcmp(text, "leaks") == 0)
		args->repair = CHECK_REPAIR_LEAKS;
	else if (strcmp(text, "all") == 0)
		args->repair = CHECK_REPAIR_ALL;
	else {
		log_error("disk check: --repair %s: leaks or all is expected", text);
		return -EINVAL;
	}
	return 0;
}

static int parse(int argc, char **argv, struct check_args *args)
{
	int option;

	while ((option = command_getopt(argc, argv, ":r:h", options, help)) != -1) {
		if (option == '?' || (option == 'r' && parse_repair(optarg, args) < 0))
			return -EINVAL;
		if (option == OPTION_JSON)
			args->json = true;
	}
	if (command_operands("a file's name", argc, argv, 1, 1) < 0)
		return -EINVAL;
	args->path = argv[optind];
	return 0;
}

/* --- the report --- */

static void print_line(void *arg, const char *line)
{
	puts(line);
}

static void add_line(void *arg, const char *line)
{
	json_array_append_new(arg, json_text(line));
}

static double percent(uint64_t part, uint64_t whole)
{
	return whole ? 100.0 * (double)part / (double)whole : 0;
}

static void print_verdict(const struct check_report *r, const struct check_args *args)
{
	uint64_t all = r->corruptions + r->leaks;

	if (all > CHECK_LINES_MAX)
		puts("(and so on)");
	if (r->leaks_fixed || r->corruptions_fixed)
		printf("Repaired: %" PRIu64 " leaks, %" PRIu64 " errors.\n", r->leaks_fixed,
		       r->corruptions_fixed);
	if (r->errors)
		printf("%" PRIu64 " parts could not be checked.\n", r->errors);
	if (r->corruptions)
		printf("%" PRIu64 " errors: data may be damaged, and writing may damage more (%s: "
		       "%s %s).\n", r->corruptions,
		       args->repair == CHECK_REPAIR_ALL ? "beyond this command, try" : "try",
		       args->repair == CHECK_REPAIR_ALL ? "qemu-img check -r all"
		       : "minivmm disk check --repair all", args->path);
	if (r->leaks)
		printf("%" PRIu64 " leaked clusters: space is lost, data is not harmed.\n",
		       r->leaks);
	if (!all && !r->errors)
		puts("No errors.");
	printf("%" PRIu64 "/%" PRIu64 " = %.2f%% allocated, %.2f%% fragmented, %.2f%% "
	       "compressed clusters\n", r->allocated, r->clusters,
	       percent(r->allocated, r->clusters), percent(r->fragmented, r->allocated),
	       percent(r->compressed, r->allocated));
	printf("Image end offset: %" PRIu64 "\n", r->end_bytes);
}

static void put_report(json_t *root, const struct check_report *r, const struct check_args *args)
{
	json_put_text(root, "filename", args->path);
	json_put_text(root, "format", "qcow2");
	json_put_number(root, "check-errors", r->errors);
	json_put_number(root, "corruptions", r->corruptions);
	json_put_number(root, "leaks", r->leaks);
	json_put_number(root, "corruptions-fixed", r->corruptions_fixed);
	json_put_number(root, "leaks-fixed", r->leaks_fixed);
	json_put_number(root, "total-clusters", r->clusters);
	json_put_number(root, "allocated-clusters", r->allocated);
	json_put_number(root, "fragmented-clusters", r->fragmented);
	json_put_number(root, "compressed-clusters", r->compressed);
	json_put_number(root, "image-end-offset", r->end_bytes);
}

static int status_of(const struct check_report *r)
{
	if (r->errors)
		return CHECK_FAILED;
	if (r->corruptions)
		return CHECK_CORRUPT;
	return r->leaks ? CHECK_LEAKS : CHECK_CLEAN;
}

static int check_text(const struct image *img, const struct check_args *args)
{
	struct check_options opts = {.found = print_line, .repair = args->repair};
	struct check_report report;

	if (check_image(img, &opts, &report) < 0)
		return CHECK_FAILED;
	print_verdict(&report, args);
	return command_flush() < 0 ? CHECK_FAILED : status_of(&report);
}

static int check_json(const struct image *img, const struct check_args *args)
{
	json_t *root = json_object(), *lines = json_array();
	struct check_options opts = {.found = add_line, .arg = lines, .repair = args->repair};
	struct check_report report;

	json_put(root, "findings", lines);
	if (check_image(img, &opts, &report) < 0) {
		json_decref(root);
		return CHECK_FAILED;
	}
	put_report(root, &report, args);
	json_print(root);
	return command_flush() < 0 ? CHECK_FAILED : status_of(&report);
}

static int check_format(struct image *img)
{
	struct q2_refusal why;

	if (!img->looks_like || strcmp(img->looks_like, "qcow2") != 0) {
		log_error("disk %s: %s: nothing in it can be checked (only qcow2 images can)",
			  img->name, img->looks_like ? img->looks_like : "raw");
		return CHECK_NOT_SUPPORTED;
	}
	if (img->header.sound)
		return CHECK_CLEAN;
	image_judge(img, true, &why);
	log_error("disk %s: %s", img->name, why.text);
	return CHECK_FAILED;
}

int disk_check(int argc, char **argv)
{
	struct check_args args = {.repair = CHECK_REPAIR_NONE};
	struct image img;
	int status;

	if (parse(argc, argv, &args) < 0)
		return CHECK_FAILED;
	if (image_open(args.path, args.repair != CHECK_REPAIR_NONE, &img) < 0)
		return CHECK_FAILED;
	status = check_format(&img);
	if (!status && (lock_image(img.fd, args.path, args.repair == CHECK_REPAIR_NONE) < 0 ||
			image_from_fd(img.fd, args.path, &img) < 0)) /* may have changed before */
		status = CHECK_FAILED;
	if (!status)
		status = check_format(&img);
	if (!status)
		status = args.json ? check_json(&img, &args) : check_text(&img, &args);
	image_close(&img);
	return status;
}
