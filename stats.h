/* SPDX-License-Identifier: MIT */
/* `--stats`: what left the guest for user space. */
#pragma once

struct vm;

/* A table on stderr, per vCPU, the most frequent first. The vCPUs are stopped. */
void stats_print(const struct vm *vm);
