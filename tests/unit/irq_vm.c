/* SPDX-License-Identifier: MIT */
#include "tests/unit/irq_vm.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define APIC_IRR 0x200
#define APIC_SVR 0xf0

int kvm_fd = -1, vm_fd;
struct irq irq;
bool has_high;

static int vcpu_fd[2];

bool irq_vm_possible(void)
{
	kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (kvm_fd < 0)
		printf("skipped: /dev/kvm: %s\n", strerror(errno));
	return kvm_fd >= 0;
}

static void enable_apic(int fd, bool x2apic)
{
	struct kvm_lapic_state lapic;
	struct kvm_sregs sregs;
	uint32_t svr = 0x1ff;

	if (x2apic) {
		assert_int_equal(ioctl(fd, KVM_GET_SREGS, &sregs), 0);
		sregs.apic_base |= 0xc00;
		assert_int_equal(ioctl(fd, KVM_SET_SREGS, &sregs), 0);
	}
	assert_int_equal(ioctl(fd, KVM_GET_LAPIC, &lapic), 0);
	memcpy(lapic.regs + APIC_SVR, &svr, sizeof(svr));
	memset(lapic.regs + APIC_IRR, 0, 8 * 16);
	assert_int_equal(ioctl(fd, KVM_SET_LAPIC, &lapic), 0);
}

static void create_vcpu(int index, unsigned int id)
{
	struct kvm_cpuid2 *cpuid = calloc(1, sizeof(*cpuid) + 256 * sizeof(cpuid->entries[0]));

	vcpu_fd[index] = ioctl(vm_fd, KVM_CREATE_VCPU, id);
	if (vcpu_fd[index] < 0 && id) {
		free(cpuid);
		return; /* this host has no such ids */
	}
	assert_true(vcpu_fd[index] >= 0);
	cpuid->nent = 256;
	assert_int_equal(ioctl(kvm_fd, KVM_GET_SUPPORTED_CPUID, cpuid), 0);
	for (unsigned int i = 0; i < cpuid->nent; i++)
		if (cpuid->entries[i].function == 1)
			cpuid->entries[i].ecx |= 1u << 21;
	assert_int_equal(ioctl(vcpu_fd[index], KVM_SET_CPUID2, cpuid), 0);
	free(cpuid);
	enable_apic(vcpu_fd[index], id > 254);
	has_high |= id > 254;
}

int irq_vm_setup(void **state)
{
	struct kvm_enable_cap x2apic = {
		.cap = KVM_CAP_X2APIC_API,
		.args[0] = KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK,
	};

	vm_fd = ioctl(kvm_fd, KVM_CREATE_VM, 0);
	assert_true(vm_fd >= 0);
	assert_int_equal(ioctl(vm_fd, KVM_ENABLE_CAP, &x2apic), 0);
	assert_int_equal(ioctl(vm_fd, KVM_CREATE_IRQCHIP, 0), 0);
	has_high = false;
	create_vcpu(0, 0);
	create_vcpu(1, HIGH_ID);
	return irq_init(&irq, vm_fd);
}

int irq_vm_teardown(void **state)
{
	irq_finish(&irq);
	close(vcpu_fd[0]);
	if (vcpu_fd[1] >= 0)
		close(vcpu_fd[1]);
	close(vm_fd);
	return 0;
}

static bool vector_is_set(int index, unsigned int vector)
{
	struct kvm_lapic_state lapic;
	uint32_t word;

	assert_int_equal(ioctl(vcpu_fd[index], KVM_GET_LAPIC, &lapic), 0);
	memcpy(&word, lapic.regs + APIC_IRR + vector / 32 * 16, sizeof(word));
	return word >> (vector % 32) & 1;
}

unsigned int vectors_set(int index)
{
	struct kvm_lapic_state lapic;
	unsigned int count = 0;
	uint32_t word;

	assert_int_equal(ioctl(vcpu_fd[index], KVM_GET_LAPIC, &lapic), 0);
	for (unsigned int i = 0; i < 8; i++) {
		memcpy(&word, lapic.regs + APIC_IRR + i * 16, sizeof(word));
		count += (unsigned int)__builtin_popcount(word);
	}
	return count;
}

void assert_arrives(int index, unsigned int vector)
{
	for (int i = 0; i < 2000; i++) {
		if (vector_is_set(index, vector))
			return;
		usleep(500);
	}
	fail_msg("vector 0x%x does not arrive at vCPU %d", vector, index);
}

void forget(void)
{
	enable_apic(vcpu_fd[0], false);
}
