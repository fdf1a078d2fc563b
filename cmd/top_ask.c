/* SPDX-License-Identifier: MIT */
/*
 * A machine is asked by its socket, and answers with a file in memory. It may be somebody else's
 * who wants us harm: we wait for a while only, and read so much only.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cmd/top.h"
#include "util/pass_fd.h"
#include "util/util.h"

#define PATIENCE_S 2
#define REPORT_MAX MIB(16)

/* Once, whole: it may change under us. */
static json_t *read_report(int fd)
{
	struct stat st;
	json_t *report = NULL;
	char *text;

	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size <= 0 ||
	    (uint64_t)st.st_size > REPORT_MAX)
		return NULL;
	text = malloc((size_t)st.st_size);
	if (text && pread_full(fd, text, (size_t)st.st_size, 0) == 0)
		report = json_loadb(text, (size_t)st.st_size, 0, NULL);
	free(text);
	return report;
}

json_t *top_ask(const struct run_found *found)
{
	int fd = run_connect(found, PATIENCE_S), report_fd;
	json_t *report = NULL;

	if (fd < 0)
		return NULL;
	report_fd = receive_fd(fd);
	close(fd);
	if (report_fd < 0)
		return NULL;
	report = read_report(report_fd);
	close(report_fd);
	return report;
}
