/* SPDX-License-Identifier: MIT */
/* Command lines, and what options_parse makes of them: for tests of options. */
#pragma once

#include <stdio.h>

#include "options.h"
#include "tests/unit/capture.h"

#define ARGS_MAX 80

static char text[8192], *args[ARGS_MAX + 1];
static struct machine_config config;

/* `line` is cut at '|': arguments may hold spaces and be empty. */
static inline enum options_result parse(const char *line)
{
	int argc = 0;
	char *at = text;

	assert_true(strlen(line) < sizeof(text));
	strcpy(text, line);
	args[argc++] = (char *)"minivmm";
	for (char *end; at; at = end) {
		end = strchr(at, '|');
		if (end)
			*end++ = '\0';
		assert_true(argc < ARGS_MAX);
		args[argc++] = at;
	}
	args[argc] = NULL;
	memset(&config, 0x5a, sizeof(config));
	return options_parse(argc, args, &config);
}

static inline void parse_ok(const char *line)
{
	capture_start();
	if (parse(line) != OPTIONS_RUN)
		fail_msg("%s: %s", line, capture_end());
	assert_string_equal(capture_end(), "");
}

/* What is wrong, and two things that the one line about it names: the thing and the reason or
 * remedy. */
struct bad_line {
	const char *line, *names, *says;
};

static inline void assert_bad_lines(const struct bad_line *lines, size_t count)
{
	unsigned int wrong = 0;

	for (size_t i = 0; i < count; i++) {
		enum options_result result;
		const char *said;
		bool good;

		capture_start();
		result = parse(lines[i].line);
		said = capture_end();
		good = result == OPTIONS_ERROR && strncmp(said, "minivmm: ", 9) == 0 &&
		       capture_lines(said) == 1 && strstr(said, lines[i].names) &&
		       strstr(said, lines[i].says);
		if (good)
			continue;
		wrong++;
		print_error("%s: result %d: %s\n", lines[i].line, result, said);
	}
	assert_int_equal(wrong, 0);
}
