/* SPDX-License-Identifier: MIT */
/* The machine's side of --stats: when what is reported, and where to. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "machine_impl.h"
#include "stats.h"
#include "util/log.h"
#include "virtio/device.h"
#include "vmm/vm.h"

int machine_stats_open(struct machine *machine)
{
	const char *path = machine->config->stats_file;
	int r;

	if (!path)
		return 0;
	machine->stats_file = fopen(path, "we");
	if (machine->stats_file)
		return 0;
	r = -errno;
	log_error("--stats=%s: %s", path, strerror(-r));
	return r;
}

void machine_stats_close(struct machine *machine)
{
	if (machine->stats_file && fclose(machine->stats_file) != 0)
		log_error("--stats=%s: cannot be written: %s", machine->config->stats_file,
			  strerror(errno));
}

/* What the devices note when something is first, they do where they count. */
static bool devices_count(const struct machine_config *config)
{
	return config->stats || config->timeline;
}

int machine_stats_start(struct machine *machine)
{
	const struct board *board = &machine->board;
	int r = 0;

	for (unsigned int i = 0; r == 0 && machine->config->stats && i < board->vm->ncpus; i++)
		r = vcpu_count(&board->vm->vcpus[i]);
	for (unsigned int i = 0; r == 0 && devices_count(machine->config) && i < board->dev_count; i++)
		r = virtio_dev_count(board->devs[i]);
	if (r < 0)
		log_error("cannot count: %s", strerror(-r));
	return r;
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

static void print_stats(const struct machine *machine, FILE *to)
{
	stats_print(&machine->board, to);
}

void machine_stats_show(const struct machine *machine)
{
	if (machine->config->stats)
		machine_print(machine, print_stats);
	else
		log_info("nothing is counted (start with --stats)");
}

void machine_stats_end(struct machine *machine)
{
	if (!machine->config->stats)
		return;
	machine_print(machine, print_stats);
	if (!machine->stats_file)
		return;
	stats_print_json(&machine->board, machine->stats_file);
	fflush(machine->stats_file); /* whatever becomes of the next boot */
}
