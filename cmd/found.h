/* SPDX-License-Identifier: MIT */
/* Which of the machines that run, and in which order. */
#pragma once

#include <stdbool.h>

#include "util/run_entry.h"

/* Is it the one with this name or process id? NULL: all are. */
bool found_is(const struct run_entry *entry, const char *wanted);
/* By name, then by process id; as qsort has it. */
int found_order(const struct run_entry *left, const struct run_entry *right);
/* Say that there is none, for `minivmm WORD`. */
void found_none(const char *word, const char *wanted);
