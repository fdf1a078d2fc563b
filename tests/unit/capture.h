/* SPDX-License-Identifier: MIT */
/* What is said on stderr between two calls, for tests of messages. */
#pragma once

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

static int capture_stderr = -1, capture_file = -1;
static char capture_text[65536];

static inline void capture_start(void)
{
	assert_int_equal(capture_file, -1);
	capture_file = memfd_create("stderr", MFD_CLOEXEC);
	fcntl(capture_file, F_SETFL, O_APPEND); /* a memfd has no lock on its position */
	capture_stderr = dup(STDERR_FILENO);
	assert_true(capture_file >= 0 && capture_stderr >= 0);
	dup2(capture_file, STDERR_FILENO);
}

/* The text since capture_start; also does as a teardown, when an assertion failed between. */
static inline const char *capture_end(void)
{
	ssize_t len;

	if (capture_file < 0)
		return "";
	dup2(capture_stderr, STDERR_FILENO);
	close(capture_stderr);
	len = pread(capture_file, capture_text, sizeof(capture_text) - 1, 0);
	close(capture_file);
	capture_file = capture_stderr = -1;
	capture_text[len > 0 ? len : 0] = '\0';
	return capture_text;
}

static inline int capture_teardown(void **state)
{
	capture_end();
	return 0;
}

static inline unsigned int capture_lines(const char *text)
{
	unsigned int lines = 0;

	for (; *text; text++)
		lines += *text == '\n';
	return lines;
}

/* Exactly one message, with the prefix and the newline. */
static inline void assert_one_line(const char *text)
{
	static const char prefix[] = "minivmm: ";
	size_t len = strlen(text);

	if (strncmp(text, prefix, sizeof(prefix) - 1) != 0 || capture_lines(text) != 1 ||
	    text[len - 1] != '\n' || len < sizeof(prefix) + 1)
		fail_msg("not one line: '%s'", text);
}

static inline void assert_says(const char *text, const char *part)
{
	if (!strstr(text, part))
		fail_msg("'%s' is not in '%s'", part, text);
}
