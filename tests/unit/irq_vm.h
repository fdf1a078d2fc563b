/* SPDX-License-Identifier: MIT */
/*
 * For tests of interrupts: a VM of the real KVM, which is never run; what arrives is read from
 * its interrupt controllers.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "vmm/irq.h"

#define HIGH_ID 300u /* vCPU 1's APIC id, which needs more than 8 bits */
#define MSI_ADDR 0xfee00000u

extern int kvm_fd, vm_fd;
extern struct irq irq;
extern bool has_high; /* there is a vCPU 1 */

/* Once, in main. False, and said why: the test is skipped, with 77. */
bool irq_vm_possible(void);
int irq_vm_setup(void **state);
int irq_vm_teardown(void **state);

/* How many vectors are pending at this vCPU. */
unsigned int vectors_set(int index);
/* Irqfds may be delivered by a kernel thread, a little later. */
void assert_arrives(int index, unsigned int vector);
/* Nothing is pending at vCPU 0 any more. */
void forget(void);
