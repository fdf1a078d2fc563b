/* SPDX-License-Identifier: MIT */
/* `minivmm disk SUBCOMMAND ...`: one file per subcommand, and a line for it in disk.c. */
#pragma once

#include "block/block.h"
#include "cmd/command.h"

/* As command.h has it; the exit statuses of `check` and `verify` are others (see their files). */
int disk_check(int argc, char **argv);
int disk_create(int argc, char **argv);
int disk_info(int argc, char **argv);
int disk_map(int argc, char **argv);
int disk_verify(int argc, char **argv);

/* qcow2 or raw, the value of `option` of `command`, "disk map" say; logs. */
int disk_parse_format(const char *command, const char *option, const char *text,
		      enum blk_format *out);
