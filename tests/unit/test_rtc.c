/* SPDX-License-Identifier: MIT */
#include "tests/unit/fake_vm.h"

#include <time.h>

#include "devices/rtc.h"

static struct rtc *rtc;

/* time(2) may lag behind the clock the chip shows. */
static time_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return ts.tv_sec;
}

static int setup(void **state)
{
	fake_reset();
	fake_vm.mem.count = 2;
	fake_vm.mem.regions[0].len_bytes = GIB(3);
	fake_vm.mem.regions[1].gpa = GIB(4);
	fake_vm.mem.regions[1].len_bytes = GIB(5);
	return rtc_create(&fake_vm, &rtc);
}

static int teardown(void **state)
{
	rtc_destroy(rtc);
	return 0;
}

static uint8_t rd(uint8_t reg)
{
	out(0x70, 1, reg);
	return in(0x71, 1);
}

static void wr(uint8_t reg, uint8_t value)
{
	out(0x70, 1, reg);
	out(0x71, 1, value);
}

static unsigned int rd16(uint8_t reg)
{
	return rd(reg) | rd(reg + 1) << 8;
}

static int decode(uint8_t value, bool binary)
{
	return binary ? value : (value >> 4) * 10 + (value & 0x0F);
}

/* Read the clock as a driver does: away from the update, and again if a second passed. */
static time_t read_clock(bool binary)
{
	struct tm tm = { 0 };
	uint8_t first;

	do {
		while (rd(0x0A) & 0x80)
			continue;
		first = rd(0);
		tm.tm_sec = decode(first, binary);
		tm.tm_min = decode(rd(2), binary);
		tm.tm_hour = decode(rd(4), binary);
		tm.tm_mday = decode(rd(7), binary);
		tm.tm_mon = decode(rd(8), binary) - 1;
		tm.tm_year = decode(rd(9), binary) + decode(rd(0x32), binary) * 100 - 1900;
	} while (rd(0) != first);
	return timegm(&tm);
}

static void shows_the_time(void **state)
{
	for (int binary = 0; binary <= 1; binary++) {
		time_t before = now(), shown, after;

		wr(0x0B, binary ? 0x06 : 0x02);
		shown = read_clock(binary);
		after = now();
		assert_true(before <= shown && shown <= after);
	}
}

static void shows_the_weekday(void **state)
{
	time_t second;
	struct tm tm;
	uint8_t day;

	do {
		second = now();
		day = rd(6);
	} while (now() != second);
	gmtime_r(&second, &tm);
	assert_int_equal(day, tm.tm_wday + 1);
}

static void twelve_hours_with_pm(void **state)
{
	for (;;) {
		time_t second = now();
		struct tm tm;
		uint8_t hours;

		gmtime_r(&second, &tm);
		wr(0x0B, 0x04);
		hours = rd(4);
		if (now() != second)
			continue;
		assert_int_equal(hours & 0x80 ? 1 : 0, tm.tm_hour >= 12);
		assert_in_range(hours & 0x7F, 1, 12);
		assert_int_equal((hours & 0x7F) % 12, tm.tm_hour % 12);
		return;
	}
}

/* UIP shows for two milliseconds of a second, which a test on a busy machine may well miss. */
static void update_flag_rises_and_falls(void **state)
{
	time_t end = now() + 60;

	while (!(rd(0x0A) & 0x80))
		assert_true(now() < end);
	while (rd(0x0A) & 0x80)
		assert_true(now() < end);
	wr(0x0B, 0x82);
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
	assert_int_equal(rtc_create(&fake_vm, &rtc), 0);
	assert_int_equal(rd16(0x30), 7 * 1024);
	assert_int_equal(rd16(0x34), 0);
	assert_int_equal(rd16(0x5B) | rd(0x5D) << 16, 0);
}

static void port_in_use(void **state)
{
	struct rtc *other;

	fake_add_fails_at = 1;
	assert_int_equal(rtc_create(&fake_vm, &other), -EEXIST);
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
		TEST(port_in_use),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
