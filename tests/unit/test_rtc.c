/* SPDX-License-Identifier: MIT */
#include "tests/unit/rtc_host.h"

static unsigned int rd16(uint8_t reg)
{
	return rd(reg) | rd(reg + 1) << 8;
}

static int decode(uint8_t value, bool binary)
{
	return binary ? value : (value >> 4) * 10 + (value & 0x0F);
}

static time_t read_clock(bool binary)
{
	struct tm tm = { 0 };

	tm.tm_sec = decode(rd(0), binary);
	tm.tm_min = decode(rd(2), binary);
	tm.tm_hour = decode(rd(4), binary);
	tm.tm_mday = decode(rd(7), binary);
	tm.tm_mon = decode(rd(8), binary) - 1;
	tm.tm_year = decode(rd(9), binary) + decode(rd(0x32), binary) * 100 - 1900;
	return timegm(&tm);
}

static void shows_the_time(void **state)
{
	static const time_t times[] = { 0, NOON, NOON + 12 * HOUR - 1, 951782399, 4102444800 };

	for (unsigned int i = 0; i < ARRAY_LEN(times); i++) {
		clock_now.tv_sec = times[i];
		wr(0x0B, 0x06);
		assert_int_equal(read_clock(true), times[i]);
		wr(0x0B, 0x02);
		assert_int_equal(read_clock(false), times[i]);
	}
}

static void shows_the_weekday(void **state)
{
	assert_int_equal(rd(6), 5); /* Sunday is 1 */
	advance(3 * DAY);
	assert_int_equal(rd(6), 1);
}

static void twelve_hours_with_pm(void **state)
{
	static const uint8_t binary[] = { 12, 1, 11, 0x80 | 12, 0x80 | 1, 0x80 | 11 };
	static const uint8_t bcd[] = { 0x12, 0x01, 0x11, 0x92, 0x81, 0x91 };
	static const int hours[] = { 0, 1, 11, 12, 13, 23 };

	for (unsigned int i = 0; i < ARRAY_LEN(hours); i++) {
		clock_now.tv_sec = NOON + (hours[i] - 12) * HOUR;
		wr(0x0B, 0x04);
		assert_int_equal(rd(4), binary[i]);
		wr(0x0B, 0x00);
		assert_int_equal(rd(4), bcd[i]);
	}
}

/* 244 us and then the update's 1984 before the second ends. */
static void update_flag_rises_and_falls(void **state)
{
	clock_now.tv_nsec = 997771999;
	assert_int_equal(rd(0x0A), 0x26);
	clock_now.tv_nsec = 997772000;
	assert_int_equal(rd(0x0A), 0xA6);
	wr(0x0B, 0x82);
	assert_int_equal(rd(0x0A), 0x26);
	wr(0x0B, 0x02);
	clock_now.tv_nsec = 0;
	assert_int_equal(rd(0x0A), 0x26);
}

static void control_registers(void **state)
{
	assert_int_equal(rd(0x0B), 0x02);
	assert_int_equal(rd(0x0C), 0);
	assert_int_equal(rd(0x0D), 0x80);
	wr(0x0C, 0xFF);
	wr(0x0D, 0);
	assert_int_equal(rd(0x0C), 0);
	assert_int_equal(rd(0x0D), 0x80);
	wr(0x0B, 0x72);
	assert_int_equal(rd(0x0B), 0x72);
	wr(0x0B, 0x92); /* SET clears UIE */
	assert_int_equal(rd(0x0B), 0x82);
	wr(0x0B, 0x02);
	assert_int_equal(fake_line_changes, 0);
	/* the alarm reads back */
	wr(0x01, 0x59);
	assert_int_equal(rd(0x01), 0x59);
}

static void ram_keeps_bytes(void **state)
{
	wr(0x0F, 0x0A);
	wr(0x7F, 0x55);
	assert_int_equal(rd(0x0F), 0x0A);
	assert_int_equal(rd(0xFF), 0x55); /* bit 7 masks NMIs */
	assert_int_equal(in(0x70, 1), 0xFF);
	out(0x70, 2, 0x6640); /* index and data in one */
	assert_int_equal(rd(0x40), 0x66);
}

static void memory_sizes(void **state)
{
	assert_int_equal(rd16(0x15), 640);
	assert_int_equal(rd16(0x17), 0xFFFF);
	assert_int_equal(rd16(0x30), 0xFFFF);
	assert_int_equal(rd16(0x34), (GIB(3) - MIB(16)) / KIB(64));
	assert_int_equal(rd16(0x5B) | rd(0x5D) << 16, GIB(5) / KIB(64));
}

static void small_memory_sizes(void **state)
{
	rtc_destroy(rtc);
	fake_vm.mem.count = 1;
	fake_vm.mem.regions[0].len_bytes = MIB(8);
	assert_int_equal(rtc_create(&fake_vm, &loop, &rtc), 0);
	assert_int_equal(rd16(0x30), 7 * 1024);
	assert_int_equal(rd16(0x34), 0);
	assert_int_equal(rd16(0x5B) | rd(0x5D) << 16, 0);
}

static void never(void *arg)
{
	fail();
}

static void cannot_be_created(void **state)
{
	struct rtc *other;

	timer_fails = true;
	assert_int_equal(rtc_create(&fake_vm, &loop, &other), -EMFILE);
	timer_fails = false;
	fake_add_fails_at = 1;
	assert_int_equal(rtc_create(&fake_vm, &loop, &other), -EEXIST);
	for (int i = 1; i < FAKE_WATCHES; i++)
		loop_watch_event(&loop, -1, never, NULL);
	assert_int_equal(rtc_create(&fake_vm, &loop, &other), -ENOMEM);
	rtc_destroy(NULL);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(shows_the_time),
		TEST(shows_the_weekday),
		TEST(twelve_hours_with_pm),
		TEST(update_flag_rises_and_falls),
		TEST(control_registers),
		TEST(ram_keeps_bytes),
		TEST(memory_sizes),
		TEST(small_memory_sizes),
		TEST(cannot_be_created),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
