/* SPDX-License-Identifier: MIT */
/* CPUID of each vCPU: the host's, as KVM supports it, with our topology and APIC ids. */
#pragma once

#include <stdint.h>

struct kvm_cpuid2;
struct topology;

/*
 * Copy `host` and fit it to the vCPU of that APIC id. Free with free(). NULL where memory is
 * short.
 */
struct kvm_cpuid2 *cpuid_for_vcpu(const struct kvm_cpuid2 *host, const struct topology *topology,
				  uint32_t apic_id);

/* Physical address bits of `host` (CPUID 0x80000008). */
unsigned int cpuid_phys_bits(const struct kvm_cpuid2 *host);
