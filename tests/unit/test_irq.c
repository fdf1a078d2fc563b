/* SPDX-License-Identifier: MIT */
/* Interrupt lines, and each thing that may happen to an MSI. */
#include "vmm/irq.h"

#include <errno.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "tests/unit/capture.h"
#include "tests/unit/irq_vm.h"
#include "util/util.h"
#include "vmm/layout.h"

static int teardown(void **state)
{
	capture_end();
	return irq_vm_teardown(state);
}

static void assert_silence(void)
{
	usleep(2000);
	assert_int_equal(vectors_set(0), 0);
	if (has_high)
		assert_int_equal(vectors_set(1), 0);
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
			irq_vm_setup(NULL);
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

#define TEST(name) cmocka_unit_test_setup_teardown(name, irq_vm_setup, teardown)

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
		TEST(test_init_fails),
	};

	if (!irq_vm_possible())
		return 77;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
