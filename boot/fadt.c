/* SPDX-License-Identifier: MIT */
/*
 * The FADT (ACPI 6.5, 5.2.9). The hardware is not "hardware-reduced": PM1a event and control
 * blocks, the power button as a fixed feature, no PM timer (kvm-clock and the TSC are better),
 * always in ACPI mode (no SMI command port), a reset register.
 */
#include "boot/table.h"
#include "vmm/layout.h"

/* Generic address structure (5.2.3.2). */
struct gas {
	uint8_t space; /* 1: system I/O */
	uint8_t bit_width;
	uint8_t bit_offset;
	uint8_t access; /* 1: byte, 2: word, 3: dword */
	uint64_t address;
} __attribute__((packed));

/* What follows the header. */
struct fadt {
	uint32_t facs;
	uint32_t dsdt;
	uint8_t reserved0;
	uint8_t pm_profile;
	uint16_t sci_irq;
	uint32_t smi_cmd;
	uint8_t acpi_enable, acpi_disable, s4bios_req, pstate_cnt;
	uint32_t pm1a_evt, pm1b_evt, pm1a_cnt, pm1b_cnt, pm2_cnt, pm_tmr, gpe0, gpe1;
	uint8_t pm1_evt_len, pm1_cnt_len, pm2_cnt_len, pm_tmr_len, gpe0_len, gpe1_len, gpe1_base;
	uint8_t cst_cnt;
	uint16_t c2_latency, c3_latency;
	uint16_t flush_size, flush_stride;
	uint8_t duty_offset, duty_width;
	uint8_t day_alarm, month_alarm, century;
	uint16_t boot_arch;
	uint8_t reserved1;
	uint32_t flags;
	struct gas reset_reg;
	uint8_t reset_value;
	uint16_t arm_boot_arch;
	uint8_t minor_revision;
	uint64_t x_facs, x_dsdt;
	struct gas x_pm1a_evt, x_pm1b_evt, x_pm1a_cnt, x_pm1b_cnt, x_pm2_cnt, x_pm_tmr, x_gpe0,
		x_gpe1;
	struct gas sleep_control, sleep_status;
	char hypervisor[8];
} __attribute__((packed));

_Static_assert(offsetof(struct fadt, flags) == 112 - 36, "ACPI 6.5, table 5.9");
_Static_assert(sizeof(struct fadt) == 276 - 36, "ACPI 6.5, table 5.9");

#define PROFILE_SERVER 4
#define CMOS_CENTURY 0x32
#define LATENCY_NO_C2 101
#define LATENCY_NO_C3 1001

#define BOOT_ARCH_LEGACY_DEVICES (1 << 0)
#define BOOT_ARCH_NO_VGA (1 << 2)
#define BOOT_ARCH_NO_ASPM (1 << 4)

#define FADT_WBINVD (1 << 0)
#define FADT_PROC_C1 (1 << 2)
#define FADT_NO_SLEEP_BUTTON (1 << 5)
#define FADT_NO_FIXED_RTC (1 << 6)
#define FADT_RESET_REG (1 << 10)
#define FADT_HEADLESS (1 << 12)

static struct gas io_register(uint8_t bits, uint8_t access, uint64_t port)
{
	return (struct gas){.space = 1, .bit_width = bits, .access = access, .address = port};
}

size_t fadt_add(struct aml *area, uint64_t facs_gpa, uint64_t dsdt_gpa)
{
	struct fadt fadt = {
		.facs = (uint32_t)facs_gpa,
		.dsdt = (uint32_t)dsdt_gpa,
		.pm_profile = PROFILE_SERVER,
		.sci_irq = LAYOUT_IRQ_SCI,
		.pm1a_evt = LAYOUT_PORT_PM1_EVT,
		.pm1a_cnt = LAYOUT_PORT_PM1_CNT,
		.pm1_evt_len = 4,
		.pm1_cnt_len = 2,
		.c2_latency = LATENCY_NO_C2,
		.c3_latency = LATENCY_NO_C3,
		.century = CMOS_CENTURY,
		.boot_arch = BOOT_ARCH_LEGACY_DEVICES | BOOT_ARCH_NO_VGA | BOOT_ARCH_NO_ASPM,
		.flags = FADT_WBINVD | FADT_PROC_C1 | FADT_NO_SLEEP_BUTTON | FADT_NO_FIXED_RTC |
			 FADT_RESET_REG | FADT_HEADLESS,
		.reset_reg = io_register(8, 1, LAYOUT_PORT_RESET),
		.reset_value = LAYOUT_RESET_VALUE,
		.minor_revision = 5,
		.x_dsdt = dsdt_gpa,
		.x_pm1a_evt = io_register(32, 2, LAYOUT_PORT_PM1_EVT),
		.x_pm1a_cnt = io_register(16, 2, LAYOUT_PORT_PM1_CNT),
		.hypervisor = "minivmm",
	};
	size_t start = table_begin(area, "FACP", 6);

	aml_append(area, &fadt, sizeof(fadt));
	table_end(area, start);
	return start;
}
