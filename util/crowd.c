/* SPDX-License-Identifier: MIT */
#include "util/crowd.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "util/util.h"

#define LOOK_NS 1000000u
/* Of the last looks; what runs for a moment now and then is no crowd. */
#define SCORE_MAX 8
#define SCORE_CROWD 4

unsigned int processors_allowed(void)
{
	cpu_set_t set;

	/* It fails where there are more than a cpu_set_t has bits for. */
	return sched_getaffinity(0, sizeof(set), &set) < 0 ? CPU_SETSIZE
							    : (unsigned int)CPU_COUNT(&set);
}

void crowd_init(struct crowd *crowd)
{
	*crowd = (struct crowd){.fd = -1};
}

/* Not before it is wanted: most loops live without. */
static void crowd_open(struct crowd *crowd)
{
	long online = sysconf(_SC_NPROCESSORS_ONLN);

	crowd->fd = open("/proc/loadavg", O_RDONLY | O_CLOEXEC);
	crowd->processors = (unsigned int)MAX(online, 1);
}

void crowd_finish(struct crowd *crowd)
{
	if (crowd->fd >= 0)
		close(crowd->fd);
}

bool crowd_hears(struct crowd *crowd, const char *loadavg)
{
	unsigned int runnable;

	if (sscanf(loadavg, "%*s %*s %*s %u/", &runnable) != 1)
		return false;
	if (runnable > crowd->processors)
		crowd->score = MIN(crowd->score + 1, SCORE_MAX);
	else if (crowd->score)
		crowd->score--;
	return crowd->score >= SCORE_CROWD;
}

bool crowd_is(struct crowd *crowd, uint64_t now_ns)
{
	char text[128];
	ssize_t n;

	if (now_ns - crowd->looked_ns < LOOK_NS)
		return crowd->score >= SCORE_CROWD;
	crowd->looked_ns = now_ns;
	if (!crowd->processors)
		crowd_open(crowd);
	n = crowd->fd < 0 ? -1 : pread(crowd->fd, text, sizeof(text) - 1, 0);
	if (n <= 0)
		return false;
	text[n] = '\0';
	return crowd_hears(crowd, text);
}
