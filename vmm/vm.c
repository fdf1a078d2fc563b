/* SPDX-License-Identifier: MIT */
#include "vmm/vm.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "util/log.h"
#include "util/util.h"
#include "vmm/kvm.h"
#include "vmm/layout.h"

/* Intel processors need pages for real mode; after the vCPUs it would be too late. */
static int set_kvm_pages(struct vm *vm)
{
	uint64_t identity = LAYOUT_KVM_IDENTITY;

	if (ioctl(vm->fd, KVM_SET_IDENTITY_MAP_ADDR, &identity) < 0)
		return -errno;
	return ioctl(vm->fd, KVM_SET_TSS_ADDR, LAYOUT_KVM_TSS) < 0 ? -errno : 0;
}

static int set_memory_slots(struct vm *vm)
{
	for (unsigned int i = 0; i < vm->mem.count; i++) {
		const struct mem_region *region = &vm->mem.regions[i];
		struct kvm_userspace_memory_region slot = {
			.slot = i,
			.guest_phys_addr = region->gpa,
			.memory_size = region->len_bytes,
			.userspace_addr = (uintptr_t)region->hva,
		};

		if (ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &slot) < 0)
			return -errno;
	}
	return 0;
}

static int create_irqchip(struct vm *vm)
{
	struct kvm_pit_config pit = {.flags = KVM_PIT_SPEAKER_DUMMY};
	struct kvm_enable_cap x2apic = {
		.cap = KVM_CAP_X2APIC_API,
		.args[0] = KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK,
	};

	if (ioctl(vm->fd, KVM_ENABLE_CAP, &x2apic) < 0 && topology_needs_x2apic(&vm->topology))
		return -errno;
	if (ioctl(vm->fd, KVM_CREATE_IRQCHIP, 0) < 0)
		return -errno;
	if (ioctl(vm->fd, KVM_CREATE_PIT2, &pit) < 0)
		return -errno;
	return irq_init(&vm->irq, vm->fd);
}

static int create_vcpus(struct vm *vm)
{
	int r = 0;
	unsigned int i;

	vm->vcpus = calloc(vm->ncpus, sizeof(*vm->vcpus));
	if (!vm->vcpus)
		return -ENOMEM;
	for (i = 0; i < vm->ncpus; i++) {
		r = vcpu_init(&vm->vcpus[i], vm, i);
		if (r < 0)
			break;
	}
	if (r == 0)
		return 0;
	while (i-- > 0)
		vcpu_finish(&vm->vcpus[i]);
	free(vm->vcpus);
	return r;
}

static int fail(const char *what, int r)
{
	log_error("cannot create the machine: %s: %s%s", what, strerror(-r), fd_remedy(-r));
	return r;
}

static int enable_cap(const struct vm *vm, uint32_t cap, uint64_t value)
{
	struct kvm_enable_cap enable = {.cap = cap, .args = {value}};

	return ioctl(vm->fd, KVM_ENABLE_CAP, &enable) < 0 ? -errno : 0;
}

/* HLT, the idle loop's, and PAUSE, a spinning lock's: nobody else waits for the processor. */
static int disable_idle_exits(const struct vm *vm)
{
	int can = ioctl(vm->kvm->fd, KVM_CHECK_EXTENSION, KVM_CAP_X86_DISABLE_EXITS);
	uint64_t wanted = KVM_X86_DISABLE_EXITS_HLT | KVM_X86_DISABLE_EXITS_PAUSE;

	if (can > 0 && can & KVM_X86_DISABLE_EXITS_HLT &&
	    enable_cap(vm, KVM_CAP_X86_DISABLE_EXITS, wanted & (uint64_t)can) == 0)
		return 0;
	log_error("--cpu-idle-exits off: this host's KVM cannot let a guest idle on its processors");
	return -ENOTSUP;
}

static int set_halt_poll(const struct vm *vm, unsigned int us)
{
	int r = enable_cap(vm, KVM_CAP_HALT_POLL, us * 1000ull);

	if (r < 0)
		log_error("--halt-poll %u: KVM refuses it: %s (Linux 5.9 or later is needed)", us,
			  strerror(-r));
	return r;
}

/* Before there is a vCPU. */
static int set_idling(const struct vm *vm, const struct vm_options *options)
{
	int r = 0;

	if (options->no_idle_exits)
		r = disable_idle_exits(vm);
	if (r == 0 && options->has_halt_poll)
		r = set_halt_poll(vm, options->halt_poll_us);
	return r;
}

/* The order of these ioctls is the start time: slots before anything on KVM's I/O buses. */
static int create_kvm_vm(struct vm *vm)
{
	int r;

	r = set_kvm_pages(vm);
	if (r < 0)
		return fail("KVM's own pages", r);
	r = set_memory_slots(vm);
	if (r < 0)
		return fail("memory slots", r);
	r = create_irqchip(vm);
	if (r < 0)
		return fail("interrupt controllers", r);
	r = create_vcpus(vm);
	if (r < 0) {
		irq_finish(&vm->irq);
		return fail(r == -EMFILE ? "vCPUs" : "vCPUs (fewer --cpus?)", r);
	}
	return 0;
}

static int init_objects(struct vm *vm, const struct mem_options *mem)
{
	int r;

	r = mem_init(&vm->mem, mem);
	if (r < 0)
		return r;
	r = bus_init(&vm->pio);
	if (r < 0) {
		fail("buses", r);
		goto err_mem;
	}
	r = bus_init(&vm->mmio);
	if (r < 0) {
		fail("buses", r);
		goto err_pio;
	}
	vm->end_fd = eventfd(0, EFD_CLOEXEC);
	if (vm->end_fd >= 0)
		return 0;
	r = fail("an eventfd", -errno);
	bus_finish(&vm->mmio);
err_pio:
	bus_finish(&vm->pio);
err_mem:
	mem_finish(&vm->mem);
	return r;
}

static void finish_objects(struct vm *vm)
{
	close(vm->end_fd);
	bus_finish(&vm->mmio);
	bus_finish(&vm->pio);
	mem_finish(&vm->mem);
}

int vm_create(const struct kvm *kvm, const struct vm_options *options, struct vm **out)
{
	struct vm *vm = calloc(1, sizeof(*vm));
	int r;

	if (!vm)
		return -ENOMEM;
	vm->kvm = kvm;
	vm->topology = options->cpus;
	vm->ncpus = topology_count(&vm->topology);
	vm->pins = options->pins;
	r = init_objects(vm, &options->mem);
	if (r < 0)
		goto err_free;
	vm->fd = ioctl(kvm->fd, KVM_CREATE_VM, 0);
	if (vm->fd < 0) {
		r = fail("KVM_CREATE_VM", -errno);
		goto err_objects;
	}
	r = set_idling(vm, options);
	if (r == 0)
		r = create_kvm_vm(vm);
	if (r < 0)
		goto err_close;
	*out = vm;
	return 0;

err_close:
	close(vm->fd);
err_objects:
	finish_objects(vm);
err_free:
	free(vm);
	return r;
}

void vm_destroy(struct vm *vm)
{
	if (!vm)
		return;
	for (unsigned int i = 0; i < vm->ncpus; i++)
		vcpu_finish(&vm->vcpus[i]);
	free(vm->vcpus);
	irq_finish(&vm->irq);
	close(vm->fd);
	finish_objects(vm);
	free(vm);
}

int vm_start(struct vm *vm, const struct vcpu_entry *entry)
{
	int r = vcpu_set_entry(&vm->vcpus[0], entry);

	if (r < 0)
		return fail("the first vCPU's registers", r);
	for (unsigned int i = 0; i < vm->ncpus; i++) {
		r = vcpu_start(&vm->vcpus[i]);
		if (r == 0)
			continue;
		fail("vCPU threads", r);
		vm_stop(vm);
		return r;
	}
	return 0;
}

void vm_stop(struct vm *vm)
{
	atomic_store(&vm->stopping, true);
	for (unsigned int i = 0; i < vm->ncpus; i++)
		vcpu_kick(&vm->vcpus[i]);
	for (unsigned int i = 0; i < vm->ncpus; i++)
		vcpu_join(&vm->vcpus[i]);
}

void vm_end(struct vm *vm, enum vm_end how)
{
	int running = VM_RUNNING;

	if (!atomic_compare_exchange_strong(&vm->end, &running, how))
		return;
	moment_note(&vm->ended);
	eventfd_write(vm->end_fd, 1);
}

static int ioeventfd(struct vm *vm, const struct bus *bus, uint64_t addr, int fd, uint32_t flags)
{
	/* Length 0: any access size; KVM then need not even decode the instruction on VMX. */
	struct kvm_ioeventfd event = {.addr = addr, .fd = fd, .flags = flags};

	if (bus == &vm->pio)
		event.flags |= KVM_IOEVENTFD_FLAG_PIO;
	return ioctl(vm->fd, KVM_IOEVENTFD, &event) < 0 ? -errno : 0;
}

int vm_ioeventfd_add(struct vm *vm, const struct bus *bus, uint64_t addr, int fd)
{
	return ioeventfd(vm, bus, addr, fd, 0);
}

void vm_ioeventfd_del(struct vm *vm, const struct bus *bus, uint64_t addr, int fd)
{
	ioeventfd(vm, bus, addr, fd, KVM_IOEVENTFD_FLAG_DEASSIGN);
}
