/* SPDX-License-Identifier: MIT */
#include "boot/cmdline.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/block.h"
#include "boot/disk.h"
#include "util/log.h"

#define CONSOLE "console=ttyS0"

static int read_blk(void *owner, void *buf, uint64_t len_bytes, uint64_t offset_bytes)
{
	return blk_read_sync(owner, buf, len_bytes, offset_bytes);
}

static const struct disk_ops blk_ops = {.read = read_blk};

static int with_root(const struct disk_root *root, bool readonly, char **out)
{
	return asprintf(out, CONSOLE " root=%s %s%s%s", root->device, readonly ? "ro" : "rw",
			root->fstype ? " rootfstype=" : "", root->fstype ? root->fstype : "");
}

int cmdline_make(struct blk *disk, bool readonly, char **out)
{
	struct disk_root root;
	struct disk view;
	int ret = -ENOENT;

	if (disk) {
		view = (struct disk){&blk_ops, disk, blk_info(disk)->size_bytes};
		ret = disk_find_root(&view, &root);
		if (ret == -ENOENT)
			log_warn("the first disk has no root file system that can be told: "
				 "starting without root= (use --cmdline)");
		else if (ret < 0)
			log_error("cannot read the first disk to find its root: %s (use "
				  "--cmdline)", strerror(-ret));
		if (ret < 0 && ret != -ENOENT)
			return ret;
	}
	ret = ret == 0 ? with_root(&root, readonly, out) : asprintf(out, CONSOLE);
	if (ret < 0) {
		*out = NULL;
		return -ENOMEM;
	}
	return 0;
}
