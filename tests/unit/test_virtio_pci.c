/* SPDX-License-Identifier: MIT */
/* The registers: what the transport shows, and which writes count. */
#include "tests/unit/toy_fixture.h"

/* The `nth` virtio capability of a type; 0: none. */
static unsigned int find_cap(uint8_t type, unsigned int nth)
{
	unsigned int cap = cfg_in(SLOT, PCI_CAPABILITY_LIST, 1);

	for (; cap; cap = cfg_in(SLOT, cap + 1, 1))
		if (cfg_in(SLOT, cap, 1) == PCI_CAP_ID_VNDR &&
		    cfg_in(SLOT, cap + VIRTIO_PCI_CAP_CFG_TYPE, 1) == type && nth-- == 0)
			return cap;
	return 0;
}

static void identity(void **state)
{
	assert_int_equal(cfg_in(SLOT, PCI_VENDOR_ID, 4), (0x1040u + TOY_ID) << 16 | 0x1af4);
	assert_int_equal(cfg_in(SLOT, PCI_REVISION_ID, 1), 1);
	assert_int_equal(cfg_in(SLOT, PCI_CLASS_REVISION, 4) >> 8, 0xff0000);
	assert_true(cfg_in(SLOT, PCI_SUBSYSTEM_ID, 2) >= 0x40); /* 4.1.2.1 */
	assert_int_equal(cfg_in(SLOT, PCI_INTERRUPT_PIN, 1), 0);
}

static void capabilities(void **state)
{
	static const struct {
		uint8_t type, nth, len, bar;
		uint32_t offset, bytes;
	} rows[] = {
		{VIRTIO_PCI_CAP_COMMON_CFG, 0, 16, 0, 0x0000, 56},
		{VIRTIO_PCI_CAP_ISR_CFG, 0, 16, 0, 0x1000, 1},
		{VIRTIO_PCI_CAP_DEVICE_CFG, 0, 16, 0, 0x2000, TOY_CONFIG_BYTES},
		{VIRTIO_PCI_CAP_NOTIFY_CFG, 0, 20, 1, 0, 4 * TOY_QUEUES}, /* to be preferred */
		{VIRTIO_PCI_CAP_NOTIFY_CFG, 1, 20, 0, 0x3000, 4 * TOY_QUEUES},
		{VIRTIO_PCI_CAP_PCI_CFG, 0, 20, 0, 0, 0},
	};

	for (unsigned int i = 0; i < ARRAY_LEN(rows); i++) {
		unsigned int cap = find_cap(rows[i].type, rows[i].nth);

		assert_int_not_equal(cap, 0);
		assert_int_equal(cfg_in(SLOT, cap + VIRTIO_PCI_CAP_LEN, 1), rows[i].len);
		assert_int_equal(cfg_in(SLOT, cap + VIRTIO_PCI_CAP_BAR, 1), rows[i].bar);
		assert_int_equal(cfg_in(SLOT, cap + VIRTIO_PCI_CAP_OFFSET, 4), rows[i].offset);
		assert_int_equal(cfg_in(SLOT, cap + VIRTIO_PCI_CAP_LENGTH, 4), rows[i].bytes);
		if (rows[i].type == VIRTIO_PCI_CAP_NOTIFY_CFG)
			assert_int_equal(cfg_in(SLOT, cap + VIRTIO_PCI_NOTIFY_CAP_MULT, 4), 4);
	}
	assert_int_equal(cfg_in(SLOT, PCI_BASE_ADDRESS_1, 4), NOTIFY_PORT | 1);
}

static void features_by_halves(void **state)
{
	static const uint32_t halves[] = {
		1u << TOY_FEATURE | 1u << VIRTIO_RING_F_INDIRECT_DESC |
			1u << VIRTIO_RING_F_EVENT_IDX,
		1, 0, 0,
	};
	static const uint32_t selects[] = {0, 1, 2, 0xffffffff};

	for (unsigned int i = 0; i < ARRAY_LEN(halves); i++) {
		common_out(VIRTIO_PCI_COMMON_DFSELECT, 4, selects[i]);
		assert_int_equal(common_in(VIRTIO_PCI_COMMON_DFSELECT, 4), selects[i]);
		assert_int_equal(common_in(VIRTIO_PCI_COMMON_DF, 4), halves[i]);
	}
	features_out(0x1122334455667788);
	common_out(VIRTIO_PCI_COMMON_GFSELECT, 4, 2);
	common_out(VIRTIO_PCI_COMMON_GF, 4, 0xffffffff);
	assert_int_equal(common_in(VIRTIO_PCI_COMMON_GF, 4), 0);
	common_out(VIRTIO_PCI_COMMON_GFSELECT, 4, 0);
	assert_int_equal(common_in(VIRTIO_PCI_COMMON_GF, 4), 0x55667788);
	common_out(VIRTIO_PCI_COMMON_GFSELECT, 4, 1);
	assert_int_equal(common_in(VIRTIO_PCI_COMMON_GF, 4), 0x11223344);
}

/* Status writes from reset on, and what reads back after the last one. */
static void status_machine(void **state)
{
	const uint64_t v1 = 1ull << VIRTIO_F_VERSION_1;
	const struct {
		uint64_t features;
		uint8_t writes[4];
		uint8_t status;
	} rows[] = {
		{v1, {ACK}, ACK},
		{v1, {ACK, DRIVER}, DRIVER},
		{v1, {DRIVER, ACK}, DRIVER},                 /* bits only go by reset */
		{v1, {DRIVER, FEATURES_OK}, FEATURES_OK},
		{v1 | 1 << TOY_FEATURE, {FEATURES_OK}, FEATURES_OK},
		{0, {DRIVER, FEATURES_OK}, DRIVER},          /* legacy driver */
		{v1 | 1 << 6, {DRIVER, FEATURES_OK}, DRIVER}, /* not offered */
		{v1 | 1ull << 63, {FEATURES_OK}, DRIVER},
		{0, {FEATURES_OK, DRIVER_OK}, DRIVER},       /* no way around FEATURES_OK */
		{v1, {DRIVER, DRIVER & 0x7f, DRIVER | 4}, DRIVER},
		{v1, {DRIVER | 0x30, DRIVER | NEEDS_RESET}, DRIVER}, /* not the driver's bits */
		{v1, {DRIVER | VIRTIO_CONFIG_S_FAILED}, DRIVER | VIRTIO_CONFIG_S_FAILED},
		{v1, {FEATURES_OK, DRIVER_OK}, DRIVER_OK},
		{v1, {DRIVER_OK}, DRIVER_OK},
	};

	for (unsigned int i = 0; i < ARRAY_LEN(rows); i++) {
		driver_reset();
		features_out(rows[i].features);
		for (unsigned int j = 0; j < 4 && rows[i].writes[j]; j++)
			status_out(rows[i].writes[j]);
		loop_settle();
		assert_int_equal(status_in(), rows[i].status);
	}
	/* no queue enabled: still a live device */
	assert_int_equal(toy->activations, 2);
}

static void features_are_final_with_features_ok(void **state)
{
	driver_setup(1ull << TOY_FEATURE);
	features_out(0xffffffffffffffff);
	common_out(VIRTIO_PCI_COMMON_GFSELECT, 4, 0);
	assert_int_equal(common_in(VIRTIO_PCI_COMMON_GF, 4), 1u << TOY_FEATURE);
	status_out(DRIVER_OK);
	loop_settle();
	assert_int_equal(toy->live_features, 1ull << TOY_FEATURE | 1ull << VIRTIO_F_VERSION_1);
	driver_reset();
	assert_int_equal(common_in(VIRTIO_PCI_COMMON_GF, 4), 0);
}

static void queue_registers(void **state)
{
	assert_int_equal(common_in(VIRTIO_PCI_COMMON_NUMQ, 2), TOY_QUEUES);
	for (unsigned int i = 0; i < TOY_QUEUES; i++) {
		common_out(VIRTIO_PCI_COMMON_Q_SELECT, 2, i);
		assert_int_equal(common_in(VIRTIO_PCI_COMMON_Q_SIZE, 2), TOY_QUEUE_SIZE);
		assert_int_equal(common_in(VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0);
		assert_int_equal(common_in(VIRTIO_PCI_COMMON_Q_NOFF, 2), i);
		assert_int_equal(common_in(VIRTIO_PCI_COMMON_Q_MSIX, 2), 0xffff);
		common_out(VIRTIO_PCI_COMMON_Q_SIZE, 2, 4);
		common_out(VIRTIO_PCI_COMMON_Q_DESCHI, 4, 0x100 + i);
		common_out(VIRTIO_PCI_COMMON_Q_DESCLO, 4, i);
		common_out(VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
	}
	common_out(VIRTIO_PCI_COMMON_Q_SELECT, 2, 1);
	assert_int_equal(common_in(VIRTIO_PCI_COMMON_Q_SIZE, 2), 4);
	assert_int_equal(mmio_in(COMMON + VIRTIO_PCI_COMMON_Q_DESCLO, 8), 0x0000010100000001);
	/* enabled: fixed until reset */
	common_out(VIRTIO_PCI_COMMON_Q_SIZE, 2, 2);
	common_out(VIRTIO_PCI_COMMON_Q_DESCLO, 8, 0);
	common_out(VIRTIO_PCI_COMMON_Q_ENABLE, 2, 0);
	assert_int_equal(common_in(VIRTIO_PCI_COMMON_Q_SIZE, 2), 4);
	assert_int_equal(common_in(VIRTIO_PCI_COMMON_Q_DESCLO, 4), 1);
	assert_int_equal(common_in(VIRTIO_PCI_COMMON_Q_ENABLE, 2), 1);
	driver_reset();
	common_out(VIRTIO_PCI_COMMON_Q_SELECT, 2, 1);
	assert_int_equal(common_in(VIRTIO_PCI_COMMON_Q_SIZE, 2), TOY_QUEUE_SIZE);
	assert_int_equal(common_in(VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0);
	assert_int_equal(mmio_in(COMMON + VIRTIO_PCI_COMMON_Q_DESCLO, 8), 0);
}

static void queues_that_are_not_there(void **state)
{
	static const uint16_t selects[] = {TOY_QUEUES, 0x100, 0xffff};

	for (unsigned int i = 0; i < ARRAY_LEN(selects); i++) {
		common_out(VIRTIO_PCI_COMMON_Q_SELECT, 2, selects[i]);
		for (unsigned int reg = VIRTIO_PCI_COMMON_Q_SIZE; reg < 56; reg += 2)
			common_out(reg, 2, 1);
		common_out(VIRTIO_PCI_COMMON_Q_USEDLO, 8, 0x1000);
		assert_int_equal(common_in(VIRTIO_PCI_COMMON_Q_SELECT, 2), selects[i]);
		assert_int_equal(common_in(VIRTIO_PCI_COMMON_Q_SIZE, 2), 0);
		assert_int_equal(common_in(VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0);
		assert_int_equal(common_in(VIRTIO_PCI_COMMON_Q_MSIX, 2), 0xffff);
		assert_int_equal(mmio_in(COMMON + VIRTIO_PCI_COMMON_Q_USEDLO, 8), 0);
	}
	driver_kick(TOY_QUEUES);
	mmio_out(NOTIFY + 0xffc, 4, 0);
}

/* Nothing of a queue changes while it is live, not even of one that is not enabled. */
static void live_queues_do_not_change(void **state)
{
	driver_setup(0);
	status_out(DRIVER_OK);
	loop_settle();
	common_out(VIRTIO_PCI_COMMON_Q_SELECT, 2, 0);
	common_out(VIRTIO_PCI_COMMON_Q_SIZE, 2, 2);
	common_out(VIRTIO_PCI_COMMON_Q_AVAILLO, 4, 0);
	assert_int_equal(common_in(VIRTIO_PCI_COMMON_Q_SIZE, 2), TOY_QUEUE_SIZE);
	assert_int_equal(common_in(VIRTIO_PCI_COMMON_Q_AVAILLO, 4), AVAIL(0));
	driver_add(0, 0, 0);
	driver_kick(0);
	loop_settle();
	assert_int_equal(toy->chains, 1);

	driver_reset();
	status_out(DRIVER);
	features_out(1ull << VIRTIO_F_VERSION_1);
	status_out(DRIVER_OK);
	queue_out(0);
	assert_int_equal(common_in(VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0);
}

static void vectors(void **state)
{
	common_out(VIRTIO_PCI_COMMON_Q_SELECT, 2, 1);
	for (uint16_t v = 0; v < TOY_QUEUES + 3; v++) {
		uint16_t expected = v <= TOY_QUEUES ? v : 0xffff;

		common_out(VIRTIO_PCI_COMMON_MSIX, 2, v);
		assert_int_equal(common_in(VIRTIO_PCI_COMMON_MSIX, 2), expected);
		common_out(VIRTIO_PCI_COMMON_Q_MSIX, 2, v);
		assert_int_equal(common_in(VIRTIO_PCI_COMMON_Q_MSIX, 2), expected);
	}
	common_out(VIRTIO_PCI_COMMON_MSIX, 2, 2);
	common_out(VIRTIO_PCI_COMMON_MSIX, 2, 0xffff);
	assert_int_equal(common_in(VIRTIO_PCI_COMMON_MSIX, 2), 0xffff);
	common_out(VIRTIO_PCI_COMMON_MSIX, 2, 2);
	driver_reset();
	assert_int_equal(common_in(VIRTIO_PCI_COMMON_MSIX, 2), 0xffff);
}

/* Every size and alignment reads what is there; only whole fields are written. */
static void odd_accesses(void **state)
{
	static const unsigned int sizes[] = {1, 2, 4, 8};
	uint8_t regs[64 + 8];

	driver_setup(0);
	memset(regs, 0, sizeof(regs));
	for (unsigned int reg = 0; reg < 56; reg++)
		regs[reg] = (uint8_t)common_in(reg, 1);
	for (unsigned int reg = 0; reg < 56; reg++) {
		for (unsigned int i = 0; i < ARRAY_LEN(sizes); i++) {
			uint64_t got = mmio_in(COMMON + reg, sizes[i]), none = 0;

			if (reg + sizes[i] <= 56)
				assert_memory_equal(&got, regs + reg, sizes[i]);
			else
				assert_memory_equal(&got, &none, sizes[i]);
		}
	}
	common_out(VIRTIO_PCI_COMMON_STATUS, 2, 0);
	common_out(VIRTIO_PCI_COMMON_STATUS, 4, 0);
	common_out(VIRTIO_PCI_COMMON_MSIX, 4, 0x00010001);
	common_out(VIRTIO_PCI_COMMON_MSIX, 1, 1);
	common_out(VIRTIO_PCI_COMMON_GF, 8, 0xffffffffffffffff);
	common_out(VIRTIO_PCI_COMMON_Q_DESCLO + 1, 4, 0xffffffff);
	common_out(56, 8, 0xffffffffffffffff);
	common_out(0xff8, 8, 0xffffffffffffffff);
	for (unsigned int reg = 0; reg < 56; reg++)
		assert_int_equal(common_in(reg, 1), regs[reg]);
}

static void device_config(void **state)
{
	assert_int_equal(mmio_in(DEVICE_CONFIG, 4), 0x44332211);
	assert_int_equal(mmio_in(DEVICE_CONFIG + 4, 4), 0x00006655); /* past the end */
	assert_int_equal(mmio_in(DEVICE_CONFIG + 1, 8), 0x0000006655443322);
	assert_int_equal(mmio_in(DEVICE_CONFIG + 6, 2), 0);
	assert_int_equal(mmio_in(DEVICE_CONFIG + 0xff8, 8), 0);
	mmio_out(DEVICE_CONFIG + 4, 8, 0xa8a7a6a5a4a3a2a1);
	mmio_out(DEVICE_CONFIG + 0xffc, 4, 0xffffffff);
	assert_int_equal(mmio_in(DEVICE_CONFIG, 8), 0x0000a2a144332211);
}

static void config_changes(void **state)
{
	uint8_t before = (uint8_t)common_in(VIRTIO_PCI_COMMON_CFGGENERATION, 1);

	virtio_config_changed(&toy->dev); /* before DRIVER_OK: no interrupt (2.1.2) */
	assert_int_equal(fake_delivered[0xC0], 0);
	driver_setup(0);
	status_out(DRIVER_OK);
	loop_settle();
	virtio_config_changed(&toy->dev);
	assert_int_equal(fake_delivered[0xC0], 1);
	assert_int_equal(common_in(VIRTIO_PCI_COMMON_CFGGENERATION, 1), before + 2);
	assert_int_equal(mmio_in(ISR, 1), VIRTIO_PCI_ISR_CONFIG);
	assert_int_equal(mmio_in(ISR, 1), 0); /* reading clears */
}

/* 4.1.4.9 */
static void window_in_config_space(void **state)
{
	unsigned int cap = find_cap(VIRTIO_PCI_CAP_PCI_CFG, 0), data = cap + 16;
	static const struct {
		uint32_t bar, offset, len, value;
	} bad[] = {
		{1, 0x100, 4, 0}, {2, 0x2000, 4, 0}, {255, 0, 4, 0}, {0, 0x2002, 4, 0},
		{0, 0x2000, 3, 0}, {0, 0x2000, 0, 0},
		{0, 0x8000, 4, 0}, {0, 0xfffffffc, 4, 0}, {0, 0x2000, 0xffffffff, 0},
	};

	cfg_out(SLOT, cap + VIRTIO_PCI_CAP_OFFSET, 4, 0x2000);
	cfg_out(SLOT, cap + VIRTIO_PCI_CAP_LENGTH, 4, 4);
	assert_int_equal(cfg_in(SLOT, data, 4), 0x44332211);
	cfg_out(SLOT, cap + VIRTIO_PCI_CAP_LENGTH, 4, 1);
	cfg_out(SLOT, cap + VIRTIO_PCI_CAP_OFFSET, 4, 0x2001);
	assert_int_equal(cfg_in(SLOT, data, 1), 0x22);
	cfg_out(SLOT, data, 1, 0x99);
	assert_int_equal(mmio_in(DEVICE_CONFIG, 4), 0x44339911);
	/* a doorbell, and a register of the table it lies beside */
	cfg_out(SLOT, cap + VIRTIO_PCI_CAP_OFFSET, 4, 0x400c);
	cfg_out(SLOT, cap + VIRTIO_PCI_CAP_LENGTH, 4, 4);
	cfg_out(SLOT, data, 4, 1);
	assert_int_equal(mmio_in(MSIX_TABLE + 12, 4), 1);
	driver_setup(0);
	status_out(DRIVER_OK);
	driver_add(2, 0, 0);
	cfg_out(SLOT, cap + VIRTIO_PCI_CAP_OFFSET, 4, 0x3008);
	cfg_out(SLOT, cap + VIRTIO_PCI_CAP_LENGTH, 4, 2);
	cfg_out(SLOT, data, 2, 2);
	loop_settle();
	assert_int_equal(toy->chains, 1);
	driver_add(2, 1, 0);
	cfg_out(SLOT, cap + VIRTIO_PCI_CAP_BAR, 1, 1);
	cfg_out(SLOT, cap + VIRTIO_PCI_CAP_OFFSET, 4, 0x8);
	cfg_out(SLOT, data, 2, 2);
	loop_settle();
	assert_int_equal(toy->chains, 2);
	for (unsigned int i = 0; i < ARRAY_LEN(bad); i++) {
		cfg_out(SLOT, cap + VIRTIO_PCI_CAP_BAR, 1, bad[i].bar);
		cfg_out(SLOT, cap + VIRTIO_PCI_CAP_OFFSET, 4, bad[i].offset);
		cfg_out(SLOT, cap + VIRTIO_PCI_CAP_LENGTH, 4, bad[i].len);
		cfg_out(SLOT, data, 4, 0x5a5a5a5a);
		assert_int_equal(cfg_in(SLOT, data, 4), 0x5a5a5a5a);
		assert_int_equal(mmio_in(DEVICE_CONFIG, 4), 0x44339911);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(identity),
		TEST(capabilities),
		TEST(features_by_halves),
		TEST(status_machine),
		TEST(features_are_final_with_features_ok),
		TEST(queue_registers),
		TEST(queues_that_are_not_there),
		TEST(live_queues_do_not_change),
		TEST(vectors),
		TEST(odd_accesses),
		TEST(device_config),
		TEST(config_changes),
		TEST(window_in_config_space),
	};

	return toy_works() ? cmocka_run_group_tests(tests, NULL, NULL) : 77;
}
