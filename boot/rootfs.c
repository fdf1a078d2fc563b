/* SPDX-License-Identifier: MIT */
/* Which file systems a disk holds, and which of them is the guest's root. */
#include "boot/disk.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/util.h"

#define EXT_SUPERBLOCK 1024
#define EXT_MAGIC 0x38       /* offsets in the superblock: s_magic */
#define EXT_INCOMPAT 0x60    /* s_feature_incompat */
#define EXT4_EXTENTS 0x40    /* only ext4 has it, and any ext4 does */

struct magic {
	const char *fstype;
	uint32_t offset;
	uint32_t len;
	const char *bytes;
};

static const struct magic magics[] = {
	{"xfs", 0, 4, "XFSB"},
	{"squashfs", 0, 4, "hsqs"},
	{"erofs", 1024, 4, "\xE2\xE1\xF5\xE0"},
	{"f2fs", 1024, 4, "\x10\x20\xF5\xF2"},
	{"btrfs", 0x10040, 8, "_BHRfS_M"},
};

/* ext2 and ext3 are not told apart: Linux finds out, so they get an empty name. */
static const char *ext_type(const uint8_t *superblock)
{
	uint32_t incompat;

	if (superblock[EXT_MAGIC] != 0x53 || superblock[EXT_MAGIC + 1] != 0xEF)
		return NULL;
	memcpy(&incompat, superblock + EXT_INCOMPAT, sizeof(incompat));
	return incompat & EXT4_EXTENTS ? "ext4" : "";
}

const char *disk_fstype(const struct disk *disk, uint64_t offset_bytes)
{
	uint8_t sector[DISK_SECTOR];

	for (size_t i = 0; i < ARRAY_LEN(magics); i++) {
		uint64_t at = magics[i].offset;

		if (disk_read(disk, sector, sizeof(sector),
			      offset_bytes + align_down(at, DISK_SECTOR)) < 0)
			continue;
		if (!memcmp(sector + at % DISK_SECTOR, magics[i].bytes, magics[i].len))
			return magics[i].fstype;
	}
	if (disk_read(disk, sector, sizeof(sector), offset_bytes + EXT_SUPERBLOCK) < 0)
		return NULL;
	return ext_type(sector);
}

/*
 * How likely a partition is the root: typed so, then a Linux partition with a file system we
 * know, then any Linux partition. 0: not at all.
 */
static int rank(const struct partition *part, const char *fstype)
{
	if (part->use == PARTITION_OTHER)
		return 0;
	return 1 + (fstype != NULL) + 2 * (part->use == PARTITION_LINUX_ROOT);
}

static const struct partition *choose(const struct disk *disk, const struct partition *parts,
				      int count, const char **fstype)
{
	const struct partition *best = NULL;
	int best_rank = 0;

	for (int i = 0; i < count; i++) {
		const struct partition *part = &parts[i];
		const char *type = NULL;
		int r;

		if (part->use != PARTITION_OTHER)
			type = disk_fstype(disk, part->start_bytes);
		r = rank(part, type);
		if (r > best_rank ||
		    (r && r == best_rank && part->len_bytes > best->len_bytes)) {
			best = part;
			best_rank = r;
			*fstype = type;
		}
	}
	return best;
}

static int root_whole_disk(const struct disk *disk, struct disk_root *out)
{
	out->fstype = disk_fstype(disk, 0);
	if (!out->fstype)
		return -ENOENT;
	snprintf(out->device, sizeof(out->device), "/dev/vda");
	return 0;
}

int disk_find_root(const struct disk *disk, struct disk_root *out)
{
	struct partition *parts = calloc(PARTITIONS_MAX, sizeof(*parts));
	const struct partition *root;
	int count, ret = 0;

	if (!parts)
		return -ENOMEM;
	*out = (struct disk_root){0};
	count = disk_partitions(disk, parts);
	root = choose(disk, parts, count, &out->fstype);
	if (count < 0)
		ret = count;
	else if (!root)
		ret = root_whole_disk(disk, out);
	else if (root->partuuid[0])
		snprintf(out->device, sizeof(out->device), "PARTUUID=%s", root->partuuid);
	else
		snprintf(out->device, sizeof(out->device), "/dev/vda%u", root->number);
	free(parts);
	if (ret == 0 && out->fstype && !*out->fstype)
		out->fstype = NULL;
	return ret;
}
