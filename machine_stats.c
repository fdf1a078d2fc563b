/* SPDX-License-Identifier: MIT */
/* The machine's side of --stats: when what is reported, and where to. */
#include <stdio.h>
#include <string.h>

#include "machine_impl.h"
#include "stats.h"
#include "util/log.h"
#include "virtio/device.h"
#include "vmm/vm.h"

int machine_stats_open(struct machine *machine)
{
	return output_open("--stats", machine->config->stats_file, &machine->stats_file);
}

void machine_stats_close(struct machine *machine)
{
	output_close("--stats", machine->config->stats_file, machine->stats_file);
}

static int count_vcpus(const struct vm *vm)
{
	int r = 0;

	for (unsigned int i = 0; r == 0 && i < vm->ncpus; i++)
		r = vcpu_count(&vm->vcpus[i]);
	return r;
}

static int count_devices(const struct board *board)
{
	int r = 0;

	for (unsigned int i = 0; r == 0 && i < board->dev_count; i++)
		r = virtio_dev_count(board->devs[i]);
	return r;
}

int machine_stats_start(struct machine *machine)
{
	const struct machine_config *config = machine->config;
	int r = config->stats ? count_vcpus(machine->board.vm) : 0;

	/* Where they count, they note what is first, too. */
	if (r == 0 && (config->stats || config->timeline))
		r = count_devices(&machine->board);
	if (r < 0)
		log_error("cannot count: %s", strerror(-r));
	return r;
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
