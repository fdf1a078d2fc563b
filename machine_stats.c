/* SPDX-License-Identifier: MIT */
/* The machine's side of --stats: when what is reported, and where to. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "machine_impl.h"
#include "stats.h"
#include "util/log.h"
#include "util/loop.h"
#include "util/pass_fd.h"
#include "util/run_dir.h"
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

/* --- minivmm top asks --- */

/* A file in memory: nobody can be kept waiting by who does not read it. -errno */
static int make_report(const struct machine *machine)
{
	int fd = memfd_create("stats", MFD_CLOEXEC), copy;
	FILE *to;

	if (fd < 0)
		return -errno;
	copy = dup(fd);
	to = copy < 0 ? NULL : fdopen(copy, "w");
	if (to) {
		stats_print_json(&machine->board, to);
		if (fclose(to) == 0)
			return fd;
	} else if (copy >= 0) {
		close(copy);
	}
	close(fd);
	return -ENOMEM;
}

static bool may_ask(int peer)
{
	struct ucred who;
	socklen_t len = sizeof(who);

	return getsockopt(peer, SOL_SOCKET, SO_PEERCRED, &who, &len) == 0 &&
	       (who.uid == 0 || who.uid == geteuid());
}

static void asked(void *arg)
{
	struct machine *machine = arg;
	int peer = accept4(machine->ask_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK), report;

	if (peer < 0)
		return;
	report = may_ask(peer) ? make_report(machine) : -EPERM;
	if (report >= 0) {
		pass_fd(peer, report);
		close(report);
	}
	close(peer);
}

void machine_stats_listen(struct machine *machine)
{
	if (!machine->config->stats)
		return;
	machine->ask_fd = run_listen(machine->run);
	if (machine->ask_fd < 0) {
		log_debug("minivmm top cannot ask this machine: %s", strerror(-machine->ask_fd));
		return;
	}
	machine->ask_watch = loop_watch_ready(machine->loop, machine->ask_fd, POLLIN, asked,
					      machine);
}

void machine_stats_deafen(struct machine *machine)
{
	if (machine->ask_fd < 0)
		return;
	loop_unwatch(machine->loop, machine->ask_watch);
	close(machine->ask_fd);
}
