/* SPDX-License-Identifier: MIT */
/* `--pin`: which of the host's processors the machine's threads run on. */
#pragma once

#include <sched.h>

struct pin_options {
	const char *vcpus; /* "0-3+8", one for each vCPU in turn; "auto"; or NULL: anywhere */
	const char *io;    /* all other threads; NULL: anywhere, with "auto" what is left */
};

/*
 * Choose where each of `count` vCPUs may run, and put this thread, with all that it will make,
 * where the I/O threads are to be. *out is an array, free with free(); NULL: nothing was asked.
 * 0 or -errno; logs.
 */
int pin_threads(const struct pin_options *options, unsigned int count, unsigned int threads,
		cpu_set_t **out);
