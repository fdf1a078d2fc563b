/* SPDX-License-Identifier: MIT */
/* The machine's side of --timeline: who is asked when what happened, and where it is shown. */
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "devices/mark.h"
#include "devices/serial.h"
#include "machine_impl.h"
#include "virtio/device.h"
#include "virtio/stats.h"
#include "vmm/vm.h"

/* A process' time on a processor starts with it; what came before main was little else. */
static uint64_t exec_ns(void)
{
	struct timespec used;

	if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used) < 0)
		return monotonic_ns();
	return monotonic_ns() - (uint64_t)used.tv_sec * 1000000000u - (uint64_t)used.tv_nsec;
}

int machine_timeline_open(struct machine *machine)
{
	machine->exec_ns = exec_ns();
	return output_open("--timeline", machine->config->timeline_file, &machine->timeline_file);
}

void machine_timeline_close(struct machine *machine)
{
	output_close("--timeline", machine->config->timeline_file, machine->timeline_file);
}

/* --- who knows what --- */

/* Once, before the first board. */
static void ask_machine(const struct machine *machine, struct timeline *timeline)
{
	timeline_add(timeline, machine->exec_ns, "exec");
	timeline_add(timeline, moment_get(&machine->kvm_ready), "KVM is open");
	timeline_add(timeline, moment_get(&machine->opened), "files, disks and networks are open");
}

static void ask_board(const struct board *board, struct timeline *timeline)
{
	timeline_add(timeline, moment_get(&board->has_memory), "memory and vCPUs are made");
	timeline_add(timeline, moment_get(&board->has_devices), "devices are made");
	timeline_add(timeline, moment_get(&board->loaded), "the kernel is loaded");
}

static void ask_vcpus(const struct vm *vm, struct timeline *timeline)
{
	timeline_add(timeline, moment_get(&vm->vcpus[0].entered), "vCPU 0 enters the guest");
	timeline_add(timeline, moment_get(&vm->vcpus[0].returned), "vCPU 0's first exit");
	for (unsigned int i = 1; i < vm->ncpus; i++)
		timeline_add(timeline, moment_get(&vm->vcpus[i].returned), "vCPU %u is woken", i);
}

static void ask_console(const struct serial *serial, struct timeline *timeline)
{
	const struct serial_seen *seen = serial_seen(serial);

	timeline_add(timeline, moment_get(&seen->byte), "console: first byte");
	timeline_add(timeline, moment_get(&seen->line), "console: first line");
}

/* Of the receive queues, or of those that send (5.1.2): whichever came first. */
static uint64_t first_frame(const struct virtio_dev *dev, unsigned int direction)
{
	uint64_t first = 0;

	for (unsigned int i = direction; i < (dev->nqueues & ~1u); i += 2) {
		uint64_t ns = moment_get(&dev->stats->queues[i].first);

		if (ns && (!first || ns < first))
			first = ns;
	}
	return first;
}

static void ask_device(const struct virtio_dev *dev, struct timeline *timeline)
{
	const struct virtio_stats *stats = dev->stats;

	timeline_add(timeline, moment_get(&dev->driver_ok), "%s: driver is ready", dev->name);
	if (stats->frames) {
		timeline_add(timeline, first_frame(dev, 0), "%s: first frame to the guest", dev->name);
		timeline_add(timeline, first_frame(dev, 1), "%s: first frame from the guest",
			     dev->name);
	}
	for (unsigned int i = 0; i < VIRTIO_STATS_OPS && stats->ops[i].name; i++)
		timeline_add(timeline, moment_get(&stats->ops[i].first), "%s: first %s", dev->name,
			     stats->ops[i].name);
}

static void ask_marks(const struct mark *mark, struct timeline *timeline)
{
	uint64_t ns;

	for (unsigned int i = 0; i < mark_count(mark); i++) {
		uint8_t byte = mark_get(mark, i, &ns);

		timeline_add(timeline, ns, "mark 0x%02x", byte);
	}
}

static const char *name_of(enum vm_end end)
{
	switch (end) {
	case VM_POWEROFF: return "the guest powers off";
	case VM_RESET: return "the guest resets";
	case VM_QUIT: return "quit";
	default: return "the machine fails";
	}
}

static void ask_vm(const struct vm *vm, struct timeline *timeline)
{
	timeline_add(timeline, moment_get(&vm->ended), "%s",
		     name_of((enum vm_end)atomic_load(&vm->end)));
}

void machine_timeline_gather(struct machine *machine)
{
	const struct board *board = &machine->board;
	struct timeline *timeline = &machine->timeline;

	if (!machine->config->timeline)
		return;
	if (!machine->boots)
		ask_machine(machine, timeline);
	ask_board(board, timeline);
	ask_vcpus(board->vm, timeline);
	ask_console(board->serial, timeline);
	for (unsigned int i = 0; i < board->dev_count; i++)
		ask_device(board->devs[i], timeline);
	ask_marks(board->mark, timeline);
	ask_vm(board->vm, timeline);
	timeline_add(timeline, monotonic_ns(), "vCPUs are stopped");
}

/* --- where it goes --- */

/* A line for each boot, or a picture of the last. */
static void put_file(struct machine *machine, uint64_t zero_ns)
{
	FILE *file = machine->timeline_file;

	if (ends_with(machine->config->timeline_file, ".svg")) {
		rewind(file);
		if (ftruncate(fileno(file), 0) == 0)
			timeline_print_svg(&machine->timeline, zero_ns, file);
	} else {
		timeline_print_json(&machine->timeline, zero_ns, file);
	}
	fflush(file);
}

static void print_timeline(const struct machine *machine, FILE *to)
{
	timeline_print(&machine->timeline, machine->exec_ns, to);
}

void machine_timeline_show(struct machine *machine)
{
	struct timeline *timeline = &machine->timeline;

	if (!timeline->count)
		return;
	timeline_add(timeline, monotonic_ns(), "all is given back");
	timeline_sort(timeline);
	machine_print(machine, print_timeline);
	if (machine->timeline_file)
		put_file(machine, machine->exec_ns);
	timeline_clear(timeline);
	machine->boots++;
}
