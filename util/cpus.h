/* SPDX-License-Identifier: MIT */
/* The host's processors by number. */
#pragma once

/*
 * "0-3+8", or with commas as the kernel writes it, into `cpus`, in that order. How many, -EINVAL:
 * no such list, one number twice, or -ERANGE: a number from `max` on.
 */
int cpus_parse(const char *text, unsigned int *cpus, unsigned int max);
/* The threads of its core, itself among them, ascending. How many, or -errno. */
int cpus_siblings(unsigned int cpu, unsigned int *cpus, unsigned int max);
