/* SPDX-License-Identifier: MIT */
/* For tests of the loop's watches: two of them, and what they saw. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/loop_runner.h"
#include "util/loop.h"

/* One watch and what it saw. */
struct seen {
	struct loop_watch *watch;
	int fd;
	unsigned int runs;
	struct seen *other;
	uint64_t write; /* write this to the eventfd, once, from the callback */
	bool read_one;	/* read a byte from the callback */
	unsigned int quit_at;
};

static struct seen seen[2];

static inline int setup(void **state)
{
	memset(seen, 0, sizeof(seen));
	seen[0].other = &seen[1];
	seen[1].other = &seen[0];
	return loop_create("watch", &loop);
}

static inline void saw(void *arg)
{
	struct seen *s = arg;
	char byte;

	s->runs++;
	if (s->write)
		eventfd_write(s->fd, s->write);
	s->write = 0;
	if (s->read_one)
		assert_int_equal(read(s->fd, &byte, 1), 1);
	if (s->runs == s->quit_at)
		loop_quit(loop);
}

static inline void drop(struct seen *s)
{
	loop_unwatch(loop, s->watch);
	close(s->fd);
}
