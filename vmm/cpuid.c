/* SPDX-License-Identifier: MIT */
/*
 * Sources: Intel SDM volume 2A (CPUID) and 3A section 9.9 (topology); AMD APM volume 3,
 * appendix E; Linux Documentation/virt/kvm/x86/cpuid.rst.
 */
#include "vmm/cpuid.h"

#include <asm/kvm_para.h>
#include <linux/kvm.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "util/util.h"
#include "vmm/topology.h"

/* Room for what the host does not report: subleaves of 0xB and 0x1F. */
#define EXTRA_ENTRIES 8

#define LEVEL_SMT 1
#define LEVEL_CORE 2

/* Whose CPUID it is. */
struct self {
	const struct topology *topology;
	uint32_t apic_id;
};

/* Ids that a socket has room for. */
static unsigned int socket_ids(const struct self *self)
{
	return 1u << topology_socket_bits(self->topology);
}

static unsigned int socket_threads(const struct self *self)
{
	return self->topology->cores * self->topology->threads;
}

static void fit_features(struct kvm_cpuid_entry2 *e, const struct self *self)
{
	e->ebx &= 0x0000ffff; /* keep brand index and CLFLUSH size */
	e->ebx |= self->apic_id << 24 | MIN(socket_ids(self), 255u) << 16;
	e->ecx |= 1u << 31; /* under a hypervisor */
	e->ecx |= 1u << 24; /* TSC deadline, which KVM's APIC always has */
	e->ecx |= 1u << 21; /* x2APIC, likewise */
	e->edx &= ~(1u << 28);
	if (socket_threads(self) > 1)
		e->edx |= 1u << 28; /* HTT: EBX[23:16] is valid */
}

/* Leaf 4 and AMD's 0x8000001D: who shares each cache. */
static void fit_cache(struct kvm_cpuid_entry2 *e, const struct self *self)
{
	unsigned int core_bits = topology_core_bits(self->topology);
	unsigned int cores = socket_ids(self) >> core_bits;
	unsigned int level = e->eax >> 5 & 7;
	unsigned int ids = level >= 3 ? socket_ids(self) : 1u << core_bits;

	if ((e->eax & 0x1f) == 0)
		return;
	e->eax &= 0x3fff;
	e->eax |= (MIN(ids, 4096u) - 1) << 14; /* one last-level cache for each socket */
	if (e->function == 4)
		e->eax |= (MIN(cores, 64u) - 1) << 26;
}

static void fit_amd(struct kvm_cpuid_entry2 *e, const struct self *self)
{
	const struct topology *topology = self->topology;

	switch (e->function) {
	case 0x80000001:
		e->ecx &= ~2u;
		if (socket_threads(self) > 1 && topology->threads == 1)
			e->ecx |= 2u; /* CmpLegacy: the logical processors are cores */
		break;
	case 0x80000008:
		e->ecx &= ~0xf0ffu;
		e->ecx |= MIN(topology_socket_bits(topology), 15u) << 12 |
			  (MIN(socket_threads(self), 256u) - 1);
		break;
	case 0x8000001e:
		e->eax = self->apic_id;
		e->ebx = (MIN(topology->threads, 256u) - 1) << 8 |
			 (self->apic_id >> topology_core_bits(topology) & 0xff); /* core id */
		e->ecx = self->apic_id >> topology_socket_bits(topology) & 0xff; /* one node each */
		break;
	}
}

static void fit_kvm_features(struct kvm_cpuid_entry2 *e, const struct self *self)
{
	/* MSIs then carry 15 bits of APIC id (vmm/irq.c puts them in place); without this Linux
	 * gives up on processors whose id is larger than 254. */
	if (topology_needs_x2apic(self->topology))
		e->eax |= 1u << KVM_FEATURE_MSI_EXT_DEST_ID;
}

/* Of the host's processors, and not for the guest: 0xB and 0x1F are made anew, AMD's 0x80000026
 * says nothing they do not. */
static bool is_topology_leaf(uint32_t function)
{
	return function == 0xb || function == 0x1f || function == 0x80000026;
}

static struct kvm_cpuid_entry2 *append(struct kvm_cpuid2 *cpuid, uint32_t function, uint32_t index)
{
	struct kvm_cpuid_entry2 *e = &cpuid->entries[cpuid->nent++];

	*e = (struct kvm_cpuid_entry2){
		.function = function,
		.index = index,
		.flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
	};
	return e;
}

static void add_topology_leaf(struct kvm_cpuid2 *cpuid, uint32_t function,
			      const struct self *self)
{
	struct kvm_cpuid_entry2 *smt = append(cpuid, function, 0);
	struct kvm_cpuid_entry2 *core = append(cpuid, function, 1);
	struct kvm_cpuid_entry2 *end = append(cpuid, function, 2);

	smt->eax = topology_core_bits(self->topology);
	smt->ebx = self->topology->threads;
	smt->ecx = LEVEL_SMT << 8;
	core->eax = topology_socket_bits(self->topology);
	core->ebx = socket_threads(self);
	core->ecx = LEVEL_CORE << 8 | 1;
	end->ecx = 2;
	smt->edx = core->edx = end->edx = self->apic_id;
}

static void fit_entry(struct kvm_cpuid_entry2 *e, const struct self *self, bool amd)
{
	switch (e->function) {
	case 1:
		fit_features(e, self);
		break;
	case 4:
	case 0x8000001d:
		fit_cache(e, self);
		break;
	case 0x80000001:
	case 0x80000008:
	case 0x8000001e:
		if (amd)
			fit_amd(e, self);
		break;
	case KVM_CPUID_FEATURES:
		fit_kvm_features(e, self);
		break;
	}
}

static const struct kvm_cpuid_entry2 *find(const struct kvm_cpuid2 *cpuid, uint32_t function)
{
	for (unsigned int i = 0; i < cpuid->nent; i++)
		if (cpuid->entries[i].function == function)
			return &cpuid->entries[i];
	return NULL;
}

static bool is_amd(const struct kvm_cpuid2 *host)
{
	const struct kvm_cpuid_entry2 *vendor = find(host, 0);

	/* "Auth" of AuthenticAMD, "Hygo" of HygonGenuine */
	return vendor && (vendor->ebx == 0x68747541 || vendor->ebx == 0x6f677948);
}

struct kvm_cpuid2 *cpuid_for_vcpu(const struct kvm_cpuid2 *host, const struct topology *topology,
				  uint32_t apic_id)
{
	const struct self self = {topology, apic_id};
	const struct kvm_cpuid_entry2 *max = find(host, 0);
	size_t entries = host->nent + EXTRA_ENTRIES;
	struct kvm_cpuid2 *cpuid = calloc(1, sizeof(*cpuid) + entries * sizeof(cpuid->entries[0]));
	bool amd = is_amd(host);

	if (!cpuid)
		return NULL;
	for (unsigned int i = 0; i < host->nent; i++) {
		struct kvm_cpuid_entry2 *e = &cpuid->entries[cpuid->nent];

		if (is_topology_leaf(host->entries[i].function))
			continue;
		*e = host->entries[i];
		fit_entry(e, &self, amd);
		cpuid->nent++;
	}
	if (max && max->eax >= 0xb)
		add_topology_leaf(cpuid, 0xb, &self);
	if (max && max->eax >= 0x1f)
		add_topology_leaf(cpuid, 0x1f, &self);
	return cpuid;
}

unsigned int cpuid_phys_bits(const struct kvm_cpuid2 *host)
{
	const struct kvm_cpuid_entry2 *e = find(host, 0x80000008);

	return e ? e->eax & 0xff : 36;
}
