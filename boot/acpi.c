/* SPDX-License-Identifier: MIT */
/*
 * Tables are appended one after the other to the guest's memory. RSDP and XSDT come first,
 * because the RSDP is searched for from the start, and are written again last, when the
 * addresses of the others are known.
 */
#include "boot/acpi.h"

#include <errno.h>
#include <string.h>

#include "boot/table.h"
#include "util/log.h"
#include "vmm/layout.h"
#include "vmm/mem.h"
#include "vmm/topology.h"

#define TABLES_LISTED 3 /* in the XSDT: FADT, MADT, MCFG */

/* 5.2.5.3 */
struct rsdp {
	char signature[8];
	uint8_t checksum; /* of the first 20 bytes */
	char oem_id[6];
	uint8_t revision;
	uint32_t rsdt_gpa;
	uint32_t len_bytes;
	uint64_t xsdt_gpa;
	uint8_t full_checksum;
	uint8_t reserved[3];
} __attribute__((packed));

#define RSDP_V1_BYTES 20
#define XSDT_OFFSET 48 /* the RSDP's 36 bytes, aligned */

/* 5.2.10 */
struct facs {
	char signature[4];
	uint32_t len_bytes;
	uint32_t hardware_signature;
	uint32_t waking_vector;
	uint32_t global_lock;
	uint32_t flags;
	uint64_t x_waking_vector;
	uint8_t version;
	uint8_t reserved[31];
} __attribute__((packed));

#define FACS_ALIGN 64

_Static_assert(sizeof(struct rsdp) == 36, "ACPI 6.5, table 5.3");
_Static_assert(sizeof(struct facs) == 64, "ACPI 6.5, table 5.12");

static uint64_t gpa_of(size_t offset)
{
	return LAYOUT_BIOS_BASE + offset;
}

static size_t facs_add(struct aml *area)
{
	struct facs facs = {.signature = "FACS", .len_bytes = sizeof(facs), .version = 2};
	size_t start = table_align(area, FACS_ALIGN);

	aml_append(area, &facs, sizeof(facs));
	return start;
}

/* PCI firmware specification 3.3, 4.1.2 */
static size_t mcfg_add(struct aml *area)
{
	const struct {
		uint64_t reserved;
		uint64_t base;
		uint16_t segment;
		uint8_t first_bus;
		uint8_t last_bus;
		uint32_t reserved2;
	} __attribute__((packed)) mcfg = {
		.base = LAYOUT_ECAM_BASE,
		.last_bus = LAYOUT_ECAM_BUSES - 1,
	};
	size_t start = table_begin(area, "MCFG", 1);

	aml_append(area, &mcfg, sizeof(mcfg));
	table_end(area, start);
	return start;
}

static void root_add(struct aml *area, const uint64_t *tables)
{
	struct rsdp rsdp = {
		.signature = "RSD PTR ",
		.oem_id = TABLE_OEM_ID,
		.revision = 2,
		.len_bytes = sizeof(rsdp),
		.xsdt_gpa = gpa_of(XSDT_OFFSET),
	};
	size_t start;

	rsdp.checksum = table_checksum(&rsdp, RSDP_V1_BYTES);
	rsdp.full_checksum = table_checksum(&rsdp, sizeof(rsdp));
	aml_append(area, &rsdp, sizeof(rsdp));
	start = table_begin(area, "XSDT", 1);
	aml_append(area, tables, TABLES_LISTED * sizeof(*tables));
	table_end(area, start);
}

int acpi_write(const struct mem *mem, const struct topology *topology, uint64_t *rsdp_gpa)
{
	const size_t size = LAYOUT_BIOS_END - LAYOUT_BIOS_BASE;
	uint64_t tables[TABLES_LISTED] = {0};
	void *hva = mem_at(mem, LAYOUT_BIOS_BASE, size);
	struct aml area, root;
	size_t facs, dsdt;

	if (!hva)
		return -EFAULT;
	aml_init(&area, hva, size);
	root = area;
	root_add(&area, tables); /* keeps the place */
	facs = facs_add(&area);
	dsdt = dsdt_add(&area);
	tables[0] = gpa_of(fadt_add(&area, gpa_of(facs), gpa_of(dsdt)));
	tables[1] = gpa_of(madt_add(&area, topology));
	tables[2] = gpa_of(mcfg_add(&area));
	if (area.overflow) {
		log_error("ACPI: no room to list %u processors (use fewer: --cpus)",
			  topology_count(topology));
		return -ENOSPC;
	}
	root_add(&root, tables);
	*rsdp_gpa = LAYOUT_BIOS_BASE;
	return 0;
}
