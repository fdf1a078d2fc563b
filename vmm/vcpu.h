/* SPDX-License-Identifier: MIT */
/*
 * A vCPU: a thread that runs the guest and answers register traps. It never does I/O and
 * never waits for it.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "util/moment.h"

struct exit_profile;
struct vm;

/* How the boot processor starts. The other processors wait for INIT and SIPI. */
enum vcpu_mode {
	VCPU_PROTECTED_32, /* flat segments, paging off: PVH and the 32-bit boot protocol */
	VCPU_LONG_64,      /* flat segments, paging on with `cr3`: the 64-bit boot protocol */
};

struct vcpu_entry {
	enum vcpu_mode mode;
	uint64_t rip;
	uint64_t rsp;
	uint64_t rbx; /* PVH: hvm_start_info */
	uint64_t rsi; /* Linux: boot_params */
	uint64_t cr3; /* VCPU_LONG_64: page tables the boot code wrote */
	uint64_t gdt_gpa; /* null, unused, 0x10 code, 0x18 data, as the boot code wrote it */
	uint16_t gdt_len_bytes;
};

struct vcpu {
	struct vm *vm;
	unsigned int index;
	uint32_t apic_id;
	int fd;
	struct kvm_run *run;
	pthread_t thread;
	bool started;
	struct moment entered;    /* the guest, or the wait for its INIT */
	struct moment returned;   /* by its first exit to user space, or by INIT */
	unsigned int exits_timed; /* the thread's */
	struct exit_profile *profile; /* or NULL: nobody wants to know */
	int stats_fd; /* of kvm_stats_read, or -1 */
};

int vcpu_init(struct vcpu *vcpu, struct vm *vm, unsigned int index);
void vcpu_finish(struct vcpu *vcpu);
/* Set the boot processor's registers. 0 or -errno. */
int vcpu_set_entry(struct vcpu *vcpu, const struct vcpu_entry *entry);
/*
 * Before the thread starts, as KVM gives no file while it runs: count exits from now on. Where
 * the kernel has no counters of its own, there are none. 0 or -ENOMEM.
 */
int vcpu_count(struct vcpu *vcpu);
int vcpu_start(struct vcpu *vcpu);
/* Make the thread leave the guest, soon; then join it. vm->stopping is set before. */
void vcpu_kick(struct vcpu *vcpu);
void vcpu_join(struct vcpu *vcpu);
