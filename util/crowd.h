/* SPDX-License-Identifier: MIT */
/* Are there more threads that could run than processors? Then who only waits is in their way. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct crowd {
	int fd; /* of /proc/loadavg, or -1: not yet, or not to be had */
	unsigned int processors, score; /* 0 processors: not yet */
	uint64_t looked_ns;
};

/* Those that this process may use; 1 at least. */
unsigned int processors_allowed(void);

void crowd_init(struct crowd *crowd);
void crowd_finish(struct crowd *crowd);
/* As it mostly was of late; looks once a millisecond, if called as often. Opens what it needs. */
bool crowd_is(struct crowd *crowd, uint64_t now_ns);
/* What is said of it: with another host's text, for tests. */
bool crowd_hears(struct crowd *crowd, const char *loadavg);
