/* SPDX-License-Identifier: MIT */
/* Interrupts, at CPL 0, where the host's KVM brings them in. */
#pragma once

#include <stdint.h>

struct irq_frame;

/* Handlers are functions with the attribute "interrupt"; end them with irq_done. */
#define IRQ_HANDLER(name) \
	__attribute__((interrupt)) static void name(struct irq_frame *frame __attribute__((unused)))

/* This processor's table and local APIC, in x2APIC mode. Those before it stay. */
void irq_enable(void);
void irq_set(uint8_t vector, void (*handler)(struct irq_frame *frame));
void irq_done(void);
/* To processor `id`. */
void irq_send(uint32_t id, uint8_t vector);

static inline void irq_on(void)
{
	__asm__ volatile("sti" : : : "memory");
}

static inline void irq_off(void)
{
	__asm__ volatile("cli" : : : "memory");
}

/* Sleep until the next: nothing comes in between. */
static inline void irq_wait(void)
{
	__asm__ volatile("sti; hlt" : : : "memory");
}
