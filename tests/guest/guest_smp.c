/* SPDX-License-Identifier: MIT */
/*
 * cpus=N: each processor starts by INIT and SIPI sent to its 32-bit APIC id, and finds that id
 * and a topology of one socket with N cores in CPUID.
 */
#include "guest/lib/cpu.h"
#include "guest/lib/guest.h"
#include "guest/lib/smp.h"

#define LEVEL_SMT 1
#define LEVEL_CORE 2

static uint64_t cpus;
static uint32_t expected_id;

static bool is_vendor(const char *name)
{
	struct cpuid r = cpuid(0, 0);

	return memcmp(&r.ebx, name, 4) == 0 && memcmp(&r.edx, name + 4, 4) == 0 &&
	       memcmp(&r.ecx, name + 8, 4) == 0;
}

static void check_levels(uint32_t leaf)
{
	struct cpuid smt = cpuid(leaf, 0), core = cpuid(leaf, 1), end = cpuid(leaf, 2);

	CHECK_EQ(smt.edx, expected_id);
	CHECK_EQ(smt.ecx, LEVEL_SMT << 8);
	CHECK_EQ(smt.eax, 0);
	CHECK_EQ(smt.ebx, 1);
	CHECK_EQ(core.edx, expected_id);
	CHECK_EQ(core.ecx, LEVEL_CORE << 8 | 1);
	CHECK_EQ(core.ebx, cpus);
	/* the socket's shift leaves the same number for all */
	CHECK(core.eax < 32);
	CHECK_EQ((cpus - 1) >> core.eax, 0);
	CHECK(core.eax == 0 || (cpus - 1) >> (core.eax - 1) != 0);
	CHECK_EQ(end.ecx >> 8 & 0xFF, 0);
}

/* Leaf 4: first-level caches are a core's own, the last level is everybody's. */
static void check_caches(uint32_t leaf)
{
	for (uint32_t i = 0;; i++) {
		struct cpuid r = cpuid(leaf, i);
		uint32_t sharing = (r.eax >> 14 & 0xFFF) + 1;

		if ((r.eax & 0x1F) == 0)
			return;
		CHECK(i < 16);
		if ((r.eax >> 5 & 7) == 1)
			CHECK_EQ(sharing, 1);
		if ((r.eax >> 5 & 7) == 3)
			CHECK(sharing >= cpus);
	}
}

static void check_amd(void)
{
	uint32_t max = cpuid(0x80000000, 0).eax;
	uint32_t cores = (cpuid(0x80000008, 0).ecx & 0xFF) + 1;

	CHECK_EQ(cores, cpus < 256 ? cpus : 256);
	if (max >= 0x8000001E && cpuid(0x80000001, 0).ecx >> 22 & 1) {
		CHECK_EQ(cpuid(0x8000001E, 0).eax, expected_id);
		CHECK_EQ(cpuid(0x8000001E, 0).ebx >> 8 & 0xFF, 0);
	}
}

static void check_processor(void)
{
	struct cpuid features = cpuid(1, 0);
	uint32_t max = cpuid(0, 0).eax;

	CHECK_EQ(apic_id(), expected_id);
	CHECK_EQ(features.ebx >> 24, expected_id & 0xFF);
	CHECK(features.ecx >> 31 & 1); /* under a hypervisor */
	if (cpus > 1)
		CHECK(features.edx >> 28 & 1); /* HTT: EBX[23:16] counts */
	if (cpus > 1 && cpus < 256)
		CHECK((features.ebx >> 16 & 0xFF) >= cpus);
	CHECK(max >= 0xB);
	check_levels(0xB);
	if (max >= 0x1F && cpuid(0x1F, 0).ebx)
		check_levels(0x1F);
	check_caches(4);
	if (is_vendor("AuthenticAMD"))
		check_amd();
}

void guest_main(void)
{
	cpus = param("cpus", 1);
	smp_init((unsigned int)cpus);
	check_processor();
	for (uint32_t id = 1; id < cpus; id++) {
		expected_id = id;
		smp_run(id, check_processor);
	}
	print("%lu processors\n", cpus);
}
