/* SPDX-License-Identifier: MIT */
#include "block/qcow2.h"

#include <errno.h>

#include "util/log.h"

int qcow2_create(struct bio *bio, struct loop *loop, const char *name, bool readonly,
		 struct blk **out)
{
	log_error("disk %s: qcow2 is not there yet (use format=raw)", name);
	return -ENOTSUP;
}
