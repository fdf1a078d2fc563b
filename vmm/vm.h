/* SPDX-License-Identifier: MIT */
/* A virtual machine: its memory, buses, interrupts and processors. No device is named here. */
#pragma once

#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "util/moment.h"
#include "vmm/bus.h"
#include "vmm/irq.h"
#include "vmm/mem.h"
#include "vmm/topology.h"
#include "vmm/vcpu.h"

struct kvm;

enum vm_end {
	VM_RUNNING,
	VM_POWEROFF, /* the guest's S5 */
	VM_RESET,    /* a reset register, or a triple fault */
	VM_QUIT,     /* asked from outside */
	VM_FAILED,   /* KVM could not go on; logged */
};

struct vm_options {
	struct mem_options mem;
	struct topology cpus;
	const cpu_set_t *pins; /* the host's processors for each; NULL: those of its starter */
	bool no_idle_exits;    /* an idle vCPU keeps its processor: KVM_CAP_X86_DISABLE_EXITS */
	bool has_halt_poll;    /* how long KVM looks for work before an idle vCPU sleeps: */
	unsigned int halt_poll_us;
};

struct vm {
	const struct kvm *kvm;
	int fd;
	struct mem mem;
	struct bus pio;
	struct bus mmio;
	struct irq irq;
	struct topology topology;
	unsigned int ncpus; /* of `topology` */
	const cpu_set_t *pins;
	struct vcpu *vcpus;
	int end_fd;       /* eventfd: readable once `end` is set */
	atomic_int end;   /* enum vm_end; the first one stays */
	struct moment ended;
	_Atomic uint32_t exit_ns; /* the shortest exit to user space so far, or 0 */
	atomic_bool stopping; /* vCPU threads leave when they see it; pairs with vcpu_kick */
};

/* Memory slots first, then irqchip, then vCPUs: that order starts fastest. 0 or -errno; logs. */
int vm_create(const struct kvm *kvm, const struct vm_options *options, struct vm **out);
/* Devices are destroyed before. Accepts NULL. */
void vm_destroy(struct vm *vm);

/* Start all vCPU threads, the first at `entry`. 0 or -errno; logs. */
int vm_start(struct vm *vm, const struct vcpu_entry *entry);
/* Stop and join them. */
void vm_stop(struct vm *vm);

/* Any thread: about what an exit to user space takes on this host; 0: not known yet. */
static inline uint32_t vm_exit_ns(const struct vm *vm)
{
	return atomic_load_explicit(&vm->exit_ns, memory_order_relaxed); /* orders nothing */
}

/* Any thread: ask for the machine's end. Signals end_fd; the vCPUs run until vm_stop. */
void vm_end(struct vm *vm, enum vm_end how);

/*
 * ioeventfd for writes of any length at `addr` of `bus`, one of the VM's: signal `fd` without
 * leaving the kernel.
 */
int vm_ioeventfd_add(struct vm *vm, const struct bus *bus, uint64_t addr, int fd);
void vm_ioeventfd_del(struct vm *vm, const struct bus *bus, uint64_t addr, int fd);
