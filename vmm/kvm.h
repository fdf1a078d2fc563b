/* SPDX-License-Identifier: MIT */
/* /dev/kvm itself: what this host can do. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct kvm {
	int fd;
	int run_size;           /* bytes of struct kvm_run to map per vCPU */
	unsigned int max_vcpus; /* KVM's own limits */
	unsigned int max_vcpu_id;
	bool pvm; /* the PVM back end: stock kernels do not run here */
	struct kvm_cpuid2 *cpuid; /* KVM_GET_SUPPORTED_CPUID */
};

/* 0 or -errno; logs the remedy (group, module, BIOS setting). */
int kvm_init(struct kvm *kvm);
void kvm_finish(struct kvm *kvm);
