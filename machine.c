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
#include "machine.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "boot/boot.h"
#include "console.h"
#include "devices/pci.h"
#include "devices/power.h"
#include "devices/rtc.h"
#include "devices/serial.h"
#include "stats.h"
#include "util/log.h"
#include "util/loop.h"
#include "util/util.h"
#include "virtio/blk.h"
#include "virtio/device.h"
#include "virtio/net.h"
#include "virtio/rng.h"
#include "virtio/transport_pci.h"
#include "vmm/cpuid.h"
#include "vmm/kvm.h"
#include "vmm/layout.h"
#include "vmm/vm.h"

#define VIRTIO_MAX (MACHINE_DISKS_MAX + MACHINE_NETS_MAX + 1)

struct board {
	struct vm *vm;
	struct loop_watch *end_watch;
	struct pci_host *pci;
	struct serial *serial;
	struct rtc *rtc;
	struct power *power;
	struct virtio_dev *devs[VIRTIO_MAX];
	struct virtio_pci *transports[VIRTIO_MAX];
	unsigned int dev_count;
};

struct disk {
	struct loop *loop;
	struct blk *blk;
};

struct nic {
	struct loop *loop;
	struct net *net;
	uint8_t mac[6];
};

struct machine {
	const struct machine_config *config;
	struct kvm kvm;
	struct loop *loop;
	struct console *console;
	struct boot *boot;
	struct disk disks[MACHINE_DISKS_MAX];
	unsigned int disk_count;
	struct nic nics[MACHINE_NETS_MAX];
	unsigned int nic_count;
	struct loop *rng_loop;
	int signal_fd;
	struct loop_watch *signal_watch;
	bool asked_to_end; /* the power button was pressed by a signal */
	struct board board;
};

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

static void console_quit(void *owner)
{
	struct machine *machine = owner;

	vm_end(machine->board.vm, VM_QUIT);
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
	if (info.ssi_signo == SIGHUP || machine->asked_to_end) {
		vm_end(machine->board.vm, VM_QUIT);
		return;
	}
	machine->asked_to_end = true;
	log_info("%s: power button pressed (once more quits)", strsignal((int)info.ssi_signo));
	power_press_button(machine->board.power);
}

static int watch_signals(struct machine *machine)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGCONT);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	machine->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (machine->signal_fd < 0)
		return -errno;
	machine->signal_watch =
		loop_watch_ready(machine->loop, machine->signal_fd, POLLIN, signalled, machine);
	return machine->signal_watch ? 0 : -ENOMEM;
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

static int add_disks(struct machine *machine)
{
	const struct mem *mem = &machine->board.vm->mem;
	struct virtio_dev *dev;
	char name[16];
	int r = 0;

	for (unsigned int i = 0; r == 0 && i < machine->disk_count; i++) {
		struct disk *disk = &machine->disks[i];

		snprintf(name, sizeof(name), "disk%u", i);
		r = virtio_blk_create(name, disk->loop, mem, disk->blk,
				      machine->config->disks[i].serial, &dev);
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
		if (r == 0)
			r = attach(machine, dev);
	}
	return r;
}

static int add_rng(struct machine *machine)
{
	struct virtio_dev *dev;
	int r = virtio_rng_create("rng0", machine->rng_loop, &machine->board.vm->mem, &dev);

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
		r = rtc_create(vm, &board->rtc);
	if (r == 0)
		r = power_create(vm, &board->power);
	if (r == 0)
		r = pci_host_create(vm, &board->pci);
	if (r == 0)
		r = add_disks(machine);
	if (r == 0)
		r = add_nics(machine);
	if (r == 0)
		r = add_rng(machine);
	if (r < 0)
		log_error("cannot create the devices: %s", strerror(-r));
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
	int r;

	r = vm_create(&machine->kvm, config->mem_bytes, config->ncpus, &board->vm);
	if (r < 0)
		return r;
	r = add_devices(machine);
	if (r == 0)
		r = boot_load(machine->boot, board->vm, entry);
	if (r == 0) {
		board->end_watch = loop_watch_event(machine->loop, board->vm->end_fd, board_ended,
						    machine);
		r = board->end_watch ? 0 : -ENOMEM;
	}
	if (r < 0)
		board_destroy(machine);
	return r;
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
	if (vm_start(vm, &entry) == 0) {
		if (loop_run(machine->loop) == 0)
			end = (enum vm_end)atomic_load(&vm->end);
		vm_stop(vm);
		if (machine->config->stats)
			stats_print(vm);
	}
	board_destroy(machine);
	return end;
}

/* --- the machine --- */

static int check_size(const struct machine *machine)
{
	const struct machine_config *config = machine->config;
	unsigned int bits = cpuid_phys_bits(machine->kvm.cpuid);
	uint64_t space = 1ull << MIN(bits, 52u);
	struct sysinfo info;

	if (config->ncpus > machine->kvm.max_vcpus) {
		log_error("--cpus %u: KVM on this host allows at most %u", config->ncpus,
			  machine->kvm.max_vcpus);
		return -EINVAL;
	}
	if (config->mem_bytes > space - LAYOUT_HIGH_RAM_BASE - LAYOUT_PCI64_SIZE) {
		log_error("--mem: %llu MiB do not fit the %u address bits of this host's processor",
			  (unsigned long long)(config->mem_bytes >> 20), bits);
		return -EINVAL;
	}
	if (sysinfo(&info) == 0 && config->mem_bytes > (uint64_t)info.totalram * info.mem_unit)
		log_warn("--mem: more memory than this host has; the guest may be killed for it");
	return 0;
}

/* A stock kernel does not fail on a PVM host, it hangs: say so at once. */
static int check_kernel(const struct machine *machine)
{
	if (!machine->kvm.pvm || !boot_info(machine->boot)->is_linux)
		return 0;
	if (machine->config->force) {
		log_warn("this host's KVM is the PVM back end: only Linux kernels built with "
			 "CONFIG_PVM_GUEST start here");
		return 0;
	}
	log_error("%s: this host's KVM is the PVM back end (no VT-x or AMD-V), where only Linux "
		  "kernels built with CONFIG_PVM_GUEST start; use such a kernel with --force, or a "
		  "host with VT-x or AMD-V", machine->config->kernel);
	return -ENOTSUP;
}

static int open_disks(struct machine *machine)
{
	char name[16];
	int r;

	for (unsigned int i = 0; i < machine->config->disk_count; i++) {
		struct disk *disk = &machine->disks[i];

		snprintf(name, sizeof(name), "disk%u", i);
		r = loop_create(name, &disk->loop);
		if (r < 0)
			return r;
		r = blk_open(disk->loop, &machine->config->disks[i].blk, &disk->blk);
		if (r < 0) {
			loop_destroy(disk->loop);
			return r;
		}
		machine->disk_count++;
	}
	return 0;
}

static int open_nics(struct machine *machine)
{
	const struct machine_config *config = machine->config;
	char name[16];
	int r;

	for (unsigned int i = 0; i < config->net_count; i++) {
		struct nic *nic = &machine->nics[i];

		r = net_open(&config->nets[i].net, &nic->net);
		if (r < 0)
			return r;
		snprintf(name, sizeof(name), "net%u", i);
		r = loop_create(name, &nic->loop);
		if (r < 0) {
			net_close(nic->net);
			return r;
		}
		if (config->nets[i].has_mac)
			memcpy(nic->mac, config->nets[i].mac, sizeof(nic->mac));
		else
			net_mac_default(nic->mac, config->name, i);
		machine->nic_count++;
	}
	return 0;
}

static int open_kernel(struct machine *machine)
{
	const struct machine_config *config = machine->config;
	const struct boot_options options = {
		.kernel = config->kernel,
		.initrd = config->initrd,
		.cmdline = config->cmdline,
		.root_disk = machine->disk_count ? machine->disks[0].blk : NULL,
		.root_readonly = machine->disk_count && config->disks[0].blk.readonly,
	};
	int r = boot_open(&options, &machine->boot);

	return r < 0 ? r : check_kernel(machine);
}

static int start_loops(struct machine *machine)
{
	int r = loop_create("rng0", &machine->rng_loop);

	if (r == 0)
		r = loop_start(machine->rng_loop);
	for (unsigned int i = 0; r == 0 && i < machine->disk_count; i++)
		r = loop_start(machine->disks[i].loop);
	for (unsigned int i = 0; r == 0 && i < machine->nic_count; i++)
		r = loop_start(machine->nics[i].loop);
	return r;
}

/* What needs no rights and names the user's mistakes comes first. */
static int machine_init(struct machine *machine)
{
	int r;

	r = kvm_init(&machine->kvm);
	if (r < 0)
		return r;
	r = check_size(machine);
	if (r == 0)
		r = loop_create("main", &machine->loop);
	if (r == 0)
		r = open_disks(machine);
	if (r == 0)
		r = open_kernel(machine);
	if (r == 0)
		r = open_nics(machine);
	if (r == 0)
		r = watch_signals(machine);
	if (r == 0)
		r = start_loops(machine);
	if (r == 0)
		r = console_create(machine->loop, STDIN_FILENO, STDOUT_FILENO, &console_ops,
				   machine, &machine->console);
	return r;
}

/* Whatever machine_init got done. -errno where a disk could not be written back. */
static int machine_finish(struct machine *machine)
{
	int r = 0;

	console_destroy(machine->console);
	for (unsigned int i = machine->nic_count; i-- > 0;) {
		loop_stop(machine->nics[i].loop);
		net_close(machine->nics[i].net);
		loop_destroy(machine->nics[i].loop);
	}
	if (machine->rng_loop)
		loop_stop(machine->rng_loop);
	loop_destroy(machine->rng_loop);
	boot_close(machine->boot);
	for (unsigned int i = machine->disk_count; i-- > 0;) {
		loop_stop(machine->disks[i].loop);
		if (blk_close(machine->disks[i].blk) < 0)
			r = -EIO;
		loop_destroy(machine->disks[i].loop);
	}
	if (machine->loop)
		loop_unwatch(machine->loop, machine->signal_watch);
	if (machine->signal_fd >= 0)
		close(machine->signal_fd);
	loop_destroy(machine->loop);
	if (machine->kvm.cpuid)
		kvm_finish(&machine->kvm);
	return r;
}

int machine_run(const struct machine_config *config)
{
	struct machine machine = {.config = config, .signal_fd = -1};
	enum vm_end end = VM_FAILED;

	if (machine_init(&machine) == 0) {
		do
			end = board_run(&machine);
		while (end == VM_RESET && !config->no_reboot);
	}
	if (machine_finish(&machine) < 0)
		end = VM_FAILED;
	return end == VM_FAILED ? 1 : 0;
}
