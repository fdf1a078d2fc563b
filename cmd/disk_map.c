/* SPDX-License-Identifier: MIT */
/* `minivmm disk map`: one line for what is of one kind and in a row. */
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/block.h"
#include "cmd/command.h"
#include "cmd/disk.h"
#include "cmd/json.h"
#include "cmd/print.h"
#include "util/log.h"
#include "util/loop.h"
#include "util/util.h"

static const char help[] =
	"Usage: minivmm disk map FILE [OPTION]...\n"
	"Say where each part of a disk is: in which file, at which offset.\n"
	"\n"
	"  -f, --format qcow2|raw     without it, a name in .qcow2 is qcow2, any other raw\n"
	"      --backing on|off|DIR   follow the backing file that the image names, with DIR\n"
	"                             (which has a / in it) only below there (default off)\n"
	"      --json                 as JSON\n";

enum {
	OPTION_JSON = 256,
	OPTION_BACKING,
};

static const struct option options[] = {
	{"format", required_argument, NULL, 'f'},
	{"backing", required_argument, NULL, OPTION_BACKING},
	{"json", no_argument, NULL, OPTION_JSON},
	COMMAND_OPTIONS_END,
};

static int parse_backing(const char *text, struct blk_options *opts)
{
	bool is_dir = strchr(text, '/');

	if (!is_dir && strcmp(text, "on") != 0 && strcmp(text, "off") != 0) {
		log_error("disk map: --backing %s: on, off or a directory (with a / in its name) "
			  "is expected", text);
		return -EINVAL;
	}
	opts->backing = strcmp(text, "off") != 0 ? BLK_BACKING_ON : BLK_BACKING_OFF;
	opts->backing_dir = is_dir ? text : NULL;
	return 0;
}

static int parse(int argc, char **argv, struct blk_options *opts, bool *json)
{
	int option, r = 0;

	while (!r && (option = command_getopt(argc, argv, ":f:h", options, help)) != -1) {
		if (option == '?')
			r = -EINVAL;
		else if (option == 'f')
			r = disk_parse_format(argv[0], "--format", optarg, &opts->format);
		else if (option == OPTION_BACKING)
			r = parse_backing(optarg, opts);
		else
			*json = true;
	}
	if (!r)
		r = command_operands("a file's name", argc, argv, 1, 1);
	if (!r)
		opts->path = argv[optind];
	return r;
}

/* --- extents --- */

struct map {
	bool json;
	unsigned int printed;
	uint64_t start;
	struct blk_extent extent; /* what begins at `start`; to be printed once it ends */
};

static void print_text(const struct map *map)
{
	const struct blk_extent *e = &map->extent;

	if (e->kind == BLK_EXTENT_ZERO)
		return;
	if (!map->printed)
		printf("%-16s%-16s%-16s%s\n", "Offset", "Length", "Mapped to", "File");
	printf("%#-16" PRIx64 "%#-16" PRIx64, map->start, e->len_bytes);
	if (e->has_host)
		printf("%#-16" PRIx64, e->host_bytes);
	else
		printf("%-16s", "(compressed)");
	print_clean(e->file);
	putchar('\n');
}

static void print_json(const struct map *map)
{
	const struct blk_extent *e = &map->extent;
	json_t *item = json_object();

	json_put_number(item, "start", map->start);
	json_put_number(item, "length", e->len_bytes);
	json_put_number(item, "depth", e->depth);
	json_put(item, "present", json_boolean(e->present));
	json_put(item, "zero", json_boolean(e->kind == BLK_EXTENT_ZERO));
	json_put(item, "data", json_boolean(e->kind != BLK_EXTENT_ZERO));
	json_put(item, "compressed", json_boolean(e->kind == BLK_EXTENT_COMPRESSED));
	if (e->has_host)
		json_put_number(item, "offset", e->host_bytes);
	if (e->present)
		json_put_text(item, "filename", e->file);
	fputs(map->printed ? ",\n" : "[", stdout);
	json_dumpf(item, stdout, 0);
	json_decref(item);
}

static void flush_extent(struct map *map)
{
	if (!map->extent.len_bytes)
		return;
	if (map->json)
		print_json(map);
	else
		print_text(map);
	map->printed += map->json || map->extent.kind != BLK_EXTENT_ZERO;
}

static bool continues(const struct blk_extent *a, const struct blk_extent *b)
{
	return a->kind == b->kind && a->present == b->present && a->depth == b->depth &&
	       a->has_host == b->has_host && a->file == b->file &&
	       (!a->has_host || a->host_bytes + a->len_bytes == b->host_bytes);
}

static void add_extent(struct map *map, uint64_t at, const struct blk_extent *e)
{
	if (map->extent.len_bytes && continues(&map->extent, e)) {
		map->extent.len_bytes += e->len_bytes;
		return;
	}
	flush_extent(map);
	map->start = at;
	map->extent = *e;
}

static int print_all(struct blk *blk, bool json)
{
	uint64_t size = blk_info(blk)->size_bytes, at = 0;
	struct map map = {.json = json};
	struct blk_extent e;
	int r;

	for (; at < size; at += e.len_bytes) {
		r = blk_map(blk, at, size - at, &e);
		if (r < 0) {
			log_error("disk map: offset 0x%" PRIx64 ": %s", at, strerror(-r));
			return r;
		}
		add_extent(&map, at, &e);
	}
	flush_extent(&map);
	if (json)
		puts(map.printed ? "]" : "[]");
	return command_flush();
}

int disk_map(int argc, char **argv)
{
	struct blk_options opts = {.readonly = true};
	struct loop *loop;
	struct blk *blk;
	bool json = false;
	int r;

	if (parse(argc, argv, &opts, &json) < 0)
		return COMMAND_USAGE;
	if (loop_create("disk", &loop) < 0)
		return COMMAND_FAILED;
	r = blk_open(loop, &opts, &blk);
	if (!r) {
		r = print_all(blk, json);
		blk_close(blk);
	}
	loop_destroy(loop);
	return r < 0 ? COMMAND_FAILED : COMMAND_OK;
}
