/* SPDX-License-Identifier: MIT */
#include "tests/unit/fake_vm.h"

#include "devices/power.h"
#include "vmm/layout.h"

#define STS LAYOUT_PORT_PM1_EVT
#define EN (LAYOUT_PORT_PM1_EVT + 2)
#define CNT LAYOUT_PORT_PM1_CNT
#define PWRBTN 0x0100
#define SLP_EN 0x2000
#define S5 (LAYOUT_S5_SLP_TYP << 10)

static struct power *power;

static int setup(void **state)
{
	fake_reset();
	return power_create(&fake_vm, &power);
}

static int teardown(void **state)
{
	power_destroy(power);
	return 0;
}

static void enable_bits_read_back(void **state)
{
	assert_int_equal(in(EN, 2), 0);
	out(EN, 2, 0xFFFF);
	assert_int_equal(in(EN, 2), 0x0721);
	out(EN, 1, 0); /* the low byte only */
	assert_int_equal(in(EN, 2), 0x0700);
	assert_int_equal(in(EN + 1, 1), 0x07);
	assert_int_equal(in(STS, 4), 0x07000000);
}

static void button_raises_the_sci(void **state)
{
	power_press_button(power);
	assert_false(fake_lines[LAYOUT_IRQ_SCI]);
	assert_int_equal(in(STS, 2), PWRBTN);
	out(EN, 2, PWRBTN);
	assert_true(fake_lines[LAYOUT_IRQ_SCI]);
	/* zeroes clear nothing, nor do ones elsewhere */
	out(STS, 2, 0);
	out(STS, 2, (uint16_t)~PWRBTN);
	assert_true(fake_lines[LAYOUT_IRQ_SCI]);
	out(STS, 2, PWRBTN);
	assert_false(fake_lines[LAYOUT_IRQ_SCI]);
	assert_int_equal(in(STS, 2), 0);
	power_press_button(power);
	power_press_button(power);
	assert_true(fake_lines[LAYOUT_IRQ_SCI]);
	out(EN, 2, 0);
	assert_false(fake_lines[LAYOUT_IRQ_SCI]);
	assert_int_equal(fake_end, VM_RUNNING);
}

/* ACPICA clears the status before it enables an event: a press in early boot must survive it. */
static void early_press_waits_for_its_enable(void **state)
{
	power_press_button(power);
	out(STS, 2, PWRBTN);
	assert_int_equal(in(STS, 2), 0);
	assert_false(fake_lines[LAYOUT_IRQ_SCI]);
	out(EN, 2, 0x0021); /* of others */
	assert_int_equal(in(STS, 2), 0);
	out(EN, 2, 0x0121);
	assert_true(fake_lines[LAYOUT_IRQ_SCI]);
	assert_int_equal(in(STS, 2), PWRBTN);
	/* seen: it does not come again */
	out(STS, 2, PWRBTN);
	assert_false(fake_lines[LAYOUT_IRQ_SCI]);
	out(EN, 2, 0);
	out(EN, 2, PWRBTN);
	assert_false(fake_lines[LAYOUT_IRQ_SCI]);
	assert_int_equal(in(STS, 2), 0);
}

/* One write clears the status and enables the event. */
static void early_press_survives_a_wide_write(void **state)
{
	power_press_button(power);
	out(STS, 4, PWRBTN << 16 | PWRBTN);
	assert_true(fake_lines[LAYOUT_IRQ_SCI]);
	out(STS, 4, PWRBTN << 16 | PWRBTN);
	assert_false(fake_lines[LAYOUT_IRQ_SCI]);
	assert_int_equal(in(STS, 2), 0);
}

static void acpi_mode_is_on(void **state)
{
	assert_int_equal(in(CNT, 2), 0x0001);
	out(CNT, 2, 0);
	assert_int_equal(in(CNT, 2), 0x0001);
}

static void s5_powers_off(void **state)
{
	/* Linux writes the type first, then type and enable. */
	out(CNT, 2, S5 | 1);
	assert_int_equal(fake_end, VM_RUNNING);
	assert_int_equal(in(CNT, 2), S5 | 1);
	out(CNT, 2, S5 | SLP_EN | 1);
	assert_int_equal(fake_end, VM_POWEROFF);
	assert_int_equal(in(CNT, 2), S5 | 1);
}

static void s5_by_the_high_byte(void **state)
{
	out(CNT + 1, 1, (S5 | SLP_EN) >> 8);
	assert_int_equal(fake_end, VM_POWEROFF);
}

static void other_sleep_types_do_nothing(void **state)
{
	for (unsigned int type = 0; type < 8; type++) {
		if (type != LAYOUT_S5_SLP_TYP)
			out(CNT, 2, type << 10 | SLP_EN);
	}
	assert_int_equal(fake_end, VM_RUNNING);
}

static void i8042_resets_only_by_its_command(void **state)
{
	for (unsigned int cmd = 0; cmd < 0xFE; cmd++)
		out(0x64, 1, cmd);
	out(0x60, 1, 0xFE);
	assert_int_equal(fake_end, VM_RUNNING);
	out(0x64, 1, 0xFE);
	assert_int_equal(fake_end, VM_RESET);
}

/* Absent, as a driver that drains it sees it; and "wait until input empty" ends. */
static void i8042_looks_absent(void **state)
{
	for (int i = 0; i < 100; i++) {
		assert_int_equal(in(0x64, 1) & 3, 1);
		assert_int_equal(in(0x60, 1), 0xFF);
	}
}

static void gives_ports_back(void **state)
{
	unsigned int mine = fake_count;
	struct power *other;

	for (unsigned int i = 0; i < mine; i++) {
		fake_add_fails_at = mine + i;
		assert_int_equal(power_create(&fake_vm, &other), -EEXIST);
		assert_int_equal(fake_count, mine);
	}
	power_destroy(NULL);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(enable_bits_read_back),
		TEST(button_raises_the_sci),
		TEST(early_press_waits_for_its_enable),
		TEST(early_press_survives_a_wide_write),
		TEST(acpi_mode_is_on),
		TEST(s5_powers_off),
		TEST(s5_by_the_high_byte),
		TEST(other_sleep_types_do_nothing),
		TEST(i8042_resets_only_by_its_command),
		TEST(i8042_looks_absent),
		TEST(gives_ports_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
