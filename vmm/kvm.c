/* SPDX-License-Identifier: MIT */
#include "vmm/kvm.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "util/log.h"
#include "util/util.h"

#define CPUID_ENTRIES 256

static int open_kvm(void)
{
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	int err = errno;

	if (fd >= 0)
		return fd;
	switch (err) {
	case ENOENT:
	case ENODEV:
	case ENXIO:
		log_error("/dev/kvm: %s (enable virtualization in the firmware, then load "
			  "kvm_intel or kvm_amd)", strerror(err));
		break;
	case EACCES:
	case EPERM:
		log_error("/dev/kvm: %s (add yourself to group kvm, or run as root)",
			  strerror(err));
		break;
	default:
		log_error("/dev/kvm: %s%s", strerror(err), fd_remedy(err));
	}
	return -err;
}

static int check_capabilities(struct kvm *kvm)
{
	static const struct {
		int cap;
		const char *name;
	} needed[] = {
		{KVM_CAP_USER_MEMORY, "user memory"},
		{KVM_CAP_IRQCHIP, "in-kernel interrupt controllers"},
		{KVM_CAP_PIT2, "in-kernel timer"},
		{KVM_CAP_IRQFD, "irqfd"},
		{KVM_CAP_IOEVENTFD, "ioeventfd"},
		{KVM_CAP_IRQ_ROUTING, "interrupt routing"},
		{KVM_CAP_SIGNAL_MSI, "MSI"},
		{KVM_CAP_IMMEDIATE_EXIT, "immediate exit"},
		{KVM_CAP_EXT_CPUID, "CPUID"},
	};
	int version = ioctl(kvm->fd, KVM_GET_API_VERSION, 0);

	if (version != KVM_API_VERSION) {
		log_error("/dev/kvm: API version %d, %d is needed", version, KVM_API_VERSION);
		return -ENOTSUP;
	}
	for (unsigned int i = 0; i < ARRAY_LEN(needed); i++) {
		if (ioctl(kvm->fd, KVM_CHECK_EXTENSION, needed[i].cap) > 0)
			continue;
		log_error("/dev/kvm: this kernel's KVM has no %s (Linux 5.10 or later is needed)",
			  needed[i].name);
		return -ENOTSUP;
	}
	return 0;
}

static int get_cpuid(struct kvm *kvm)
{
	size_t bytes = sizeof(*kvm->cpuid) + CPUID_ENTRIES * sizeof(kvm->cpuid->entries[0]);
	int r;

	kvm->cpuid = calloc(1, bytes);
	if (!kvm->cpuid)
		return -ENOMEM;
	kvm->cpuid->nent = CPUID_ENTRIES;
	if (ioctl(kvm->fd, KVM_GET_SUPPORTED_CPUID, kvm->cpuid) == 0)
		return 0;
	r = -errno;
	log_error("/dev/kvm: cannot read the supported CPUID: %s", strerror(-r));
	return r;
}

static unsigned int limit(int kvm_fd, int cap, unsigned int fallback)
{
	int value = ioctl(kvm_fd, KVM_CHECK_EXTENSION, cap);

	return value > 0 ? (unsigned int)value : fallback;
}

int kvm_init(struct kvm *kvm)
{
	int r;

	memset(kvm, 0, sizeof(*kvm));
	kvm->fd = open_kvm();
	if (kvm->fd < 0)
		return kvm->fd;
	r = check_capabilities(kvm);
	if (r < 0)
		goto err_finish;
	r = get_cpuid(kvm);
	if (r < 0)
		goto err_finish;
	kvm->run_size = ioctl(kvm->fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (kvm->run_size < 0) {
		r = -errno;
		log_error("/dev/kvm: cannot tell the size of a vCPU's page: %s", strerror(-r));
		goto err_finish;
	}
	kvm->max_vcpus = limit(kvm->fd, KVM_CAP_MAX_VCPUS, 4);
	kvm->max_vcpu_id = limit(kvm->fd, KVM_CAP_MAX_VCPU_ID, kvm->max_vcpus);
	kvm->pvm = access("/sys/module/kvm_pvm", F_OK) == 0 &&
		   access("/sys/module/kvm_intel", F_OK) != 0 &&
		   access("/sys/module/kvm_amd", F_OK) != 0;
	return 0;

err_finish:
	kvm_finish(kvm);
	return r;
}

void kvm_finish(struct kvm *kvm)
{
	free(kvm->cpuid);
	kvm->cpuid = NULL;
	close(kvm->fd);
	kvm->fd = -1;
}
