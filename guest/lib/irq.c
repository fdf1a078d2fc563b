/* SPDX-License-Identifier: MIT */
#include "guest/lib/irq.h"

#include "guest/lib/cpu.h"
#include "guest/lib/guest.h"
#include "guest/lib/io.h"
#include "guest/lib/smp.h"

#define PIC1_MASK 0x21
#define PIC2_MASK 0xA1
#define MSR_X2APIC_EOI 0x80B
#define MSR_X2APIC_SVR 0x80F
#define MSR_X2APIC_ICR 0x830
#define SVR_ON 0x1FF /* and the vector of spurious ones */
#define CODE 8       /* the segment, as start.S has it */
#define GATE 0x8E    /* present, an interrupt gate */

struct gate {
	uint16_t offset_low, segment;
	uint8_t stack, type;
	uint16_t offset_mid;
	uint32_t offset_high, reserved;
};

static struct gate gates[256];

void irq_set(uint8_t vector, void (*handler)(struct irq_frame *frame))
{
	uint64_t at = (uint64_t)handler;

	gates[vector] = (struct gate){(uint16_t)at, CODE, 0, GATE, (uint16_t)(at >> 16),
				      (uint32_t)(at >> 32), 0};
}

void irq_enable(void)
{
	struct {
		uint16_t limit;
		uint64_t base;
	} __attribute__((packed)) table = {sizeof(gates) - 1, (uint64_t)gates};

	/* Firmware may have left the PICs on; where there are none nothing happens. */
	outb(PIC1_MASK, 0xFF);
	outb(PIC2_MASK, 0xFF);
	apic_enable();
	__asm__ volatile("lidt %0" : : "m"(table));
	wrmsr(MSR_X2APIC_SVR, SVR_ON);
}

void irq_done(void)
{
	wrmsr(MSR_X2APIC_EOI, 0);
}

void irq_send(uint32_t id, uint8_t vector)
{
	wrmsr(MSR_X2APIC_ICR, (uint64_t)id << 32 | vector);
}
