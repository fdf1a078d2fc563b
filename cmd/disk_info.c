/* SPDX-License-Identifier: MIT */
/*
 * `minivmm disk info`: reads headers, and of the chain below nothing but the first name. So it is
 * harmless on any file, whoever made it, and while a guest uses it.
 */
#include "cmd/disk_info.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/block.h"
#include "block/decompress.h"
#include "block/qcow/image.h"
#include "cmd/command.h"
#include "cmd/disk.h"
#include "util/log.h"

static const char help[] =
	"Usage: minivmm disk info FILE [--json]\n"
	"Say what a disk image is, and whether minivmm can use it. Reads no backing file.\n";

enum {
	OPTION_JSON = 256,
};

static const struct option options[] = {
	{"json", no_argument, NULL, OPTION_JSON},
	COMMAND_OPTIONS_END,
};

const char *info_use_name(enum image_use use)
{
	switch (use) {
	case IMAGE_UNUSED:
		return "no";
	case IMAGE_READ:
		return "read";
	case IMAGE_WRITTEN:
		return "written";
	}
	return "";
}

const char *info_compression(const struct info *info)
{
	switch (info->img.header.compression) {
	case DECOMPRESS_DEFLATE:
		return "zlib";
	case DECOMPRESS_ZSTD:
		return "zstd";
	}
	return "unknown";
}

/* --- by format --- */

static void take_raw(struct info *info)
{
	info->format = "raw";
	info->virtual_bytes = info->img.file_bytes;
	info->has_virtual_bytes = true;
	info->opens = info->virtual_bytes ? INFO_OPENS : INFO_OPENS_NOT;
	if (!info->virtual_bytes)
		snprintf(info->why.text, sizeof(info->why.text), "the file is empty");
}

/* Where the backing file is, if its name is that of a file. */
static void find_backing(struct info *info)
{
	const char *name = info->img.header.backing, *slash = strrchr(info->img.name, '/');
	int dir_len = *name == '/' || !slash ? 0 : (int)(slash + 1 - info->img.name);

	if (!*name || name[strcspn(name, ":/")] == ':')
		return;
	if (snprintf(info->backing, sizeof(info->backing), "%.*s%s", dir_len, info->img.name,
		     name) >= (int)sizeof(info->backing))
		info->backing[0] = 0;
}

static int take_qcow2(struct info *info)
{
	struct q2_header *h = &info->img.header;

	if (!h->complete) {
		image_judge(&info->img, true, &info->why);
		log_error("disk %s: %s", info->img.name, info->why.text);
		return -1;
	}
	info->format = "qcow2";
	info->virtual_bytes = h->size_bytes;
	info->has_virtual_bytes = true;
	info->cluster_bytes = 1ull << h->cluster_bits;
	info->encrypted = h->crypt;
	find_backing(info);
	if (image_judge(&info->img, true, &info->why) < 0)
		info->opens = INFO_OPENS_NOT;
	else if (image_judge(&info->img, false, &info->why) < 0)
		info->opens = INFO_OPENS_READONLY;
	else
		info->opens = INFO_OPENS;
	if (!h->size_bytes && info->opens != INFO_OPENS_NOT) {
		info->opens = INFO_OPENS_NOT;
		snprintf(info->why.text, sizeof(info->why.text), "has no size (qemu-img resize %s "
			 "8G)", info->img.name);
	}
	if (info->opens == INFO_OPENS && h->crypt) {
		info->opens = INFO_OPENS_READONLY;
		snprintf(info->why.text, sizeof(info->why.text), "AES encryption is only read");
	}
	return 0;
}

static int take_qcow(struct info *info)
{
	unsigned char head[QCOW1_HEADER_BYTES];
	struct qcow1_header h;

	if (image_read(&info->img, head, sizeof(head), 0) < 0 ||
	    qcow1_parse_header(head, sizeof(head), info->img.file_bytes, info->img.name, &h) < 0)
		return -1;
	info->format = "qcow";
	info->virtual_bytes = h.size_bytes;
	info->has_virtual_bytes = true;
	info->cluster_bytes = 1ull << h.cluster_bits;
	info->encrypted = h.crypt;
	info->opens = h.backing_offset ? INFO_OPENS_NOT : INFO_OPENS_READONLY;
	snprintf(info->why.text, sizeof(info->why.text), h.backing_offset
		 ? "qcow with a backing file is not supported (convert it: qemu-img convert)"
		 : "this format is only read");
	return 0;
}

static void take_other(struct info *info)
{
	info->format = info->img.looks_like;
	info->opens = INFO_OPENS_NOT;
	snprintf(info->why.text, sizeof(info->why.text), "this format is not supported (convert "
		 "it: qemu-img convert -O qcow2 %s new.qcow2)", info->img.name);
}

static int take(struct info *info)
{
	const char *looks_like = info->img.looks_like;

	info->use = image_use(&info->img);
	if (!looks_like) {
		take_raw(info);
		return 0;
	}
	if (strcmp(looks_like, "qcow2") == 0)
		return take_qcow2(info);
	/* Version 1, and what calls itself any other. */
	if (strcmp(looks_like, "qcow") == 0)
		return take_qcow(info);
	take_other(info);
	return 0;
}

/* --- how to use it --- */

/* In a list of options a comma is written twice. */
static size_t put_name(char *out, size_t len, const char *name)
{
	size_t n = 0;

	for (; *name && n + 2 < len; name++) {
		out[n++] = *name;
		if (*name == ',')
			out[n++] = ',';
	}
	out[n] = 0;
	return n;
}

static void make_option(struct info *info)
{
	enum blk_format by_name = blk_format_by_name(info->img.name);
	bool is_raw = strcmp(info->format, "raw") == 0;
	bool is_named = is_raw ? by_name == BLK_FORMAT_RAW
			: strcmp(info->format, "qcow2") == 0 && by_name == BLK_FORMAT_QCOW2;
	size_t n;

	if (info->opens == INFO_OPENS_NOT)
		return;
	n = put_name(info->option, PATH_MAX, info->img.name);
	snprintf(info->option + n, sizeof(info->option) - n, "%s%s%s%s%s",
		 is_named ? "" : ",format=", is_named ? "" : info->format,
		 info->img.header.backing[0] || info->img.header.data_file[0] ? ",backing=on" : "",
		 info->encrypted ? ",password-file=FILE" : "",
		 info->opens == INFO_OPENS_READONLY ? ",readonly" : "");
}

int disk_info(int argc, char **argv)
{
	struct info *info;
	bool json = false;
	int option, r;

	while ((option = command_getopt(argc, argv, ":h", options, help)) != -1) {
		if (option == '?')
			return COMMAND_USAGE;
		json = true;
	}
	if (command_operands("a file's name", argc, argv, 1, 1) < 0)
		return COMMAND_USAGE;
	info = calloc(1, sizeof(*info));
	if (!info || image_open(argv[optind], false, &info->img) < 0) {
		free(info);
		return COMMAND_FAILED;
	}
	r = take(info);
	if (!r) {
		make_option(info);
		r = json ? info_print_json(info) : info_print_text(info);
		if (!r)
			r = command_flush();
	}
	image_close(&info->img);
	free(info);
	return r < 0 ? COMMAND_FAILED : COMMAND_OK;
}
