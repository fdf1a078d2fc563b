/* SPDX-License-Identifier: MIT */
/*
 * The MADT (ACPI 6.5, 5.2.12): processors, whose uid is their index, and the IOAPIC, wired as
 * KVM has it: the PIT on pin 2, every other ISA line on its own pin. The SCI is level triggered,
 * active high.
 */
#include "boot/table.h"
#include "vmm/layout.h"
#include "vmm/topology.h"

enum {
	LOCAL_APIC = 0,
	IO_APIC = 1,
	SOURCE_OVERRIDE = 2,
	LOCAL_APIC_NMI = 4,
	LOCAL_X2APIC = 9,
	LOCAL_X2APIC_NMI = 10,
};

#define PCAT_COMPAT 1
#define CPU_ENABLED 1
/* An xAPIC id is a byte, and 255 means all. */
#define X2APIC_FIRST 255

#define PIT_PIN 2
#define ACTIVE_HIGH (1 << 0)
#define LEVEL (3 << 2)
#define NMI_LINT 1

struct lapic {
	uint8_t type, len, uid, apic_id;
	uint32_t flags;
} __attribute__((packed));

struct x2apic {
	uint8_t type, len;
	uint16_t reserved;
	uint32_t apic_id, flags, uid;
} __attribute__((packed));

struct ioapic {
	uint8_t type, len, id, reserved;
	uint32_t gpa, gsi_base;
} __attribute__((packed));

struct override {
	uint8_t type, len, bus, irq;
	uint32_t gsi;
	uint16_t flags;
} __attribute__((packed));

struct lapic_nmi {
	uint8_t type, len, uid;
	uint16_t flags;
	uint8_t lint;
} __attribute__((packed));

struct x2apic_nmi {
	uint8_t type, len;
	uint16_t flags;
	uint32_t uid;
	uint8_t lint, reserved[3];
} __attribute__((packed));

static void add_cpu(struct aml *area, unsigned int uid, uint32_t id)
{
	if (id < X2APIC_FIRST) {
		struct lapic lapic = {LOCAL_APIC, sizeof(lapic), (uint8_t)uid, (uint8_t)id,
				      CPU_ENABLED};

		aml_append(area, &lapic, sizeof(lapic));
	} else {
		struct x2apic x2apic = {LOCAL_X2APIC, sizeof(x2apic), 0, id, CPU_ENABLED, uid};

		aml_append(area, &x2apic, sizeof(x2apic));
	}
}

static void add_override(struct aml *area, uint8_t irq, uint32_t gsi, uint16_t flags)
{
	struct override override = {SOURCE_OVERRIDE, sizeof(override), 0, irq, gsi, flags};

	aml_append(area, &override, sizeof(override));
}

/* LINT1 of every processor. */
static void add_nmi(struct aml *area, bool x2apic)
{
	struct lapic_nmi nmi = {LOCAL_APIC_NMI, sizeof(nmi), UINT8_MAX, 0, NMI_LINT};
	struct x2apic_nmi x2nmi = {LOCAL_X2APIC_NMI, sizeof(x2nmi), 0, UINT32_MAX, NMI_LINT,
				   {0}};

	aml_append(area, &nmi, sizeof(nmi));
	if (x2apic)
		aml_append(area, &x2nmi, sizeof(x2nmi));
}

size_t madt_add(struct aml *area, const struct topology *topology)
{
	const uint32_t fixed[] = {LAYOUT_LAPIC_BASE, PCAT_COMPAT};
	struct ioapic ioapic = {IO_APIC, sizeof(ioapic), 0, 0, LAYOUT_IOAPIC_BASE, 0};
	size_t start = table_begin(area, "APIC", 5);

	aml_append(area, fixed, sizeof(fixed));
	for (unsigned int i = 0; i < topology_count(topology); i++)
		add_cpu(area, i, topology_apic_id(topology, i));
	aml_append(area, &ioapic, sizeof(ioapic));
	add_override(area, 0, PIT_PIN, 0);
	add_override(area, LAYOUT_IRQ_SCI, LAYOUT_IRQ_SCI, ACTIVE_HIGH | LEVEL);
	add_nmi(area, topology_needs_x2apic(topology));
	table_end(area, start);
	return start;
}
