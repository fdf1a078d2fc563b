/* SPDX-License-Identifier: MIT */
/*
 * The least a program must do to get a byte out of a guest: the ioctls in their best order, a
 * guest of five instructions, and nothing else. What a VMM takes beyond this is its own.
 *
 * bare [MEM_MIB]
 */
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define CODE_GPA 0x200000ull

static const unsigned char code[] = {
	0x66, 0xba, 0xf8, 0x03, /* mov $0x3f8, %dx */
	0xb0, '!',		/* mov $'!', %al */
	0xee,			/* out %al, (%dx) */
	0xf4,			/* hlt */
};

static int check(int result, const char *what)
{
	if (result >= 0)
		return result;
	perror(what);
	exit(1);
}

static void set_memory(int vm, unsigned char *ram, unsigned long long len)
{
	struct kvm_userspace_memory_region slot = {
		.memory_size = len,
		.userspace_addr = (unsigned long)ram,
	};

	memcpy(ram + CODE_GPA, code, sizeof(code));
	check(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &slot), "memory");
}

static void set_entry(int vcpu)
{
	struct kvm_segment flat = {.limit = ~0u, .present = 1, .s = 1, .g = 1, .db = 1};
	struct kvm_regs regs = {.rip = CODE_GPA, .rflags = 2};
	struct kvm_sregs sregs;

	check(ioctl(vcpu, KVM_GET_SREGS, &sregs), "sregs");
	flat.selector = 0x18;
	flat.type = 3;
	sregs.ds = sregs.es = sregs.ss = flat;
	flat.selector = 0x10;
	flat.type = 11;
	sregs.cs = flat;
	sregs.cr0 = 0x11;
	check(ioctl(vcpu, KVM_SET_SREGS, &sregs), "sregs");
	check(ioctl(vcpu, KVM_SET_REGS, &regs), "regs");
}

static void set_cpuid(int kvm, int vcpu)
{
	struct kvm_cpuid2 *cpuid = calloc(1, sizeof(*cpuid) + 256 * sizeof(cpuid->entries[0]));

	cpuid->nent = 256;
	check(ioctl(kvm, KVM_GET_SUPPORTED_CPUID, cpuid), "cpuid");
	check(ioctl(vcpu, KVM_SET_CPUID2, cpuid), "cpuid");
}

int main(int argc, char **argv)
{
	unsigned long long len = (argc > 1 ? strtoull(argv[1], NULL, 0) : 128) << 20;
	unsigned char *ram = mmap(NULL, len, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	struct kvm_pit_config pit = {0};
	int kvm = check(open("/dev/kvm", O_RDWR | O_CLOEXEC), "/dev/kvm");
	int vm = check(ioctl(kvm, KVM_CREATE_VM, 0), "vm");
	struct kvm_run *run;
	int vcpu;

	check(ioctl(vm, KVM_SET_TSS_ADDR, 0xfeffd000ul), "tss");
	set_memory(vm, ram, len);
	check(ioctl(vm, KVM_CREATE_IRQCHIP, 0), "irqchip");
	check(ioctl(vm, KVM_CREATE_PIT2, &pit), "pit");
	vcpu = check(ioctl(vm, KVM_CREATE_VCPU, 0), "vcpu");
	run = mmap(NULL, (size_t)check(ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), "size"),
		   PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	set_cpuid(kvm, vcpu);
	set_entry(vcpu);
	check(ioctl(vcpu, KVM_RUN, 0), "run");
	if (run->exit_reason != KVM_EXIT_IO)
		return 1;
	return write(STDOUT_FILENO, (char *)run + run->io.data_offset, 1) == 1 ? 0 : 1;
}
