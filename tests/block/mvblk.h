/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct blk;
struct loop;

/* Memory that O_DIRECT can use; ends the program where there is none. Freed by free(). */
void *mvblk_buffer(size_t len_bytes, int fill);
/* `bench` with its arguments; says what is wrong. False where anything was. */
bool mvblk_bench(struct loop *loop, struct blk *blk, int argc, char **argv);
