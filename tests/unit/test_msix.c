/* SPDX-License-Identifier: MIT */
#include "tests/unit/fake_pci.h"

#include <linux/pci_regs.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "devices/msix.h"

#define VECTORS 70u /* the pending bits need two qwords */
#define TABLE 0x1000u
#define PBA 0x2000u
#define MSI_ADDR 0xfee01000u

static struct pci_host *host;
static struct pci_dev pci;
static struct msix msix;

static void written(struct pci_dev *dev, unsigned int reg, unsigned int len)
{
	msix_config_written(&msix, reg, len);
}

static const struct pci_dev_ops ops = {.config_written = written};

static int setup(void **state)
{
	static const struct pci_id id = {.vendor = 0x1234, .device = 0x5678};

	fake_vm_init();
	if (pci_host_create(&fake_vm, &host) < 0)
		return -1;
	pci_dev_init(&pci, &id, &ops);
	if (msix_init(&msix, NULL, &pci, VECTORS, 2, TABLE, PBA) < 0)
		return -1;
	return pci_add(host, &pci);
}

static int teardown(void **state)
{
	pci_remove(&pci);
	msix_finish(&msix);
	pci_host_destroy(host);
	fake_vm_finish();
	return 0;
}

static void control(uint16_t flags)
{
	cfg_out(1, msix.cap + PCI_MSIX_FLAGS, 2, flags);
}

static uint64_t table_in(uint64_t offset, unsigned int len)
{
	uint64_t value = 0xeeeeeeeeeeeeeeee;

	msix_table_read(&msix, offset, &value, len);
	return len == 8 ? value : value & ((1ull << 8 * len) - 1);
}

static void table_out(uint64_t offset, unsigned int len, uint64_t value)
{
	msix_table_write(&msix, offset, &value, len);
}

static uint64_t pba_in(uint64_t offset, unsigned int len)
{
	uint64_t value = 0xeeeeeeeeeeeeeeee;

	msix_pba_read(&msix, offset, &value, len);
	return len == 8 ? value : value & ((1ull << 8 * len) - 1);
}

/* Message data is the vector's number. */
static void set_vector(unsigned int vector, bool masked)
{
	table_out(vector * 16, 4, MSI_ADDR);
	table_out(vector * 16 + 4, 4, 0);
	table_out(vector * 16 + 8, 4, vector);
	table_out(vector * 16 + 12, 4, masked);
}

static void capability(void **state)
{
	assert_int_equal(cfg_in(1, msix.cap, 1), PCI_CAP_ID_MSIX);
	assert_int_equal(cfg_in(1, msix.cap + PCI_MSIX_FLAGS, 2), VECTORS - 1);
	assert_int_equal(cfg_in(1, msix.cap + PCI_MSIX_TABLE, 4), TABLE | 2);
	assert_int_equal(cfg_in(1, msix.cap + PCI_MSIX_PBA, 4), PBA | 2);
	control(0xffff);
	assert_int_equal(cfg_in(1, msix.cap + PCI_MSIX_FLAGS, 2), 0xc000 | (VECTORS - 1));
	cfg_out(1, msix.cap + PCI_MSIX_TABLE, 4, 0);
	assert_int_equal(cfg_in(1, msix.cap + PCI_MSIX_TABLE, 4), TABLE | 2);
}

static void table_reads_back(void **state)
{
	assert_int_equal(table_in(12, 4), 1); /* masked at reset */
	table_out(16, 8, 0x1122334455667788);
	table_out(24, 8, 0xffffffff99aabbcc); /* the reserved bits of control read zero */
	assert_int_equal(table_in(16, 4), 0x55667788);
	assert_int_equal(table_in(20, 4), 0x11223344);
	assert_int_equal(table_in(16, 8), 0x1122334455667788);
	assert_int_equal(table_in(24, 8), 0x0000000199aabbcc);
	assert_int_equal(table_in(0, 8), 0);
}

static void odd_accesses_do_nothing(void **state)
{
	static const struct {
		uint64_t offset;
		unsigned int len;
	} rows[] = {
		{16, 1}, {16, 2}, {17, 4}, {18, 4}, {20, 8}, {22, 8},
		{VECTORS * 16, 4}, {VECTORS * 16, 8}, {0xff8, 8}, {0xffc, 4},
	};

	table_out(16, 8, 0x1122334455667788);
	for (unsigned int i = 0; i < ARRAY_LEN(rows); i++) {
		table_out(rows[i].offset, rows[i].len, 0xffffffffffffffff);
		assert_int_equal(table_in(rows[i].offset, rows[i].len), 0);
		assert_int_equal(pba_in(rows[i].offset, rows[i].len), 0);
	}
	assert_int_equal(table_in(16, 8), 0x1122334455667788);
}

static void delivery_needs_all_masks_off(void **state)
{
	set_vector(3, false);
	msix_raise(&msix, 3);
	assert_int_equal(pba_in(0, 8), 0); /* disabled: dropped */
	control(PCI_MSIX_FLAGS_ENABLE);
	assert_int_equal(fake_delivered[3], 0);
	msix_raise(&msix, 3);
	assert_int_equal(fake_delivered[3], 1);
	assert_int_equal(msix.entries[3].msi.addr, MSI_ADDR);
	msix_raise(&msix, VECTORS);
	msix_raise(&msix, 0xffff);
	control(0);
	msix_raise(&msix, 3);
	assert_int_equal(fake_delivered[3], 1);
}

static void masked_vectors_stay_pending(void **state)
{
	set_vector(5, true);
	set_vector(69, true);
	control(PCI_MSIX_FLAGS_ENABLE);
	msix_raise(&msix, 5);
	msix_raise(&msix, 5);
	msix_raise(&msix, 69);
	assert_int_equal(pba_in(0, 8), 1 << 5);
	assert_int_equal(pba_in(0, 4), 1 << 5);
	assert_int_equal(pba_in(4, 4), 0);
	assert_int_equal(pba_in(8, 8), 1 << (69 - 64));
	assert_int_equal(pba_in(16, 8), 0);
	table_out(5 * 16 + 12, 4, 0);
	assert_int_equal(fake_delivered[5], 1); /* at once, and once */
	assert_int_equal(pba_in(0, 8), 0);
	assert_int_equal(pba_in(8, 8), 1 << (69 - 64));
}

/* Who writes to a vector's eventfd raises it. */
static void vectors_have_a_file(void **state)
{
	set_vector(5, true);
	assert_int_equal(msix_fd(&msix, 5), -1);
	control(PCI_MSIX_FLAGS_ENABLE);
	assert_int_equal(msix_fd(&msix, VECTORS), -1);
	assert_int_equal(msix_fd(&msix, 0xffff), -1);
	assert_int_equal(eventfd_write(msix_fd(&msix, 5), 1), 0);
	assert_int_equal(pba_in(0, 8), 1 << 5);
	assert_int_equal(fake_delivered[5], 0);
	table_out(5 * 16 + 12, 4, 0);
	assert_int_equal(fake_delivered[5], 1);
}

static void function_mask(void **state)
{
	set_vector(0, false);
	set_vector(1, true);
	control(PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
	msix_raise(&msix, 0);
	msix_raise(&msix, 1);
	assert_int_equal(pba_in(0, 8), 3);
	control(PCI_MSIX_FLAGS_ENABLE);
	assert_int_equal(fake_delivered[0], 1);
	assert_int_equal(fake_delivered[1], 0);
	assert_int_equal(pba_in(0, 8), 2);
	/* the byte that holds both bits is enough; the low byte holds neither */
	cfg_out(1, msix.cap + PCI_MSIX_FLAGS, 1, 0xff);
	msix_raise(&msix, 0);
	assert_int_equal(fake_delivered[0], 2);
	cfg_out(1, msix.cap + PCI_MSIX_FLAGS + 1, 1, 0xc0);
	msix_raise(&msix, 0);
	assert_int_equal(fake_delivered[0], 2);
}

static void vectors_move_while_masked(void **state)
{
	set_vector(2, false);
	control(PCI_MSIX_FLAGS_ENABLE);
	table_out(2 * 16 + 12, 4, 1);
	msix_raise(&msix, 2);
	table_out(2 * 16, 8, 0x00000100fee7f000);
	table_out(2 * 16 + 8, 4, 0x42);
	assert_int_equal(fake_delivered[0x42], 0);
	table_out(2 * 16 + 12, 4, 0);
	assert_int_equal(fake_delivered[2], 0);
	assert_int_equal(fake_delivered[0x42], 1);
	assert_int_equal(msix.entries[2].msi.addr, 0x00000100fee7f000);
	/* data and mask bit in one write */
	table_out(2 * 16 + 8, 8, 0x43);
	msix_raise(&msix, 2);
	assert_int_equal(fake_delivered[0x43], 1);
}

static void refusal_is_survived(void **state)
{
	control(PCI_MSIX_FLAGS_ENABLE);
	fake_msi_refused = true;
	set_vector(4, false);
	msix_raise(&msix, 4);
	assert_int_equal(pba_in(0, 8), 1 << 4);
	fake_msi_refused = false;
	table_out(4 * 16 + 12, 4, 0);
	assert_int_equal(fake_delivered[4], 1);
}

static void counts_are_checked(void **state)
{
	struct pci_dev dev;
	struct msix other;

	pci_dev_init(&dev, &(struct pci_id){0}, &ops);
	assert_int_equal(msix_init(&other, NULL, &dev, 0, 0, TABLE, PBA), -EINVAL);
	assert_int_equal(msix_init(&other, NULL, &dev, 2049, 0, TABLE, PBA), -EINVAL);
}

/* A loop raises while vCPUs mask and unmask: nothing is lost. */
static atomic_bool raising;

static void *raise_often(void *arg)
{
	while (raising)
		msix_raise(&msix, 7);
	return NULL;
}

static void masks_race_with_raises(void **state)
{
	pthread_t thread;
	unsigned int before;

	set_vector(7, false);
	control(PCI_MSIX_FLAGS_ENABLE);
	raising = true;
	assert_int_equal(pthread_create(&thread, NULL, raise_often, NULL), 0);
	for (unsigned int i = 0; i < 2000; i++) {
		table_out(7 * 16 + 12, 4, i & 1);
		control(PCI_MSIX_FLAGS_ENABLE | (i & 2 ? PCI_MSIX_FLAGS_MASKALL : 0));
		pba_in(0, 8);
	}
	raising = false;
	pthread_join(thread, NULL);
	table_out(7 * 16 + 12, 4, 1);
	before = fake_delivered[7];
	msix_raise(&msix, 7);
	control(PCI_MSIX_FLAGS_ENABLE);
	table_out(7 * 16 + 12, 4, 0);
	assert_int_equal(fake_delivered[7], before + 1);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(capability),
		TEST(table_reads_back),
		TEST(odd_accesses_do_nothing),
		TEST(delivery_needs_all_masks_off),
		TEST(masked_vectors_stay_pending),
		TEST(vectors_have_a_file),
		TEST(function_mask),
		TEST(vectors_move_while_masked),
		TEST(refusal_is_survived),
		TEST(counts_are_checked),
		TEST(masks_race_with_raises),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
