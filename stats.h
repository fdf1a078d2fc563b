/* SPDX-License-Identifier: MIT */
/* `--stats`: the exits to user space, what KVM counts, and what the devices do. Any time. */
#pragma once

#include <stdio.h>

struct board;

/* Tables, for people: per vCPU, the most frequent exits first, and per device. */
void stats_print(const struct board *board, FILE *to);
/* The same as one JSON object, and all histograms. */
void stats_print_json(const struct board *board, FILE *to);
