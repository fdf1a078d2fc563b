/* SPDX-License-Identifier: MIT */
/* A run directory for tests, and this process as a machine in it. */
#pragma once

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "util/run_dir.h"
#include "util/util.h"

#define NOBODY 65534

static char base[64], dir[128];

static inline int make_base(void **state)
{
	/* What is in memory, as /run is, where there is such a thing. */
	strcpy(base, access("/dev/shm", W_OK) ? "/tmp/minivmm-run-XXXXXX"
					      : "/dev/shm/minivmm-run-XXXXXX");
	if (!mkdtemp(base))
		return -1;
	snprintf(dir, sizeof(dir), "%s/minivmm", base);
	return 0;
}

static inline int remove_base(void **state)
{
	char command[160];

	snprintf(command, sizeof(command), "rm -rf '%s'", base);
	return system(command);
}

struct seen {
	struct run_reader reader;
	struct run_found last;
	unsigned int count;
};

static inline void note(struct run_reader *reader, const struct run_found *found)
{
	struct seen *seen = CONTAINER_OF(reader, struct seen, reader);

	seen->last = *found;
	seen->count++;
}

static inline const struct seen *look_at(const char *path)
{
	static struct seen seen;

	memset(&seen, 0, sizeof(seen));
	seen.reader.found = note;
	assert_int_equal(run_read_in(&seen.reader, path), 0);
	return &seen;
}

static inline void see(unsigned int count, unsigned int unreadable)
{
	const struct seen *seen = look_at(dir);

	assert_int_equal(seen->count, count);
	assert_int_equal(seen->reader.unreadable, unreadable);
}

static inline struct run_entry example(void)
{
	return (struct run_entry){
		.name = "web", .nic_count = 2, .nics = {{.name = "net0"}, {.name = "net1"}},
	};
}

static inline struct run *publish(void)
{
	struct run_entry entry = example();
	struct run *run = NULL;

	assert_int_equal(run_publish_in(dir, &entry, &run), 0);
	return run;
}

static inline int publish_fails(void)
{
	struct run_entry entry = example();
	struct run *run = NULL;
	int r = run_publish_in(dir, &entry, &run);

	assert_true(r < 0);
	assert_null(run);
	return r;
}

/* What must be done by somebody else, in a process of its own. */
static inline void as_nobody(void (*act)(void))
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		if (setgid(NOBODY) < 0 || setuid(NOBODY) < 0)
			_exit(77);
		act();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_base, remove_base)
