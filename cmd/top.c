/* SPDX-License-Identifier: MIT */
/* `minivmm top`: asks the machines of the run directory, again and again. */
#include "cmd/top.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cmd/command.h"
#include "cmd/found.h"
#include "cmd/json.h"
#include "cmd/print.h"
#include "util/log.h"
#include "util/util.h"

static const char help[] =
	"Usage: minivmm top [OPTION]... [VM]\n"
	"Show what the machines do that were started with --stats, by the second: all, or the one\n"
	"with this name or process id. Ctrl-C ends it.\n"
	"\n"
	"  -i, --interval S   how long it counts each time, 0.1 to 3600 (default 1)\n"
	"  -n, --count N      so many times; without it until Ctrl-C, or once if not to a terminal\n"
	"      --json         all they have counted so far, once, as JSON\n"
	"  -h, --help         this help\n"
	"\n"
	"Others' machines answer root alone.\n";

enum {
	OPTION_JSON = 256,
};

static const struct option options[] = {
	{"interval", required_argument, NULL, 'i'},
	{"count", required_argument, NULL, 'n'},
	{"json", no_argument, NULL, OPTION_JSON},
	COMMAND_OPTIONS_END,
};

struct seen {
	struct run_entry entry;
	json_t *report; /* NULL: it counts nothing, or does not answer */
	uint64_t ns;    /* when */
};

struct top {
	struct run_reader reader;
	const char *wanted; /* or NULL: all */
	double interval_s;
	uint64_t times; /* 0: for ever */
	bool json;
	struct seen *now, *before;
	unsigned int count, before_count;
	bool no_memory;
};

/* --- asking --- */

static void found(struct run_reader *reader, const struct run_found *found)
{
	struct top *top = CONTAINER_OF(reader, struct top, reader);
	struct seen *list;

	if (!found_is(&found->entry, top->wanted))
		return;
	list = reallocarray(top->now, top->count + 1, sizeof(*list));
	if (!list) {
		top->no_memory = true;
		return;
	}
	top->now = list;
	list[top->count++] = (struct seen){found->entry, top_ask(found), monotonic_ns()};
}

static int compare(const void *a, const void *b)
{
	return found_order(&((const struct seen *)a)->entry, &((const struct seen *)b)->entry);
}

static void forget(struct seen *list, unsigned int count)
{
	for (unsigned int i = 0; i < count; i++)
		json_decref(list[i].report);
	free(list);
}

static int look(struct top *top)
{
	int r;

	forget(top->before, top->before_count);
	top->before = top->now;
	top->before_count = top->count;
	top->now = NULL;
	top->count = 0;
	r = run_read(&top->reader);
	if (r < 0 || top->no_memory) {
		log_error("top: %s", strerror(ENOMEM));
		return -ENOMEM;
	}
	if (top->wanted && !top->count) {
		found_none("top", top->wanted);
		return -ENOENT;
	}
	if (top->count)
		qsort(top->now, top->count, sizeof(*top->now), compare);
	return 0;
}

static const struct seen *earlier(const struct top *top, const struct seen *seen)
{
	for (unsigned int i = 0; i < top->before_count; i++)
		if (top->before[i].entry.pid == seen->entry.pid &&
		    top->before[i].entry.start == seen->entry.start)
			return &top->before[i];
	return NULL;
}

/* --- showing --- */

static void show_machine(const struct top *top, const struct seen *seen)
{
	const struct seen *before = earlier(top, seen);

	print_clean(seen->entry.name[0] ? seen->entry.name : "(no name)");
	printf(", process %u", seen->entry.pid);
	if (!seen->report) {
		printf(": counts nothing (start it with --stats), or does not answer\n");
		return;
	}
	putchar('\n');
	if (before && before->report)
		top_show(before->report, seen->report, (double)(seen->ns - before->ns) / 1e9);
}

static void show(const struct top *top)
{
	if (isatty(STDOUT_FILENO))
		fputs("\033[H\033[2J", stdout);
	if (!top->count)
		puts("No machine is running.");
	for (unsigned int i = 0; i < top->count; i++)
		show_machine(top, &top->now[i]);
}

static void show_json(const struct top *top)
{
	json_t *list = json_array();

	for (unsigned int i = 0; i < top->count; i++) {
		const struct seen *seen = &top->now[i];
		json_t *item = json_object();

		json_put_text(item, "vm", seen->entry.name);
		json_put_number(item, "pid", seen->entry.pid);
		json_put(item, "stats", seen->report ? json_incref(seen->report) : json_null());
		json_array_append_new(list, item);
	}
	json_print(list);
}

static void pause_for(double seconds)
{
	struct timespec left = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};

	while (nanosleep(&left, &left) < 0 && errno == EINTR)
		;
}

static int run(struct top *top)
{
	int r = look(top);

	if (!r && top->json)
		show_json(top);
	for (uint64_t i = 0; !r && !top->json && (!top->times || i < top->times); i++) {
		pause_for(top->interval_s);
		r = look(top);
		if (!r)
			show(top);
		if (!r)
			r = command_flush();
	}
	if (!r && top->json)
		r = command_flush();
	forget(top->before, top->before_count);
	forget(top->now, top->count);
	return r;
}

static int parse_option(int option, struct top *top)
{
	char *end;

	switch (option) {
	case 'i':
		top->interval_s = strtod(optarg, &end);
		if (*optarg && !*end && top->interval_s >= 0.1 && top->interval_s <= 3600)
			return 0;
		log_error("top: --interval %s: 0.1 to 3600 is expected", optarg);
		return -EINVAL;
	case 'n':
		if (parse_uint(optarg, 1, UINT32_MAX, &top->times) == 0)
			return 0;
		log_error("top: --count %s: a number from 1 is expected", optarg);
		return -EINVAL;
	case OPTION_JSON:
		top->json = true;
		return 0;
	default:
		return -EINVAL;
	}
}

int main(int argc, char **argv)
{
	static char name[] = "top";
	struct top top = {.reader.found = found, .interval_s = 1};
	int option;

	argv[0] = name;
	top.times = isatty(STDOUT_FILENO) ? 0 : 1;
	while ((option = command_getopt(argc, argv, ":i:n:h", options, help)) != -1)
		if (parse_option(option, &top) < 0)
			return COMMAND_USAGE;
	if (command_operands("nothing", argc, argv, 0, 1) < 0)
		return COMMAND_USAGE;
	top.wanted = argv[optind];
	return run(&top) < 0 ? COMMAND_FAILED : COMMAND_OK;
}
