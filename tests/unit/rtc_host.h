/* SPDX-License-Identifier: MIT */
/*
 * The clock chip on a host whose clock stands still but where a test moves it, and whose timer is
 * an eventfd that becomes readable when the clock gets to where it was set. Once per test.
 */
#pragma once

#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "devices/rtc.h"
#include "tests/unit/fake_loop.h"
#include "tests/unit/fake_vm.h"

#define NOON 1709208000 /* 2024-02-29 12:00:00 UTC, a Thursday */
#define HOUR 3600
#define DAY 86400

static struct loop loop;
static struct rtc *rtc;

static struct timespec clock_now;
static unsigned int clock_reads_left; /* the clock's second turns after so many; 0: it does not */
static int timer_fd;
static time_t timer_at; /* 0: not armed */
static unsigned int timer_sets, timer_cancels;
static bool timer_fails;

int clock_gettime(clockid_t id, struct timespec *ts)
{
	*ts = clock_now;
	if (clock_reads_left && --clock_reads_left == 0)
		clock_now.tv_sec++;
	return 0;
}

int timerfd_create(int id, int flags)
{
	assert_int_equal(id, CLOCK_REALTIME);
	if (timer_fails) {
		errno = EMFILE;
		return -1;
	}
	timer_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	return timer_fd;
}

int timerfd_settime(int fd, int flags, const struct itimerspec *when, struct itimerspec *old)
{
	eventfd_t gone;

	assert_int_equal(fd, timer_fd);
	assert_int_equal(flags, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET);
	eventfd_read(fd, &gone);
	timer_at = when->it_value.tv_sec;
	timer_sets++;
	if (!timer_cancels)
		return 0;
	timer_cancels--;
	clock_now.tv_sec -= HOUR;
	errno = ECANCELED;
	return -1;
}

/* Time goes on, with nobody looking; then the main loop has a turn. */
static inline void advance(time_t seconds)
{
	clock_now.tv_sec += seconds;
	if (timer_at && timer_at <= clock_now.tv_sec) {
		timer_at = 0;
		eventfd_write(timer_fd, 1);
	}
	fake_loop_turn(&loop);
}

/* Somebody sets the host's clock, which an armed timer hears of. */
static inline void set_clock(time_t second)
{
	clock_now.tv_sec = second;
	if (timer_at)
		eventfd_write(timer_fd, 1);
	fake_loop_turn(&loop);
}

static inline int setup(void **state)
{
	fake_reset();
	fake_loop_init(&loop);
	fake_vm.mem.count = 2;
	fake_vm.mem.regions[0].len_bytes = GIB(3);
	fake_vm.mem.regions[1].gpa = GIB(4);
	fake_vm.mem.regions[1].len_bytes = GIB(5);
	clock_now = (struct timespec){ .tv_sec = NOON };
	timer_at = 0;
	timer_sets = timer_cancels = 0;
	return rtc_create(&fake_vm, &loop, &rtc);
}

static inline int teardown(void **state)
{
	rtc_destroy(rtc);
	fake_loop_turn(&loop); /* a watch left behind would use what is gone */
	return 0;
}

static inline uint8_t rd(uint8_t reg)
{
	out(0x70, 1, reg);
	return in(0x71, 1);
}

static inline void wr(uint8_t reg, uint8_t value)
{
	out(0x70, 1, reg);
	out(0x71, 1, value);
}
