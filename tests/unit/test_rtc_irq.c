/* SPDX-License-Identifier: MIT */
/* The clock's interrupts: when they come, and when nothing runs that could make one. */
#include "tests/unit/rtc_host.h"

#define UIE 0x10
#define AIE 0x20
#define B_24H 0x02
#define UF 0x10
#define AF 0x20
#define IRQF 0x80

/* BCD, 24 hours */
static void set_alarm(uint8_t hours, uint8_t minutes, uint8_t seconds)
{
	wr(5, hours);
	wr(3, minutes);
	wr(1, seconds);
}

/* The line is up for `flags`, and a read of register C takes it down. */
static void assert_raised(uint8_t flags)
{
	assert_true(fake_lines[8]);
	assert_int_equal(rd(0x0C), IRQF | flags);
	assert_false(fake_lines[8]);
	assert_int_equal(rd(0x0C), 0);
}

static void update_interrupts(void **state)
{
	clock_now.tv_nsec = 600000000;
	wr(0x0B, UIE | B_24H);
	assert_int_equal(timer_at, NOON + 1); /* where it turns, not a second later */
	clock_now.tv_nsec = 999999999;
	advance(0);
	assert_false(fake_lines[8]);
	for (int i = 1; i <= 3; i++) {
		clock_now.tv_nsec = 0;
		advance(1);
		assert_raised(UF);
		assert_int_equal(timer_at, NOON + i + 1);
	}
	wr(0x0B, B_24H);
	assert_int_equal(timer_at, 0);
	advance(10);
	assert_int_equal(fake_line_changes, 6);
}

/* While the line is up there is nothing to wait for, and no second edge. */
static void nobody_reads_c(void **state)
{
	wr(0x0B, UIE | AIE | B_24H);
	set_alarm(0x12, 0x00, 0x05);
	advance(1);
	assert_int_equal(timer_at, 0);
	advance(10);
	assert_int_equal(fake_line_changes, 1);
	assert_raised(UF | AF);
	assert_int_equal(timer_at, NOON + 12);
}

static void alarm_interrupts(void **state)
{
	set_alarm(0x12, 0x01, 0x30);
	wr(0x0B, AIE | B_24H);
	assert_int_equal(timer_at, NOON + 90);
	advance(89);
	assert_int_equal(fake_line_changes, 0);
	advance(1);
	assert_raised(UF | AF);
	assert_int_equal(timer_at, NOON + 90 + DAY);
	wr(0x0B, B_24H);
	assert_int_equal(timer_at, 0);
	assert_int_equal(timer_sets, 3); /* armed, armed again when read, given up */
}

/* The chip compares when a second begins: the one that lasts is for tomorrow. */
static void alarm_this_second(void **state)
{
	wr(0x0B, AIE | B_24H);
	set_alarm(0x12, 0x00, 0x00);
	assert_int_equal(timer_at, NOON + DAY);
	set_alarm(0x12, 0x00, 0x01);
	assert_int_equal(timer_at, NOON + 1);
}

static void alarm_wildcards(void **state)
{
	static const struct {
		uint8_t hours, minutes, seconds;
		time_t first, second;
	} alarms[] = {
		{ 0xFF, 0xC0, 0xC1, 1, 2 },
		{ 0xFF, 0xFF, 0x10, 10, 70 },
		{ 0xFF, 0x05, 0x10, 310, 310 + HOUR },
		{ 0x13, 0xFF, 0xFF, HOUR, HOUR + 1 },
		{ 0xFF, 0x02, 0xFF, 120, 121 },
		{ 0x11, 0x59, 0x59, DAY - 1, 2 * DAY - 1 },
		{ 0x00, 0x00, 0x00, 12 * HOUR, 12 * HOUR + DAY },
	};

	for (unsigned int i = 0; i < ARRAY_LEN(alarms); i++) {
		clock_now.tv_sec = NOON;
		wr(0x0B, B_24H);
		set_alarm(alarms[i].hours, alarms[i].minutes, alarms[i].seconds);
		rd(0x0C);
		wr(0x0B, AIE | B_24H);
		assert_int_equal(timer_at, NOON + alarms[i].first);
		advance(alarms[i].first);
		assert_raised(UF | AF);
		assert_int_equal(timer_at, NOON + alarms[i].second);
	}
}

/* The alarm's format is that of the time: 11:00:30 pm. */
static void alarm_formats(void **state)
{
	wr(0x0B, AIE);
	set_alarm(0x91, 0x00, 0x30);
	assert_int_equal(timer_at, NOON + 11 * HOUR + 30);
	wr(0x0B, AIE | 0x04);
	assert_int_equal(timer_at, 0);
	set_alarm(0x80 | 11, 0, 30);
	assert_int_equal(timer_at, NOON + 11 * HOUR + 30);
	wr(0x0B, AIE | 0x06);
	assert_int_equal(timer_at, 0);
	set_alarm(23, 0, 30);
	assert_int_equal(timer_at, NOON + 11 * HOUR + 30);
}

/* No time is so; and looking for it takes no time either. */
static void alarm_never(void **state)
{
	wr(0x0B, AIE | B_24H);
	for (unsigned int value = 0; value < 0xC0; value++) {
		set_alarm(0xFF, 0xFF, value);
		assert_true(!timer_at == (value > 0x59 || (value & 0x0F) > 9));
		set_alarm(0xFF, value, 0xFF);
		assert_true(!timer_at == (value > 0x59 || (value & 0x0F) > 9));
		set_alarm(value, 0xFF, 0xFF);
		assert_true(!timer_at == (value > 0x23 || (value & 0x0F) > 9));
	}
	set_alarm(0xFF, 0xFF, 0x60);
	advance(3 * DAY);
	assert_int_equal(rd(0x0C), UF);
}

/* The flags tell what passed, but nothing runs for them. */
static void disabled_flags(void **state)
{
	set_alarm(0x12, 0x00, 0x10);
	assert_int_equal(rd(0x0C), 0);
	advance(9);
	assert_int_equal(rd(0x0C), UF);
	advance(1);
	assert_int_equal(rd(0x0C), UF | AF);
	assert_int_equal(rd(0x0C), 0);
	advance(DAY - 1);
	assert_int_equal(rd(0x0C), UF);
	advance(100 * DAY);
	assert_int_equal(rd(0x0C), UF | AF);
	assert_int_equal(timer_sets, 0);
	assert_int_equal(fake_line_changes, 0);
}

/* A flag that is set already raises the line at once; disabling it takes it down. */
static void enabled_too_late(void **state)
{
	set_alarm(0x12, 0x00, 0x10);
	advance(10);
	set_alarm(0x12, 0x00, 0x50);
	wr(0x0B, AIE | B_24H);
	assert_true(fake_lines[8]);
	wr(0x0B, B_24H);
	assert_false(fake_lines[8]);
	assert_int_equal(rd(0x0C), UF | AF);
}

static void set_stops_updates(void **state)
{
	set_alarm(0xFF, 0xFF, 0xFF);
	wr(0x0B, 0x80 | AIE | B_24H);
	advance(10);
	assert_int_equal(timer_at, 0);
	assert_int_equal(rd(0x0C), 0);
	wr(0x0B, AIE | B_24H);
	assert_false(fake_lines[8]);
	assert_int_equal(timer_at, NOON + 11);
	wr(0x0B, 0x80 | AIE | B_24H);
	assert_int_equal(timer_at, 0);
}

static void host_clock_set_back(void **state)
{
	wr(0x0B, AIE | B_24H);
	set_alarm(0x12, 0x00, 0x10);
	set_clock(NOON - HOUR);
	assert_false(fake_lines[8]);
	assert_int_equal(timer_at, NOON + 10);
	set_clock(NOON - DAY);
	assert_int_equal(timer_at, NOON - DAY + 10);
	wr(0x0B, UIE | B_24H);
	assert_raised(UF);
	assert_int_equal(timer_at, NOON - DAY + 1);
	/* and between looking at it and arming the timer */
	wr(0x0B, B_24H);
	timer_cancels = 1;
	wr(0x0B, UIE | B_24H);
	assert_raised(UF);
	assert_int_equal(timer_at, NOON - DAY - HOUR + 1);
}

static void host_clock_set_forward(void **state)
{
	wr(0x0B, AIE | B_24H);
	set_alarm(0x12, 0x00, 0x10);
	set_clock(NOON + 5 * HOUR);
	assert_raised(UF | AF);
	assert_int_equal(timer_at, NOON + 10 + DAY);
}

/* The loop was told, but a vCPU was faster. */
static void tick_comes_late(void **state)
{
	wr(0x0B, UIE | B_24H);
	clock_now.tv_sec++;
	eventfd_write(timer_fd, 1);
	assert_int_equal(rd(0x0C), UF | IRQF);
	assert_int_equal(timer_at, NOON + 2);
	fake_loop_turn(&loop);
	assert_int_equal(timer_at, NOON + 2);
	assert_int_equal(fake_line_changes, 0);
}

/* A read of C ends one interrupt, and the next is one of its own: an edge, or it is lost. */
static void second_turns_while_c_is_read(void **state)
{
	wr(0x0B, UIE | B_24H);
	advance(1);
	assert_int_equal(fake_line_changes, 1);
	clock_reads_left = 1;
	assert_int_equal(rd(0x0C), IRQF | UF);
	assert_int_equal(fake_line_changes, 3);
	assert_raised(UF);
}

static void any_bytes(void **state)
{
	uint32_t seed = 1;

	for (int i = 0; i < 20000; i++) {
		seed = seed * 1664525 + 1013904223;
		wr(seed >> 8 & 0x0F, seed >> 16);
		if (seed >> 28 == 0)
			rd(0x0C);
		if (seed >> 28 == 1)
			advance(seed >> 24 & 0x0F);
		assert_true(!timer_at || timer_at > clock_now.tv_sec);
	}
	wr(0x0B, B_24H);
	rd(0x0C);
	assert_false(fake_lines[8]);
	assert_int_equal(timer_at, 0);
}

/* A reboot while the timer runs: what it has rung for is gone. */
static void destroyed_while_armed(void **state)
{
	wr(0x0B, UIE | B_24H);
	rtc_destroy(rtc);
	timer_at = 0;
	advance(2);
	assert_int_equal(rtc_create(&fake_vm, &loop, &rtc), 0);
	assert_int_equal(rd(0x0C), 0);
	assert_int_equal(fake_line_changes, 0);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(update_interrupts),
		TEST(nobody_reads_c),
		TEST(alarm_interrupts),
		TEST(alarm_this_second),
		TEST(alarm_wildcards),
		TEST(alarm_formats),
		TEST(alarm_never),
		TEST(disabled_flags),
		TEST(enabled_too_late),
		TEST(set_stops_updates),
		TEST(host_clock_set_back),
		TEST(host_clock_set_forward),
		TEST(tick_comes_late),
		TEST(second_turns_while_c_is_read),
		TEST(any_bytes),
		TEST(destroyed_while_armed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
