/* SPDX-License-Identifier: MIT */
#include "tests/unit/test_boot.h"

#include <errno.h>
#include <stdlib.h>

#include "boot/acpi.h"
#include "boot/aml.h"
#include "boot/e820.h"
#include "vmm/layout.h"
#include "vmm/topology.h"

#define HEADER_BYTES 36

struct table {
	const uint8_t *bytes;
	uint32_t len;
};

struct tables {
	struct mem mem;
	struct table xsdt, fadt, madt, mcfg, dsdt, facs;
};

static uint32_t get32(const uint8_t *at)
{
	uint32_t value;

	memcpy(&value, at, 4);
	return value;
}

static uint64_t get64(const uint8_t *at)
{
	uint64_t value;

	memcpy(&value, at, 8);
	return value;
}

static uint8_t sum(const uint8_t *bytes, size_t len)
{
	uint8_t total = 0;

	while (len--)
		total += *bytes++;
	return total;
}

/* The table at `gpa`: inside the reserved area, named so, its sum zero. */
static struct table table_at(const struct mem *mem, uint64_t gpa, const char *signature)
{
	struct table table;

	assert_in_range(gpa, LAYOUT_BIOS_BASE, LAYOUT_BIOS_END - 8);
	table.bytes = mem_at(mem, gpa, 8);
	assert_memory_equal(table.bytes, signature, 4);
	table.len = get32(table.bytes + 4);
	assert_true(range_fits(gpa, table.len, LAYOUT_BIOS_END));
	if (strcmp(signature, "FACS") != 0)
		assert_int_equal(sum(table.bytes, table.len), 0);
	return table;
}

static void tables_make(struct tables *t, const struct topology *cpus)
{
	const uint8_t *rsdp;
	uint64_t gpa;

	assert_int_equal(mem_init(&t->mem, &(struct mem_options){.len_bytes = MIB(2)}), 0);
	assert_int_equal(acpi_write(&t->mem, cpus, &gpa), 0);
	assert_int_equal(gpa % 16, 0);
	rsdp = mem_at(&t->mem, gpa, 36);
	assert_memory_equal(rsdp, "RSD PTR ", 8);
	assert_int_equal(sum(rsdp, 20), 0);
	assert_int_equal(sum(rsdp, 36), 0);
	t->xsdt = table_at(&t->mem, get64(rsdp + 24), "XSDT");
	assert_int_equal(t->xsdt.len, HEADER_BYTES + 3 * 8);
	t->fadt = table_at(&t->mem, get64(t->xsdt.bytes + 36), "FACP");
	t->madt = table_at(&t->mem, get64(t->xsdt.bytes + 44), "APIC");
	t->mcfg = table_at(&t->mem, get64(t->xsdt.bytes + 52), "MCFG");
	t->dsdt = table_at(&t->mem, get64(t->fadt.bytes + 140), "DSDT");
	assert_int_equal(get64(t->fadt.bytes + 140), get32(t->fadt.bytes + 40));
	assert_int_equal(get32(t->fadt.bytes + 36) % 64, 0);
	t->facs = table_at(&t->mem, get32(t->fadt.bytes + 36), "FACS");
}

static void tables_drop(struct tables *t)
{
	mem_finish(&t->mem);
}

/* Every processor is listed once, by the entry its id needs. */
static void check_madt(const struct topology *cpus)
{
	unsigned int next = 0, x2_nmi = 0, ioapics = 0;
	struct tables t;

	tables_make(&t, cpus);
	for (uint32_t at = HEADER_BYTES + 8; at < t.madt.len; at += t.madt.bytes[at + 1]) {
		const uint8_t *entry = t.madt.bytes + at;

		assert_true(entry[1] >= 2 && at + entry[1] <= t.madt.len);
		if (entry[0] == 0) {
			assert_true(topology_apic_id(cpus, next) < 255);
			assert_int_equal(entry[2], next);
			assert_int_equal(entry[3], topology_apic_id(cpus, next++));
			assert_int_equal(get32(entry + 4), 1);
		} else if (entry[0] == 9) {
			assert_true(topology_apic_id(cpus, next) >= 255);
			assert_int_equal(get32(entry + 4), topology_apic_id(cpus, next));
			assert_int_equal(get32(entry + 8), 1);
			assert_int_equal(get32(entry + 12), next++);
		}
		ioapics += entry[0] == 1;
		x2_nmi += entry[0] == 10;
	}
	assert_int_equal(next, topology_count(cpus));
	assert_int_equal(ioapics, 1);
	assert_int_equal(x2_nmi, topology_apic_id(cpus, next - 1) > 254);
	tables_drop(&t);
}

static void test_madt(void **state)
{
	static const struct topology cases[] = {
		{1, 1, 1}, {1, 2, 1}, {1, 254, 1}, {1, 255, 1}, {1, 256, 1}, {1, 288, 1},
		{1, 4096, 1}, {2, 3, 2}, {2, 65, 1}, {3, 33, 2}, {1, 127, 2}, {2, 64, 2},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		check_madt(&cases[i]);
}

static void test_too_many(void **state)
{
	struct mem mem;
	uint64_t gpa;

	assert_int_equal(mem_init(&mem, &(struct mem_options){.len_bytes = MIB(2)}), 0);
	memset(mem_at(&mem, LAYOUT_BIOS_END, 4096), 0xAA, 4096);
	caught_begin();
	assert_int_equal(acpi_write(&mem, &(struct topology){1, 50000, 2}, &gpa), -ENOSPC);
	assert_one_error(caught_end(), "100000 processors");
	assert_int_equal(*(uint8_t *)mem_at(&mem, LAYOUT_BIOS_END, 1), 0xAA);
	mem_finish(&mem);
}

/* Lengths of all forms, read back as ACPI 6.5 20.2.4 says. */
static void test_aml_lengths(void **state)
{
	static const size_t contents[] = {0, 61, 62, 63, 64, 4000, 4092, 4093, 4094, 5000, 70000};
	uint8_t *buf = malloc(80000);

	for (size_t i = 0; i < ARRAY_LEN(contents); i++) {
		struct aml aml;
		size_t start, len, extra;

		aml_init(&aml, buf, 80000);
		start = aml_if_begin(&aml);
		for (size_t j = 0; j < contents[i]; j++)
			aml_byte(&aml, 0xA5);
		aml_end(&aml, start);
		assert_false(aml.overflow);
		extra = buf[start] >> 6;
		len = extra ? buf[start] & 0xF : buf[start];
		for (size_t j = 0; j < extra; j++)
			len |= (size_t)buf[start + 1 + j] << (4 + 8 * j);
		assert_int_equal(len, 1 + extra + contents[i]);
		assert_int_equal(aml.len, start + len);
	}
	free(buf);
}

/* Whatever the room, nothing is written past it, and the lack of room is told. */
static void test_aml_overflow(void **state)
{
	for (size_t cap = 0; cap < 100; cap++) {
		uint8_t *buf = malloc(cap ? cap : 1);
		struct aml aml;
		size_t device, crs;

		aml_init(&aml, buf, cap);
		device = aml_device_begin(&aml, "DEV0");
		aml_name(&aml, "_HID");
		aml_eisa_id(&aml, "PNP0501");
		crs = aml_resources_begin(&aml);
		for (int i = 0; i < 10; i++)
			aml_res_io(&aml, 0x3F8, 8);
		aml_resources_end(&aml, crs);
		aml_end(&aml, device);
		assert_true(aml.len <= cap);
		assert_true(aml.overflow);
		free(buf);
	}
}

/* The RTC's ports and its interrupt: IO(Decode16, 0x70, 0x70, 1, 2) IRQNoFlags() {8} */
static void test_rtc(void **state)
{
	static const uint8_t resources[] = {0x47, 0x01, 0x70, 0x00, 0x70, 0x00, 0x01, 0x02,
					    0x22, 0x00, 0x01, 0x79, 0x00};
	struct tables t;

	tables_make(&t, &(struct topology){1, 1, 1});
	assert_non_null(memmem(t.dsdt.bytes, t.dsdt.len, resources, sizeof(resources)));
	tables_drop(&t);
}

static void dump(const char *dir, const char *name, const struct table *table)
{
	char path[128];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s.dat", dir, name);
	file = fopen(path, "w");
	assert_non_null(file);
	assert_int_equal(fwrite(table->bytes, 1, table->len, file), table->len);
	fclose(file);
}

static int shell(const char *dir, const char *command)
{
	char line[512];

	snprintf(line, sizeof(line), "cd %s && %s", dir, command);
	return system(line);
}

/* iasl reads each table without complaint, and compiles what it read. */
static void test_iasl(void **state)
{
	char dir[] = "/tmp/minivmm-acpi-XXXXXX";
	struct tables t;
	int complained, compiled;

	if (system("command -v iasl >/dev/null 2>&1") != 0) {
		print_message("iasl is not installed (apt install acpica-tools)\n");
		skip();
	}
	tables_make(&t, &(struct topology){1, 300, 1});
	assert_non_null(mkdtemp(dir));
	dump(dir, "xsdt", &t.xsdt);
	dump(dir, "fadt", &t.fadt);
	dump(dir, "madt", &t.madt);
	dump(dir, "mcfg", &t.mcfg);
	dump(dir, "dsdt", &t.dsdt);
	dump(dir, "facs", &t.facs);
	complained = shell(dir, "for t in *.dat; do iasl -d $t >>log 2>&1 || echo error >>log; "
				"done; ! grep -iE 'error|warning|remark|invalid|unknown' log");
	compiled = shell(dir, "for t in *.dsl; do iasl -we -p out $t >log 2>&1 && "
			      "grep -q '0 Errors, 0 Warnings, 0 Remarks' log || "
			      "{ cat log; exit 1; }; done");
	assert_int_equal(complained, 0);
	assert_int_equal(compiled, 0);
	shell(dir, "rm -f *.dat *.dsl *.aml log out* && rmdir $PWD");
	tables_drop(&t);
}

/* The memory map agrees with the RAM there is, and its ranges are sorted and disjoint. */
static void test_e820(void **state)
{
	static const uint64_t rams[] = {MIB(2), GIB(1), GIB(3), GIB(3) + 4096, GIB(200)};

	for (size_t i = 0; i < ARRAY_LEN(rams); i++) {
		uint64_t low = MIN(rams[i], LAYOUT_LOW_RAM_MAX), end = 0, ram = 0;
		const struct mem mem = {
			.count = rams[i] > low ? 2 : 1,
			.regions = {{0, low, NULL},
				    {LAYOUT_HIGH_RAM_BASE, rams[i] - low, NULL}},
		};
		struct e820 map;

		e820_build(&map, &mem);
		for (unsigned int j = 0; j < map.count; j++) {
			assert_true(map.ranges[j].gpa >= end);
			end = map.ranges[j].gpa + map.ranges[j].len_bytes;
			if (map.ranges[j].type == E820_RAM)
				ram += map.ranges[j].len_bytes;
		}
		assert_int_equal(ram, rams[i] - (MIB(1) - LAYOUT_EBDA_BASE));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_madt),
		cmocka_unit_test(test_too_many),
		cmocka_unit_test(test_aml_lengths),
		cmocka_unit_test(test_aml_overflow),
		cmocka_unit_test(test_rtc),
		cmocka_unit_test(test_iasl),
		cmocka_unit_test(test_e820),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
