/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * The thread runs KVM_RUN until the machine stops. Exits are accesses to ports or MMIO, which go
 * to a bus and return; everything slow happens elsewhere.
 *
 * To stop a thread: vm->stopping is set, then run->immediate_exit, then a signal. If the
 * thread is in the guest, the signal gets it out; if it is about to enter, immediate_exit does.
 */
#include "vmm/vcpu.h"

#include <errno.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "util/log.h"
#include "util/util.h"
#include "vmm/cpuid.h"
#include "vmm/exit_profile.h"
#include "vmm/kvm.h"
#include "vmm/vm.h"

#define KICK_SIGNAL SIGRTMIN
#define EXITS_TIMED 256

#define MSR_MISC_ENABLE 0x1a0
#define MSR_MTRR_DEF_TYPE 0x2ff

#define APIC_BASE_X2APIC 0x400

#define CR0_PE (1u << 0)
#define CR0_ET (1u << 4)
#define CR0_PG (1u << 31)
#define CR4_PAE (1u << 5)
#define EFER_LME (1u << 8)
#define EFER_LMA (1u << 10)

/* --- creation --- */

static int set_cpuid(struct vcpu *vcpu)
{
	struct kvm_cpuid2 *cpuid = cpuid_for_vcpu(vcpu->vm->kvm->cpuid, &vcpu->vm->topology,
						  vcpu->apic_id);
	int r = 0;

	if (!cpuid)
		return -ENOMEM;
	if (ioctl(vcpu->fd, KVM_SET_CPUID2, cpuid) < 0)
		r = -errno;
	free(cpuid);
	return r;
}

/* What firmware would have set: string instructions at speed, all memory write-back. */
static int set_msrs(struct vcpu *vcpu)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entries[2];
	} msrs = {
		.head.nmsrs = 2,
		.entries = {
			{.index = MSR_MISC_ENABLE, .data = 1},
			{.index = MSR_MTRR_DEF_TYPE, .data = 0x800 | 6},
		},
	};

	return ioctl(vcpu->fd, KVM_SET_MSRS, &msrs) < 0 ? -errno : 0;
}

/*
 * As firmware leaves a machine with APIC ids from 255 on (SDM 3A, 10.12.8.1): in xAPIC mode
 * every processor would take id 255 for the broadcast, and start when that one is started.
 */
static int set_x2apic(struct vcpu *vcpu)
{
	struct kvm_sregs sregs;

	if (!topology_needs_x2apic(&vcpu->vm->topology))
		return 0;
	if (ioctl(vcpu->fd, KVM_GET_SREGS, &sregs) < 0)
		return -errno;
	sregs.apic_base |= APIC_BASE_X2APIC;
	return ioctl(vcpu->fd, KVM_SET_SREGS, &sregs) < 0 ? -errno : 0;
}

int vcpu_init(struct vcpu *vcpu, struct vm *vm, unsigned int index)
{
	int r;

	memset(vcpu, 0, sizeof(*vcpu));
	vcpu->vm = vm;
	vcpu->index = index;
	vcpu->apic_id = topology_apic_id(&vm->topology, index);
	vcpu->stats_fd = -1;
	vcpu->fd = ioctl(vm->fd, KVM_CREATE_VCPU, vcpu->apic_id);
	if (vcpu->fd < 0)
		return -errno;
	vcpu->run = mmap(NULL, (size_t)vm->kvm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED,
			 vcpu->fd, 0);
	if (vcpu->run == MAP_FAILED) {
		r = -errno;
		goto err_close;
	}
	r = set_cpuid(vcpu);
	if (r == 0)
		r = set_msrs(vcpu);
	if (r == 0)
		r = set_x2apic(vcpu);
	if (r == 0)
		return 0;
	munmap(vcpu->run, (size_t)vm->kvm->run_size);
err_close:
	close(vcpu->fd);
	return r;
}

void vcpu_finish(struct vcpu *vcpu)
{
	if (vcpu->stats_fd >= 0)
		close(vcpu->stats_fd);
	free(vcpu->profile);
	munmap(vcpu->run, (size_t)vcpu->vm->kvm->run_size);
	close(vcpu->fd);
}

/* --- the start of the boot processor --- */

static struct kvm_segment flat_segment(uint16_t selector, uint8_t type, bool long_mode)
{
	return (struct kvm_segment){
		.limit = 0xffffffff,
		.selector = selector,
		.type = type,
		.present = 1,
		.s = 1,
		.g = 1,
		.db = !long_mode,
		.l = long_mode,
	};
}

static void set_segments(struct kvm_sregs *sregs, const struct vcpu_entry *entry)
{
	bool long_mode = entry->mode == VCPU_LONG_64;
	struct kvm_segment data = flat_segment(0x18, 3, false);

	sregs->cs = flat_segment(0x10, 11, long_mode);
	sregs->ds = sregs->es = sregs->fs = sregs->gs = sregs->ss = data;
	sregs->tr = (struct kvm_segment){.limit = 0x67, .type = 11, .present = 1};
	sregs->ldt = (struct kvm_segment){.unusable = 1, .type = 2};
	sregs->gdt.base = entry->gdt_gpa;
	sregs->gdt.limit = entry->gdt_len_bytes ? entry->gdt_len_bytes - 1u : 0;
	sregs->idt.base = sregs->idt.limit = 0;
}

int vcpu_set_entry(struct vcpu *vcpu, const struct vcpu_entry *entry)
{
	struct kvm_regs regs = {
		.rip = entry->rip,
		.rsp = entry->rsp,
		.rbx = entry->rbx,
		.rsi = entry->rsi,
		.rflags = 2,
	};
	struct kvm_sregs sregs;

	if (ioctl(vcpu->fd, KVM_GET_SREGS, &sregs) < 0)
		return -errno;
	set_segments(&sregs, entry);
	sregs.cr0 = CR0_PE | CR0_ET;
	if (entry->mode == VCPU_LONG_64) {
		sregs.cr0 |= CR0_PG;
		sregs.cr3 = entry->cr3;
		sregs.cr4 = CR4_PAE;
		sregs.efer = EFER_LME | EFER_LMA;
	}
	if (ioctl(vcpu->fd, KVM_SET_SREGS, &sregs) < 0)
		return -errno;
	return ioctl(vcpu->fd, KVM_SET_REGS, &regs) < 0 ? -errno : 0;
}

/* --- exits --- */

static void handle_io(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	uint8_t *data = (uint8_t *)run + run->io.data_offset;
	bool out = run->io.direction == KVM_EXIT_IO_OUT;

	for (uint32_t i = 0; i < run->io.count; i++, data += run->io.size) {
		if (out)
			bus_write(&vcpu->vm->pio, run->io.port, data, run->io.size);
		else
			bus_read(&vcpu->vm->pio, run->io.port, data, run->io.size);
	}
}

static void handle_mmio(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	uint32_t len = run->mmio.len;
	bool write = run->mmio.is_write;

	/* An access across a page may arrive in odd pieces; no device has registers like that. */
	if (len == 0 || len > 8 || (len & (len - 1))) {
		memset(run->mmio.data, 0xff, sizeof(run->mmio.data));
		return;
	}
	if (write)
		bus_write(&vcpu->vm->mmio, run->mmio.phys_addr, run->mmio.data, len);
	else
		bus_read(&vcpu->vm->mmio, run->mmio.phys_addr, run->mmio.data, len);
}

static void fail(struct vcpu *vcpu, const char *what, uint64_t code)
{
	struct kvm_regs regs = {0};

	ioctl(vcpu->fd, KVM_GET_REGS, &regs);
	log_error("vcpu%u: %s %#llx at rip %#llx", vcpu->index, what, (unsigned long long)code,
		  (unsigned long long)regs.rip);
	vm_end(vcpu->vm, VM_FAILED);
}

static void handle_exit(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;

	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		handle_io(vcpu);
		return;
	case KVM_EXIT_MMIO:
		handle_mmio(vcpu);
		return;
	case KVM_EXIT_INTR:
	case KVM_EXIT_IRQ_WINDOW_OPEN:
		return;
	case KVM_EXIT_SHUTDOWN: /* triple fault */
		vm_end(vcpu->vm, VM_RESET);
		return;
	case KVM_EXIT_SYSTEM_EVENT:
		vm_end(vcpu->vm, run->system_event.type == KVM_SYSTEM_EVENT_SHUTDOWN ? VM_POWEROFF
										     : VM_RESET);
		return;
	case KVM_EXIT_FAIL_ENTRY:
		fail(vcpu, "the processor refuses to enter the guest, reason",
		     run->fail_entry.hardware_entry_failure_reason);
		return;
	case KVM_EXIT_INTERNAL_ERROR:
		fail(vcpu, "KVM internal error", run->internal.suberror);
		return;
	default:
		fail(vcpu, "unexpected KVM exit", run->exit_reason);
	}
}

/* How the exit at hand is told from others: its kind and address. */
static enum exit_kind identify_exit(const struct kvm_run *run, uint64_t *addr)
{
	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		*addr = run->io.port;
		return run->io.direction == KVM_EXIT_IO_OUT ? EXIT_PIO_OUT : EXIT_PIO_IN;
	case KVM_EXIT_MMIO:
		*addr = run->mmio.phys_addr;
		return run->mmio.is_write ? EXIT_MMIO_WRITE : EXIT_MMIO_READ;
	default:
		*addr = run->exit_reason;
		return EXIT_OTHER;
	}
}

static void handle_and_count(struct vcpu *vcpu)
{
	uint64_t addr, start;
	enum exit_kind kind;

	if (!vcpu->profile) {
		handle_exit(vcpu);
		return;
	}
	kind = identify_exit(vcpu->run, &addr);
	start = monotonic_ns();
	handle_exit(vcpu);
	exit_profile_add(vcpu->profile, kind, addr, monotonic_ns() - start);
}

/* --- the thread --- */

static void on_kick(int signal)
{
}

static bool goes_on(struct vm *vm)
{
	return !atomic_load(&vm->stopping) && atomic_load(&vm->end) == VM_RUNNING;
}

/* The first processor writes it alone. */
static void note_exit(struct vcpu *vcpu, uint64_t took_ns)
{
	uint32_t best = vm_exit_ns(vcpu->vm);

	vcpu->exits_timed++;
	if (!best || took_ns < best)
		atomic_store_explicit(&vcpu->vm->exit_ns, (uint32_t)MIN(took_ns, UINT32_MAX),
				      memory_order_relaxed);
}

/* Into the guest and out again. Of many times some are as good as immediate, and tell the price. */
static int run(struct vcpu *vcpu)
{
	uint64_t start_ns;
	int r;

	if (vcpu->index > 0 || vcpu->exits_timed == EXITS_TIMED)
		return ioctl(vcpu->fd, KVM_RUN, 0);
	start_ns = monotonic_ns();
	r = ioctl(vcpu->fd, KVM_RUN, 0);
	if (r == 0)
		note_exit(vcpu, monotonic_ns() - start_ns);
	return r;
}

static void *vcpu_main(void *arg)
{
	struct vcpu *vcpu = arg;
	char name[16];

	snprintf(name, sizeof(name), "vcpu%u", vcpu->index);
	prctl(PR_SET_NAME, name);
	moment_note(&vcpu->entered);
	while (goes_on(vcpu->vm)) {
		int r = run(vcpu);

		if (r == 0 || errno == EAGAIN)
			moment_note(&vcpu->returned);
		if (r == 0)
			handle_and_count(vcpu);
		else if (errno != EINTR && errno != EAGAIN)
			fail(vcpu, "KVM_RUN failed, errno", (uint64_t)errno);
	}
	return NULL;
}

static void pin(const struct vcpu *vcpu, pthread_attr_t *attr)
{
	const cpu_set_t *pins = vcpu->vm->pins;

	if (pins)
		pthread_attr_setaffinity_np(attr, sizeof(*pins), &pins[vcpu->index]);
}

int vcpu_count(struct vcpu *vcpu)
{
	vcpu->profile = calloc(1, sizeof(*vcpu->profile));
	if (!vcpu->profile)
		return -ENOMEM;
	vcpu->stats_fd = ioctl(vcpu->fd, KVM_GET_STATS_FD, 0);
	return 0;
}

int vcpu_start(struct vcpu *vcpu)
{
	const struct sigaction action = {.sa_handler = on_kick};
	sigset_t blocked, old;
	pthread_attr_t attr;
	int r;

	sigaction(KICK_SIGNAL, &action, NULL);
	sigfillset(&blocked);
	sigdelset(&blocked, KICK_SIGNAL);
	pthread_sigmask(SIG_SETMASK, &blocked, &old);
	pthread_attr_init(&attr);
	pin(vcpu, &attr);
	r = pthread_create(&vcpu->thread, &attr, vcpu_main, vcpu);
	pthread_attr_destroy(&attr);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r)
		return -r;
	vcpu->started = true;
	return 0;
}

void vcpu_kick(struct vcpu *vcpu)
{
	/* Read by KVM_RUN as it enters; the signal is for a run that has entered already. */
	__atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
	if (vcpu->started)
		pthread_kill(vcpu->thread, KICK_SIGNAL);
}

void vcpu_join(struct vcpu *vcpu)
{
	if (!vcpu->started)
		return;
	pthread_join(vcpu->thread, NULL);
	vcpu->started = false;
}
