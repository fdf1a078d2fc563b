/* SPDX-License-Identifier: MIT */
/* What was logged, for tests. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

/* Standard error between the two calls; the text is the caller's until the next caught_end. */
static int caught_fd, caught_saved;

static inline void caught_begin(void)
{
	caught_fd = memfd_create("stderr", MFD_CLOEXEC);
	caught_saved = dup(STDERR_FILENO);
	assert_true(dup2(caught_fd, STDERR_FILENO) >= 0);
}

static inline const char *caught_end(void)
{
	static char text[8192];
	ssize_t len;

	dup2(caught_saved, STDERR_FILENO);
	close(caught_saved);
	len = pread(caught_fd, text, sizeof(text) - 1, 0);
	close(caught_fd);
	assert_true(len >= 0);
	text[len] = '\0';
	return text;
}

/* One line, of our shape, that has `needle` and a remedy. */
static inline void assert_one_error(const char *text, const char *needle)
{
	const char *end = strchr(text, '\n');

	if (!end || end[1] || strncmp(text, "minivmm: ", 9) != 0)
		fail_msg("not one line: '%s'", text);
	if (!strstr(text, needle))
		fail_msg("no '%s' in: %s", needle, text);
	if (end[-1] != ')')
		fail_msg("no remedy in: %s", text);
}
