/* SPDX-License-Identifier: MIT */
/* What `minivmm disk info` finds out, and its two ways to say it. */
#pragma once

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "block/image.h"

/* What minivmm can do with the image as a disk, by its header. */
enum info_opens {
	INFO_OPENS_NOT,
	INFO_OPENS_READONLY,
	INFO_OPENS,
};

struct info {
	struct image img;
	const char *format;
	uint64_t virtual_bytes;
	bool has_virtual_bytes;
	uint64_t cluster_bytes; /* 0: there are none */
	bool encrypted;
	char backing[PATH_MAX]; /* the name that the image has, from here; "": none, or no file */
	enum image_use use;
	enum info_opens opens;
	struct q2_refusal why; /* it is not opened, or not for writing */
	char option[PATH_MAX + 128]; /* the --disk that opens it */
};

static inline bool info_is_qcow2(const struct info *info)
{
	return info->cluster_bytes && info->img.header.version >= 2;
}

/* On stdout. 0 or -1; logs. */
int info_print_text(const struct info *info);
int info_print_json(const struct info *info);

const char *info_use_name(enum image_use use);
const char *info_compression(const struct info *info);
