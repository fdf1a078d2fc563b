/* SPDX-License-Identifier: MIT */
#include "cmd/disk.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "util/log.h"
#include "util/util.h"

static const struct command commands[] = {
	{"check", disk_check, "see whether a qcow2 image's tables agree"},
	{"create", disk_create, "make a disk image"},
	{"info", disk_info, "say what an image is, and whether minivmm can use it"},
	{"map", disk_map, "say where each part of a disk is"},
	{"verify", disk_verify, "read a qcow2 image with two engines and compare"},
};

int disk_parse_format(const char *command, const char *option, const char *text,
		      enum blk_format *out)
{
	if (strcmp(text, "qcow2") == 0)
		*out = BLK_FORMAT_QCOW2;
	else if (strcmp(text, "raw") == 0)
		*out = BLK_FORMAT_RAW;
	else {
		log_error("%s: %s %s: qcow2 or raw is expected", command, option, text);
		return -EINVAL;
	}
	return 0;
}

int main(int argc, char **argv)
{
	static const struct command_set set = {
		.word = "disk",
		.about = "Make disk images, and look into them.\n",
		.commands = commands,
		.count = ARRAY_LEN(commands),
	};

	return command_main(&set, argc, argv);
}
