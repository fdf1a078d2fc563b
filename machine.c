/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * A machine is what outlives a reboot: KVM, the console, the kernel's files, the disks and
 * interfaces and the loops they run on. A board is what a reboot replaces: the VM and its
 * devices. So a reboot leaves nothing behind in memory, devices or KVM, and there is no second
 * path that resets what creation sets up.
 *
 * Threads: the main loop (this thread) has the console, signals and the machine's end; each
 * virtio device has a loop of its own; each vCPU is a thread.
 */
#include "machine_impl.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "boot/boot.h"
#include "console.h"
#include "devices/mark.h"
#include "devices/pci.h"
#include "devices/power.h"
#include "devices/rtc.h"
#include "devices/serial.h"
#include "util/log.h"
#include "util/loop.h"
#include "util/util.h"
#include "virtio/blk.h"
#include "virtio/device.h"
#include "virtio/net.h"
#include "virtio/rng.h"
#include "virtio/transport_pci.h"
#include "vmm/layout.h"
#include "vmm/vm.h"

#define DISK_QUEUES_DEFAULT_MAX 4u
_Static_assert(MACHINE_DISK_QUEUES_MAX == VIRTIO_BLK_QUEUES_MAX, "queues=");

/* --- the outside: console and signals --- */

static void serial_output(void *owner, const uint8_t *data, size_t len)
{
	struct machine *machine = owner;

	console_output(machine->console, data, len);
}

static void serial_input_ready(void *owner)
{
	struct machine *machine = owner;

	console_input_ready(machine->console);
}

static const struct serial_ops serial_ops = {
	.output = serial_output,
	.input_ready = serial_input_ready,
};

static size_t console_typed(void *owner, const uint8_t *data, size_t len)
{
	struct machine *machine = owner;

	return serial_input(machine->board.serial, data, len);
}

static const int end_signals[] = {SIGTERM, SIGINT, SIGHUP};

/* The flag is for a reset that came first: vm_end keeps that one. */
static void quit(struct machine *machine)
{
	machine->quit = true;
	vm_end(machine->board.vm, VM_QUIT);
}

static void console_quit(void *owner)
{
	quit(owner);
}

static const struct console_ops console_ops = {
	.input = console_typed,
	.quit = console_quit,
};

static void signalled(void *arg)
{
	struct machine *machine = arg;
	struct signalfd_siginfo info;

	if (read(machine->signal_fd, &info, sizeof(info)) != sizeof(info))
		return;
	if (info.ssi_signo == SIGCONT) {
		console_resumed(machine->console);
		return;
	}
	if (info.ssi_signo == SIGUSR1) {
		machine_stats_show(machine);
		return;
	}
	if (info.ssi_signo == SIGHUP || machine->asked_to_end) {
		quit(machine);
		return;
	}
	machine->asked_to_end = true;
	log_info("%s: power button pressed (once more quits)", strsignal((int)info.ssi_signo));
	power_press_button(machine->board.power);
}

/*
 * A blocked signal waits even where it is ignored, and the signalfd would hear it: what nohup or
 * a shell without job control had us ignore must stay out of the set.
 */
static void block_signals(struct machine *machine)
{
	struct sigaction old;

	sigemptyset(&machine->signals);
	sigaddset(&machine->signals, SIGCONT);
	sigaddset(&machine->signals, SIGUSR1);
	for (unsigned int i = 0; i < ARRAY_LEN(end_signals); i++)
		if (sigaction(end_signals[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
			sigaddset(&machine->signals, end_signals[i]);
	pthread_sigmask(SIG_BLOCK, &machine->signals, NULL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN); /* EFBIG is an error like others */
}

static int no_memory(const char *what)
{
	log_error("cannot %s: %s (free some on this host)", what, strerror(ENOMEM));
	return -ENOMEM;
}

static int watch_signals(struct machine *machine)
{
	machine->signal_fd = signalfd(-1, &machine->signals, SFD_CLOEXEC | SFD_NONBLOCK);
	if (machine->signal_fd < 0) {
		int r = -errno;

		log_error("cannot listen to signals: %s%s", strerror(-r), fd_remedy(-r));
		return r;
	}
	machine->signal_watch =
		loop_watch_ready(machine->loop, machine->signal_fd, POLLIN, signalled, machine);
	return machine->signal_watch ? 0 : no_memory("listen to signals");
}

/* --- the board --- */

static int attach(struct machine *machine, struct virtio_dev *dev)
{
	struct board *board = &machine->board;
	struct virtio_pci *transport;
	int r = virtio_pci_create(board->vm, board->pci, dev, &transport);

	if (r < 0) {
		virtio_dev_destroy(dev);
		return r;
	}
	board->devs[board->dev_count] = dev;
	board->transports[board->dev_count++] = transport;
	return 0;
}

/*
 * With a queue for each processor a guest's processors do not wait for each other, and each gets
 * the interrupts of its own requests. One thread serves them all, so more are of little use.
 */
static unsigned int disk_queues(const struct machine_config *config, unsigned int index)
{
	unsigned int queues = config->disks[index].queues;

	return queues ? queues : MIN(topology_count(&config->vm.cpus), DISK_QUEUES_DEFAULT_MAX);
}

static int add_disks(struct machine *machine)
{
	const struct mem *mem = &machine->board.vm->mem;
	struct virtio_dev *dev;
	char name[16];
	int r = 0;

	for (unsigned int i = 0; r == 0 && i < machine->disk_count; i++) {
		struct disk *disk = &machine->disks[i];
		const struct virtio_blk_options options = {
			.serial = machine->config->disks[i].serial,
			.queues = disk_queues(machine->config, i),
			.limit = disk->limit,
		};

		snprintf(name, sizeof(name), "disk%u", i);
		r = virtio_blk_create(name, disk->loop, mem, disk->blk, &options, &dev);
		if (r == 0)
			r = attach(machine, dev);
	}
	return r;
}

static int add_nics(struct machine *machine)
{
	const struct mem *mem = &machine->board.vm->mem;
	struct virtio_dev *dev;
	char name[16];
	int r = 0;

	for (unsigned int i = 0; r == 0 && i < machine->nic_count; i++) {
		struct nic *nic = &machine->nics[i];

		snprintf(name, sizeof(name), "net%u", i);
		r = virtio_net_create(name, nic->loop, mem, nic->net, nic->mac, &dev);
		if (r == 0 && nic->live)
			virtio_net_share(dev, nic->live);
		if (r == 0)
			r = attach(machine, dev);
	}
	return r;
}

static int add_rng(struct machine *machine)
{
	struct virtio_dev *dev;
	int r = virtio_rng_create("rng0", machine->loop, &machine->board.vm->mem, &dev);

	return r < 0 ? r : attach(machine, dev);
}

static int add_devices(struct machine *machine)
{
	struct board *board = &machine->board;
	struct vm *vm = board->vm;
	int r;

	r = serial_create(vm, LAYOUT_PORT_COM1, LAYOUT_IRQ_COM1, &serial_ops, machine,
			  &board->serial);
	if (r == 0)
		r = rtc_create(vm, machine->loop, &board->rtc);
	if (r == 0)
		r = power_create(vm, &board->power);
	if (r == 0 && machine->config->timeline)
		r = mark_create(vm, &board->mark);
	if (r == 0)
		r = pci_host_create(vm, &board->pci);
	if (r == 0)
		r = add_disks(machine);
	if (r == 0)
		r = add_nics(machine);
	if (r == 0)
		r = add_rng(machine);
	if (r < 0)
		log_error("cannot create the devices: %s%s", strerror(-r), fd_remedy(-r));
	return r;
}

static void board_ended(void *arg)
{
	struct machine *machine = arg;

	loop_quit(machine->loop);
}

/* In reverse order of creation; the devices' loops are running, the vCPUs are not. */
static void board_destroy(struct machine *machine)
{
	struct board *board = &machine->board;

	for (unsigned int i = board->dev_count; i-- > 0;) {
		virtio_dev_stop(board->devs[i]);
		virtio_pci_destroy(board->transports[i]);
		virtio_dev_destroy(board->devs[i]);
	}
	pci_host_destroy(board->pci);
	mark_destroy(board->mark);
	power_destroy(board->power);
	rtc_destroy(board->rtc);
	serial_destroy(board->serial);
	loop_unwatch(machine->loop, board->end_watch);
	vm_destroy(board->vm);
	memset(board, 0, sizeof(*board));
}

static int board_create(struct machine *machine, struct vcpu_entry *entry)
{
	const struct machine_config *config = machine->config;
	struct board *board = &machine->board;
	struct vm_options options = config->vm;
	int r;

	options.pins = machine->pins;
	r = vm_create(&machine->kvm, &options, &board->vm);
	if (r < 0)
		return r;
	moment_note(&board->has_memory);
	r = add_devices(machine);
	moment_note(&board->has_devices);
	if (r == 0)
		r = boot_load(machine->boot, board->vm, entry);
	moment_note(&board->loaded);
	if (r == 0) {
		board->end_watch = loop_watch_event(machine->loop, board->vm->end_fd, board_ended,
						    machine);
		r = board->end_watch ? 0 : no_memory("watch the machine");
	}
	if (r < 0)
		board_destroy(machine);
	else
		console_input_ready(machine->console); /* what the last board refused */
	return r;
}

/*
 * What came while the board was made: nobody heard it yet. A guest that has not begun would miss
 * its power button, and two presses would have merged into one; it has nothing to save either.
 */
static bool signalled_early(const struct machine *machine)
{
	sigset_t pending;

	if (sigpending(&pending) < 0)
		return false;
	for (unsigned int i = 0; i < ARRAY_LEN(end_signals); i++) {
		int number = end_signals[i];

		if (sigismember(&machine->signals, number) && sigismember(&pending, number)) {
			log_info("%s: the guest is not started", strsignal(number));
			return true;
		}
	}
	return false;
}

/* One boot, from creation to its end. */
static enum vm_end board_run(struct machine *machine)
{
	struct vcpu_entry entry;
	struct vm *vm;
	enum vm_end end = VM_FAILED;

	if (board_create(machine, &entry) < 0)
		return VM_FAILED;
	vm = machine->board.vm;
	if (signalled_early(machine)) {
		board_destroy(machine);
		return VM_QUIT;
	}
	if (machine_stats_start(machine) == 0 && vm_start(vm, &entry) == 0) {
		if (loop_run(machine->loop) == 0)
			end = (enum vm_end)atomic_load(&vm->end);
		vm_stop(vm);
		machine_stats_end(machine);
		machine_timeline_gather(machine);
	}
	board_destroy(machine);
	machine_timeline_show(machine);
	return end;
}

/* --- the machine --- */

static int face_user(struct machine *machine)
{
	int r = watch_signals(machine);

	if (r < 0)
		return r;
	r = console_create(machine->loop, STDIN_FILENO, STDOUT_FILENO, &console_ops, machine,
			   &machine->console);
	if (r < 0)
		log_error("cannot create the console: %s", strerror(-r));
	return r;
}

static void leave_user(struct machine *machine)
{
	console_destroy(machine->console);
	if (machine->loop)
		loop_unwatch(machine->loop, machine->signal_watch);
	if (machine->signal_fd >= 0)
		close(machine->signal_fd);
}

/* After a reset. Who asked for the end does not want another boot. */
static bool starts_again(const struct machine *machine)
{
	return !machine->config->no_reboot && !machine->asked_to_end && !machine->quit;
}

int machine_run(const struct machine_config *config)
{
	struct machine machine = {.config = config, .signal_fd = -1, .ask_fd = -1};
	enum vm_end end = VM_FAILED;

	/* First of all: a signal that killed us later would leave a TAP up and on its bridge. */
	block_signals(&machine);
	if (machine_timeline_open(&machine) == 0 && machine_stats_open(&machine) == 0 &&
	    machine_open(&machine) == 0 && face_user(&machine) == 0) {
		machine_register(&machine);
		do
			end = board_run(&machine);
		while (end == VM_RESET && starts_again(&machine));
		machine_unregister(&machine);
	}
	leave_user(&machine);
	machine.powered_off = end == VM_POWEROFF;
	machine_stats_close(&machine);
	machine_timeline_close(&machine);
	if (machine_close(&machine) < 0)
		end = VM_FAILED;
	return end == VM_FAILED ? 1 : 0;
}
