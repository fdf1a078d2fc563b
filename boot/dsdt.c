/* SPDX-License-Identifier: MIT */
/*
 * \_S5, and under \_SB: PCI0 (the host bridge and its windows), MRES (what no driver may
 * take), COM1 and the RTC. No _PRT: no device has an INTx pin.
 */
#include "boot/aml.h"
#include "boot/table.h"
#include "vmm/layout.h"

/* AML opcodes that only _OSC uses. */
enum {
	OP_BYTE = 0x0A,
	OP_ARG0 = 0x68,
	OP_ARG3 = 0x6B,
	OP_OR = 0x7D,
	OP_CREATE_DWORD_FIELD = 0x8A,
	OP_NOT = 0x92,
	OP_EQUAL = 0x93,
	OP_RETURN = 0xA4,
};

#define METHOD_SERIALIZED 0x08
#define OSC_UNKNOWN_UUID 0x04

static void name_int(struct aml *aml, const char *name, uint64_t value)
{
	aml_name(aml, name);
	aml_int(aml, value);
}

static void name_eisa_id(struct aml *aml, const char *name, const char *id)
{
	aml_name(aml, name);
	aml_eisa_id(aml, id);
}

/*
 * PCI _OSC (PCI firmware specification 3.3, 4.5.1): all that is asked for is granted, since
 * there is no hot plug, PME or AER here that firmware would keep for itself.
 *
 *	Method(_OSC, 4, Serialized) {
 *		CreateDWordField(Arg3, 0, CDW1)
 *		If (LNotEqual(Arg0, ToUUID("33DB4D5B-1FF7-401C-9657-7441C03DD766"))) {
 *			Or(CDW1, 4, CDW1)
 *		}
 *		Return (Arg3)
 *	}
 */
static void add_osc(struct aml *aml)
{
	static const uint8_t uuid[16] = {0x5B, 0x4D, 0xDB, 0x33, 0xF7, 0x1F, 0x1C, 0x40,
					 0x96, 0x57, 0x74, 0x41, 0xC0, 0x3D, 0xD7, 0x66};
	size_t method = aml_method_begin(aml, "_OSC", 4 | METHOD_SERIALIZED);
	size_t branch;

	aml_byte(aml, OP_CREATE_DWORD_FIELD);
	aml_byte(aml, OP_ARG3);
	aml_int(aml, 0);
	aml_name_string(aml, "CDW1");

	branch = aml_if_begin(aml);
	aml_byte(aml, OP_NOT);
	aml_byte(aml, OP_EQUAL);
	aml_byte(aml, OP_ARG0);
	aml_buffer(aml, uuid, sizeof(uuid));
	aml_byte(aml, OP_OR);
	aml_name_string(aml, "CDW1");
	aml_int(aml, OSC_UNKNOWN_UUID);
	aml_name_string(aml, "CDW1");
	aml_end(aml, branch);

	aml_byte(aml, OP_RETURN);
	aml_byte(aml, OP_ARG3);
	aml_end(aml, method);
}

static void add_pci(struct aml *aml)
{
	size_t device = aml_device_begin(aml, "PCI0");
	size_t crs;

	name_eisa_id(aml, "_HID", "PNP0A08");
	name_eisa_id(aml, "_CID", "PNP0A03");
	name_int(aml, "_UID", 0);
	name_int(aml, "_SEG", 0);
	name_int(aml, "_BBN", 0);
	crs = aml_resources_begin(aml);
	aml_res_window_bus(aml, 0, LAYOUT_ECAM_BUSES - 1);
	aml_res_io(aml, LAYOUT_PORT_PCI_ADDR, 8);
	aml_res_window_io(aml, LAYOUT_PCI_PORTS_BASE,
			  LAYOUT_PCI_PORTS_BASE + LAYOUT_PCI_PORTS_SIZE - 1);
	aml_res_window_memory32(aml, LAYOUT_PCI32_BASE,
				LAYOUT_PCI32_BASE + LAYOUT_PCI32_SIZE - 1);
	aml_resources_end(aml, crs);
	add_osc(aml);
	aml_end(aml, device);
}

static void add_motherboard(struct aml *aml)
{
	size_t device = aml_device_begin(aml, "MRES");
	size_t crs;

	name_eisa_id(aml, "_HID", "PNP0C02");
	name_int(aml, "_UID", 0);
	crs = aml_resources_begin(aml);
	aml_res_memory32(aml, LAYOUT_ECAM_BASE, LAYOUT_ECAM_SIZE);
	aml_res_io(aml, LAYOUT_PORT_PM1_EVT, 4);
	aml_res_io(aml, LAYOUT_PORT_PM1_CNT, 2);
	aml_resources_end(aml, crs);
	aml_end(aml, device);
}

static void add_com1(struct aml *aml)
{
	size_t device = aml_device_begin(aml, "COM1");
	size_t crs;

	name_eisa_id(aml, "_HID", "PNP0501");
	name_int(aml, "_UID", 0);
	crs = aml_resources_begin(aml);
	aml_res_io(aml, LAYOUT_PORT_COM1, 8);
	aml_res_irq(aml, LAYOUT_IRQ_COM1);
	aml_resources_end(aml, crs);
	aml_end(aml, device);
}

static void add_rtc(struct aml *aml)
{
	size_t device = aml_device_begin(aml, "RTC");
	size_t crs;

	name_eisa_id(aml, "_HID", "PNP0B00");
	crs = aml_resources_begin(aml);
	aml_res_io(aml, LAYOUT_PORT_RTC, 2);
	aml_res_irq(aml, LAYOUT_IRQ_RTC);
	aml_resources_end(aml, crs);
	aml_end(aml, device);
}

/* Name(\_S5, Package() { SLP_TYPa, SLP_TYPb, 0, 0 }) */
static void add_s5(struct aml *aml)
{
	size_t package;

	aml_name(aml, "\\_S5");
	package = aml_package_begin(aml, 4);
	aml_int(aml, LAYOUT_S5_SLP_TYP);
	aml_int(aml, 0);
	aml_int(aml, 0);
	aml_int(aml, 0);
	aml_end(aml, package);
}

size_t dsdt_add(struct aml *area)
{
	size_t start = table_begin(area, "DSDT", 2);
	size_t scope;

	add_s5(area);
	scope = aml_scope_begin(area, "\\_SB");
	add_pci(area);
	add_motherboard(area);
	add_com1(area);
	add_rtc(area);
	aml_end(area, scope);
	table_end(area, start);
	return start;
}
