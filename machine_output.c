/* SPDX-License-Identifier: MIT */
/* Where reports go: files the user named, and standard error. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "machine_impl.h"
#include "util/log.h"

int output_open(const char *option, const char *path, FILE **file)
{
	int r;

	*file = NULL;
	if (!path)
		return 0;
	*file = fopen(path, "we");
	if (*file)
		return 0;
	r = -errno;
	log_error("%s=%s: %s", option, path, strerror(-r));
	return r;
}

void output_close(const char *option, const char *path, FILE *file)
{
	if (file && fclose(file) != 0)
		log_error("%s=%s: cannot be written: %s", option, path, strerror(errno));
}

/* A terminal is in raw mode, where a line's end alone does not go back to its start. */
static void put_lines(char *text)
{
	const char *end = isatty(STDERR_FILENO) ? "\r\n" : "\n";
	char *line;

	while ((line = strsep(&text, "\n")) && text)
		fprintf(stderr, "%s%s", line, end);
}

void machine_print(const struct machine *machine,
		   void (*print)(const struct machine *machine, FILE *to))
{
	char *text = NULL;
	size_t len;
	FILE *to = open_memstream(&text, &len);

	if (!to)
		return;
	print(machine, to);
	if (fclose(to) == 0)
		put_lines(text);
	free(text);
}
