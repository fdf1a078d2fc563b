/* SPDX-License-Identifier: MIT */
/*
 * Interrupts on a VM of the real KVM, which is never run: what arrives is read from its
 * interrupt controllers.
 */
#include "vmm/irq.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/resource.h>

#include "tests/unit/capture.h"
#include "util/util.h"
#include "vmm/layout.h"

#define HIGH_ID 300u /* an APIC id that needs more than 8 bits */
#define MSI_ADDR 0xfee00000u
#define APIC_IRR 0x200
#define APIC_SVR 0xf0

static int kvm_fd = -1, vm_fd, vcpu_fd[2];
static struct irq irq;
static bool has_high;

/* --- a VM --- */

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

static int setup(void **state)
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

static int teardown(void **state)
{
	capture_end();
	irq_finish(&irq);
	close(vcpu_fd[0]);
	if (vcpu_fd[1] >= 0)
		close(vcpu_fd[1]);
	close(vm_fd);
	return 0;
}

/* --- what arrived --- */

static bool vector_is_set(int index, unsigned int vector)
{
	struct kvm_lapic_state lapic;
	uint32_t word;

	assert_int_equal(ioctl(vcpu_fd[index], KVM_GET_LAPIC, &lapic), 0);
	memcpy(&word, lapic.regs + APIC_IRR + vector / 32 * 16, sizeof(word));
	return word >> (vector % 32) & 1;
}

static unsigned int vectors_set(int index)
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

/* Irqfds may be delivered by a kernel thread, a little later. */
static void assert_arrives(int index, unsigned int vector)
{
	for (int i = 0; i < 2000; i++) {
		if (vector_is_set(index, vector))
			return;
		usleep(500);
	}
	fail_msg("vector 0x%x does not arrive at vCPU %d", vector, index);
}

static void assert_silence(void)
{
	usleep(2000);
	assert_int_equal(vectors_set(0), 0);
	if (has_high)
		assert_int_equal(vectors_set(1), 0);
}

static void forget(void)
{
	enable_apic(vcpu_fd[0], false);
}

/* --- lines --- */

static uint32_t chip_irr(uint32_t chip)
{
	struct kvm_irqchip state = {.chip_id = chip};

	assert_int_equal(ioctl(vm_fd, KVM_GET_IRQCHIP, &state), 0);
	return chip == KVM_IRQCHIP_IOAPIC ? state.chip.ioapic.irr : state.chip.pic.irr;
}

static void test_lines(void **state)
{
	for (uint32_t gsi = 0; gsi < LAYOUT_IOAPIC_PINS; gsi++) {
		uint32_t pin = gsi == 0 ? 2 : gsi;

		/* Fresh controllers: the PIC's IRR stays when an edge has gone. */
		if (gsi)
			setup(NULL);
		irq_set_line(&irq, gsi, true);
		assert_int_equal(chip_irr(KVM_IRQCHIP_IOAPIC), gsi == 2 ? 0 : 1u << pin);
		if (gsi < 8)
			assert_int_equal(chip_irr(KVM_IRQCHIP_PIC_MASTER) & ~4u,
					 gsi == 2 ? 0 : 1u << gsi);
		assert_int_equal(chip_irr(KVM_IRQCHIP_PIC_SLAVE),
				 gsi >= 8 && gsi < 16 ? 1u << (gsi - 8) : 0);
		irq_set_line(&irq, gsi, false);
		assert_int_equal(chip_irr(KVM_IRQCHIP_IOAPIC), 0);
		if (gsi + 1 < LAYOUT_IOAPIC_PINS)
			teardown(NULL);
	}
}

/* --- MSI --- */

static void test_deliver(void **state)
{
	struct irq_msi msi;

	assert_int_equal(irq_msi_init(&irq, &msi), 0);
	assert_true(msi.gsi >= LAYOUT_IOAPIC_PINS);
	assert_false(irq_msi_pending(&msi));
	assert_int_equal(irq_msi_unmask(&msi, MSI_ADDR, 0x51), 0);
	assert_silence();
	irq_msi_raise(&msi);
	assert_arrives(0, 0x51);
	assert_int_equal(vectors_set(0), 1);
	assert_false(irq_msi_pending(&msi));
	irq_msi_finish(&msi);
}

static void test_masked(void **state)
{
	struct irq_msi msi;

	assert_int_equal(irq_msi_init(&irq, &msi), 0);
	irq_msi_raise(&msi); /* never routed yet */
	assert_true(irq_msi_pending(&msi));
	assert_silence();
	assert_int_equal(irq_msi_unmask(&msi, MSI_ADDR, 0x61), 0);
	assert_arrives(0, 0x61);
	assert_false(irq_msi_pending(&msi));
	forget();
	irq_msi_mask(&msi);
	irq_msi_mask(&msi);
	assert_false(irq_msi_pending(&msi)); /* delivered is delivered */
	irq_msi_raise(&msi);
	irq_msi_raise(&msi);
	assert_true(irq_msi_pending(&msi));
	assert_true(irq_msi_pending(&msi)); /* looking changes nothing */
	assert_silence();
	/* Moved while masked: it comes as the new vector only. */
	assert_int_equal(irq_msi_unmask(&msi, MSI_ADDR, 0x62), 0);
	assert_arrives(0, 0x62);
	assert_int_equal(vectors_set(0), 1);
	forget();
	irq_msi_mask(&msi);
	assert_int_equal(irq_msi_unmask(&msi, MSI_ADDR, 0x62), 0);
	assert_silence(); /* once, not again */
	irq_msi_finish(&msi);
}

static void test_moved_live(void **state)
{
	struct irq_msi msi;

	assert_int_equal(irq_msi_init(&irq, &msi), 0);
	for (uint32_t vector = 0x40; vector < 0x50; vector++) {
		assert_int_equal(irq_msi_unmask(&msi, MSI_ADDR, vector), 0);
		irq_msi_raise(&msi);
		assert_arrives(0, vector);
		assert_int_equal(vectors_set(0), vector - 0x3f);
	}
	irq_msi_finish(&msi);
}

/* Bits 11:5 of the address carry bits 14:8 of the APIC id. */
static void test_high_destination(void **state)
{
	struct irq_msi msi;

	if (!has_high)
		skip();
	assert_int_equal(irq_msi_init(&irq, &msi), 0);
	assert_int_equal(irq_msi_unmask(&msi, MSI_ADDR | (HIGH_ID & 0xff) << 12 | HIGH_ID >> 8 << 5,
					0x71), 0);
	irq_msi_raise(&msi);
	assert_arrives(1, 0x71);
	assert_int_equal(vectors_set(0), 0);
	irq_msi_finish(&msi);
}

/* A guest may write any address and data; none may be refused, or take another's route down. */
static void test_wild_messages(void **state)
{
	static const uint64_t addrs[] = {0, UINT64_MAX, 0xfee00000, 0xfeefffff, 1ull << 63,
					 0xffffffff, 0xfee0000000000000};
	struct irq_msi good, wild;

	assert_int_equal(irq_msi_init(&irq, &good), 0);
	assert_int_equal(irq_msi_init(&irq, &wild), 0);
	assert_int_equal(irq_msi_unmask(&good, MSI_ADDR, 0x55), 0);
	for (size_t i = 0; i < ARRAY_LEN(addrs); i++) {
		assert_int_equal(irq_msi_unmask(&wild, addrs[i], 0), 0);
		irq_msi_raise(&wild);
		assert_int_equal(irq_msi_unmask(&wild, addrs[i], UINT32_MAX), 0);
		irq_msi_raise(&wild);
	}
	forget();
	irq_msi_raise(&good);
	assert_arrives(0, 0x55);
	irq_msi_finish(&wild);
	irq_msi_finish(&good);
}

/* A route KVM refused is none, and can be set again. */
static void test_refused_route(void **state)
{
	struct irq_msi msi;

	assert_int_equal(irq_msi_init(&irq, &msi), 0);
	irq.vm_fd = -1;
	capture_start();
	assert_int_equal(irq_msi_unmask(&msi, MSI_ADDR, 0x81), -EBADF);
	assert_int_equal(irq_msi_unmask(&msi, MSI_ADDR, 0x81), -EBADF);
	assert_int_equal(capture_lines(capture_end()), 2);
	irq.vm_fd = vm_fd;
	assert_int_equal(irq_msi_unmask(&msi, MSI_ADDR, 0x81), 0);
	irq_msi_raise(&msi);
	assert_arrives(0, 0x81);
	irq.vm_fd = -1;
	capture_start();
	assert_int_equal(irq_msi_unmask(&msi, MSI_ADDR, 0x82), -EBADF);
	capture_end();
	irq.vm_fd = vm_fd;
	assert_int_equal(irq_msi_unmask(&msi, MSI_ADDR, 0x82), 0);
	irq_msi_raise(&msi);
	assert_arrives(0, 0x82);
	irq_msi_finish(&msi);
}

static unsigned int open_fds(void)
{
	unsigned int count = 0;

	for (int fd = 0; fd < 4096; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

static void test_exhaustion(void **state)
{
	enum { MANY = 1024 };
	struct irq_msi *msis = calloc(MANY + 1, sizeof(*msis)), again;
	bool *used = calloc(65536, 1);
	unsigned int fds;

	for (int i = 0; i < MANY; i++) {
		assert_int_equal(irq_msi_init(&irq, &msis[i]), 0);
		assert_true(msis[i].gsi >= LAYOUT_IOAPIC_PINS && msis[i].gsi < 65536);
		assert_false(used[msis[i].gsi]);
		used[msis[i].gsi] = true;
	}
	fds = open_fds();
	assert_int_equal(irq_msi_init(&irq, &msis[MANY]), -ENOSPC);
	assert_int_equal(open_fds(), fds);
	/* The last one works, and what is given back can be had again. */
	assert_int_equal(irq_msi_unmask(&msis[MANY - 1], MSI_ADDR, 0x91), 0);
	irq_msi_raise(&msis[MANY - 1]);
	assert_arrives(0, 0x91);
	irq_msi_finish(&msis[777]);
	assert_int_equal(irq_msi_init(&irq, &again), 0);
	assert_int_equal(again.gsi, msis[777].gsi);
	msis[777] = again;
	for (int i = 0; i < MANY; i++)
		irq_msi_finish(&msis[i]);
	free(used);
	free(msis);
}

/* A GSI used again must not bring its last owner's route along. */
static void test_reuse(void **state)
{
	unsigned int routes = irq.table->nr;
	struct irq_msi msis[8];

	for (uint32_t round = 0; round < 4; round++) {
		for (uint32_t i = 0; i < 8; i++) {
			assert_int_equal(irq_msi_init(&irq, &msis[i]), 0);
			if (i % 2 == round % 2)
				assert_int_equal(irq_msi_unmask(&msis[i], MSI_ADDR,
								0x40 + round * 8 + i), 0);
		}
		for (uint32_t i = 0; i < 8; i++)
			irq_msi_raise(&msis[i]);
		for (uint32_t i = 0; i < 8; i++) {
			assert_int_equal(irq_msi_pending(&msis[i]), i % 2 != round % 2);
			if (i % 2 == round % 2)
				assert_arrives(0, 0x40 + round * 8 + i);
		}
		assert_int_equal(vectors_set(0), 4);
		forget();
		for (uint32_t i = 0; i < 8; i++)
			irq_msi_finish(&msis[i]);
		assert_int_equal(irq.table->nr, routes);
	}
}

/* Against a plain account: a raise arrives exactly once, at the vector of its unmasking. */
static void test_random(void **state)
{
	enum { N = 6 };
	struct irq_msi msis[N];
	bool masked[N], pending[N] = {0};
	uint32_t vector[N];

	srandom(3);
	for (int i = 0; i < N; i++) {
		assert_int_equal(irq_msi_init(&irq, &msis[i]), 0);
		masked[i] = true;
	}
	for (int step = 0; step < 400; step++) {
		long i = random() % N;
		bool arrives = false;

		switch (random() % 3) {
		case 0:
			irq_msi_mask(&msis[i]);
			masked[i] = true;
			break;
		case 1:
			vector[i] = (uint32_t)(0x40 + i * 16 + random() % 16);
			assert_int_equal(irq_msi_unmask(&msis[i], MSI_ADDR, vector[i]), 0);
			arrives = pending[i];
			masked[i] = pending[i] = false;
			break;
		default:
			irq_msi_raise(&msis[i]);
			arrives = !masked[i];
			pending[i] = masked[i];
		}
		if (arrives)
			assert_arrives(0, vector[i]);
		assert_int_equal(vectors_set(0), arrives);
		if (arrives)
			forget();
		for (int j = 0; j < N; j++)
			assert_int_equal(irq_msi_pending(&msis[j]), pending[j]);
	}
	for (int i = 0; i < N; i++)
		irq_msi_finish(&msis[i]);
}

static void *toggle(void *arg)
{
	uint32_t number = *(uint32_t *)arg;
	uintptr_t wrong = 0;

	for (uint32_t i = 0; i < 20; i++) {
		struct irq_msi msi;

		wrong += irq_msi_init(&irq, &msi) != 0;
		wrong += irq_msi_unmask(&msi, MSI_ADDR, 0x40 + number) != 0;
		irq_msi_raise(&msi);
		irq_msi_mask(&msi);
		wrong += irq_msi_unmask(&msi, MSI_ADDR, 0x50 + number) != 0;
		irq_msi_finish(&msi);
	}
	return (void *)wrong;
}

/* Devices set up their vectors at the same time, each on its own vCPU. */
static void test_threads(void **state)
{
	uint32_t numbers[4], routes = irq.table->nr;
	pthread_t threads[4];
	void *wrong;

	for (uint32_t i = 0; i < 4; i++) {
		numbers[i] = i;
		assert_int_equal(pthread_create(&threads[i], NULL, toggle, &numbers[i]), 0);
	}
	for (uint32_t i = 0; i < 4; i++) {
		pthread_join(threads[i], &wrong);
		assert_null(wrong);
		assert_arrives(0, 0x40 + i);
	}
	assert_int_equal(irq.table->nr, routes);
}

/* No interrupt controllers in this VM: one line, and nothing left behind. */
static void test_init_fails(void **state)
{
	int bare = ioctl(kvm_fd, KVM_CREATE_VM, 0);
	struct irq other;

	capture_start();
	assert_true(irq_init(&other, bare) < 0);
	assert_one_line(capture_end());
	close(bare);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_lines),
		TEST(test_deliver),
		TEST(test_masked),
		TEST(test_moved_live),
		TEST(test_high_destination),
		TEST(test_wild_messages),
		TEST(test_refused_route),
		TEST(test_exhaustion),
		TEST(test_reuse),
		TEST(test_random),
		TEST(test_threads),
		TEST(test_init_fails),
	};
	struct rlimit files;

	kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (kvm_fd < 0) {
		printf("skipped: /dev/kvm: %s\n", strerror(errno));
		return 77;
	}
	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = MIN(files.rlim_max, 4096);
	setrlimit(RLIMIT_NOFILE, &files);
	if (files.rlim_cur < 2048) {
		printf("skipped: at most %lu open files\n", (unsigned long)files.rlim_cur);
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
