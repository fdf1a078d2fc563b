/* SPDX-License-Identifier: MIT */
/* CPUID of each vCPU: the host's, as KVM supports it, with our topology and APIC ids. */
#pragma once

#include <stdint.h>

struct kvm_cpuid2;

/* One socket of `ncpus` cores, one thread each; APIC ids are 0 to ncpus - 1. */
struct cpuid_topology {
	unsigned int ncpus;
	uint32_t apic_id;
};

/*
 * Copy `host` and fit it to one vCPU. Free with free(). NULL where memory is short.
 */
struct kvm_cpuid2 *cpuid_for_vcpu(const struct kvm_cpuid2 *host,
				  const struct cpuid_topology *topology);

/* Physical address bits of `host` (CPUID 0x80000008). */
unsigned int cpuid_phys_bits(const struct kvm_cpuid2 *host);
