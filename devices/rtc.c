/* SPDX-License-Identifier: MIT */
/*
 * The MC146818's registers over the host's clock. Time registers show UTC in the format that
 * register B asks for; writing them changes nothing. UIP goes up before each second ends, as
 * long as on the chip, for those who poll to see the tick.
 *
 * Interrupts. Once a second, where the update ends, the chip sets UF, and AF if the alarm's
 * registers match; AIE and UIE say which of them raise the line, and a read of register C clears
 * them and lowers it. Flags are not kept up to date but caught up with when somebody looks:
 * `seen` is the second they stand for. So a timer is needed only to raise the line, and runs
 * only while AIE or UIE is set and the line is low, to the second that will raise it. It is a
 * timerfd: vCPU threads set it under the lock, the main loop waits for it, and it hears of the
 * host's clock being set.
 *
 * Left out: the periodic interrupt, PF and the square wave. Linux makes the periods it promises
 * to /dev/rtc from timers of its own. SET stops flags and UIP, but not the time shown; whether
 * the divider runs is not looked at.
 *
 * The rest is CMOS RAM, in which firmware would have left the sizes of memory.
 */
#include "devices/rtc.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "util/loop.h"
#include "util/util.h"
#include "vmm/bus.h"
#include "vmm/irq.h"
#include "vmm/layout.h"
#include "vmm/mem.h"
#include "vmm/vm.h"

enum cmos {
	CMOS_SECONDS = 0x00,
	CMOS_SECONDS_ALARM = 0x01,
	CMOS_MINUTES = 0x02,
	CMOS_MINUTES_ALARM = 0x03,
	CMOS_HOURS = 0x04,
	CMOS_HOURS_ALARM = 0x05,
	CMOS_WEEKDAY = 0x06,
	CMOS_DAY = 0x07,
	CMOS_MONTH = 0x08,
	CMOS_YEAR = 0x09,
	CMOS_A = 0x0A,
	CMOS_B = 0x0B,
	CMOS_C = 0x0C,
	CMOS_D = 0x0D,
	CMOS_BASE_KIB = 0x15,     /* 16 bits: below 640 KiB */
	CMOS_EXT_KIB = 0x17,      /* 16 bits: from 1 MiB, at most 63 MiB */
	CMOS_EXT2_KIB = 0x30,     /* the same again */
	CMOS_CENTURY = 0x32,
	CMOS_ABOVE_16MIB = 0x34,  /* 16 bits: from 16 MiB to 4 GiB, in 64 KiB */
	CMOS_ABOVE_4GIB = 0x5B,   /* 24 bits: in 64 KiB */
	CMOS_BYTES = 0x80,
};

#define A_UIP 0x80
#define A_DIVIDER 0x26 /* 32768 Hz crystal, 1024 Hz periodic rate */
#define B_SET 0x80
#define B_AIE 0x20
#define B_UIE 0x10
#define B_BINARY 0x04
#define B_24H 0x02
#define C_IRQF 0x80
#define C_AF B_AIE /* a flag has the place of its enable bit */
#define C_UF B_UIE
#define HOURS_PM 0x80
#define ALARM_ANY 0xC0 /* from here up: don't care */
#define D_VALID 0x80

/* The update takes 1984 us, and UIP precedes it by 244 us (MC146818A, table 6). */
#define UIP_NS 2228000
#define NS_PER_S 1000000000
#define MINUTE_S 60
#define HOUR_S 3600
#define DAY_S 86400

struct rtc {
	struct vm *vm;
	struct loop *loop;
	struct loop_watch *watch; /* of timer_fd */
	int timer_fd;
	pthread_mutex_t lock; /* guards the fields below */
	time_t seen;          /* the second that `flags` stands for */
	time_t armed;         /* the second that timer_fd waits for; 0: none */
	uint8_t flags;        /* register C without IRQF */
	bool line;
	uint8_t index;
	uint8_t ram[CMOS_BYTES];
};

static uint8_t encode(const struct rtc *rtc, int value)
{
	if (rtc->ram[CMOS_B] & B_BINARY)
		return value;
	return value / 10 << 4 | value % 10;
}

static uint8_t encode_hours(const struct rtc *rtc, int hours)
{
	if (rtc->ram[CMOS_B] & B_24H)
		return encode(rtc, hours);
	return encode(rtc, (hours + 11) % 12 + 1) | (hours >= 12 ? HOURS_PM : 0);
}

static uint8_t read_time(const struct rtc *rtc, enum cmos reg)
{
	struct timespec now;
	struct tm tm;

	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);
	switch (reg) {
	case CMOS_SECONDS:
		/* 60, a leap second, is nothing the chip knows. */
		return encode(rtc, MIN(tm.tm_sec, 59));
	case CMOS_MINUTES:
		return encode(rtc, tm.tm_min);
	case CMOS_HOURS:
		return encode_hours(rtc, tm.tm_hour);
	case CMOS_WEEKDAY:
		return encode(rtc, tm.tm_wday + 1);
	case CMOS_DAY:
		return encode(rtc, tm.tm_mday);
	case CMOS_MONTH:
		return encode(rtc, tm.tm_mon + 1);
	case CMOS_YEAR:
		return encode(rtc, tm.tm_year % 100);
	default: /* CMOS_CENTURY */
		return encode(rtc, (tm.tm_year + 1900) / 100);
	}
}

static uint8_t read_a(const struct rtc *rtc)
{
	struct timespec now;
	bool updating;

	clock_gettime(CLOCK_REALTIME, &now);
	updating = now.tv_nsec >= NS_PER_S - UIP_NS && !(rtc->ram[CMOS_B] & B_SET);
	return rtc->ram[CMOS_A] | (updating ? A_UIP : 0);
}

/* --- interrupts --- */

static bool alarm_matches(const struct rtc *rtc, enum cmos reg, uint8_t value)
{
	return rtc->ram[reg] >= ALARM_ANY || rtc->ram[reg] == value;
}

static bool alarm_second_exists(const struct rtc *rtc)
{
	for (int second = 0; second < MINUTE_S; second++)
		if (alarm_matches(rtc, CMOS_SECONDS_ALARM, encode(rtc, second)))
			return true;
	return false;
}

/* The first second after `seen` that the alarm matches; 0: none does. */
static time_t next_alarm(const struct rtc *rtc)
{
	time_t t = rtc->seen + 1, end = t + DAY_S;

	if (!alarm_second_exists(rtc))
		return 0;
	while (t < end) {
		int hour = t / HOUR_S % 24, minute = t / MINUTE_S % 60, second = t % MINUTE_S;

		if (!alarm_matches(rtc, CMOS_HOURS_ALARM, encode_hours(rtc, hour)))
			t += HOUR_S - t % HOUR_S;
		else if (!alarm_matches(rtc, CMOS_MINUTES_ALARM, encode(rtc, minute)))
			t += MINUTE_S - second;
		else if (!alarm_matches(rtc, CMOS_SECONDS_ALARM, encode(rtc, second)))
			t++;
		else
			return t;
	}
	return 0;
}

/* To be called before anything changes on which the flags depend. */
static void catch_up(struct rtc *rtc)
{
	struct timespec now;
	time_t due;

	clock_gettime(CLOCK_REALTIME, &now);
	if (now.tv_sec != rtc->seen && !(rtc->ram[CMOS_B] & B_SET)) {
		due = next_alarm(rtc);
		rtc->flags |= C_UF | (due && due <= now.tv_sec ? C_AF : 0);
	}
	rtc->seen = now.tv_sec;
}

static uint8_t causes(const struct rtc *rtc)
{
	return rtc->flags & rtc->ram[CMOS_B];
}

static void update_line(struct rtc *rtc)
{
	bool line = causes(rtc);

	if (line == rtc->line)
		return;
	rtc->line = line;
	irq_set_line(&rtc->vm->irq, LAYOUT_IRQ_RTC, line);
}

/* The second that will raise the line; 0: none will, as things are. */
static time_t next_rise(const struct rtc *rtc)
{
	uint8_t b = rtc->ram[CMOS_B];

	if (rtc->line || b & B_SET)
		return 0;
	if (b & B_UIE)
		return rtc->seen + 1;
	return b & B_AIE ? next_alarm(rtc) : 0;
}

static int set_timer(struct rtc *rtc, time_t second)
{
	const struct itimerspec when = { .it_value.tv_sec = second };

	rtc->armed = second;
	return timerfd_settime(rtc->timer_fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &when,
			       NULL);
}

/* Make line and timer what the registers say. */
static void update(struct rtc *rtc)
{
	time_t rise;

	/* First without what comes now: a line that fell must be seen to, if it rises again. */
	update_line(rtc);
	/* Again, if the host's clock was set since we looked at it. */
	do {
		catch_up(rtc);
		update_line(rtc);
		rise = next_rise(rtc);
	} while (rise != rtc->armed && set_timer(rtc, rise) < 0 && errno == ECANCELED);
}

/* A second turned, or the host's clock was set, which fails the read and leaves it armed. */
static void timer_ready(void *arg)
{
	struct rtc *rtc = arg;
	uint64_t count;

	pthread_mutex_lock(&rtc->lock);
	if (read(rtc->timer_fd, &count, sizeof(count)) == sizeof(count))
		rtc->armed = 0;
	update(rtc);
	pthread_mutex_unlock(&rtc->lock);
}

/* --- registers --- */

static uint8_t read_c(struct rtc *rtc)
{
	uint8_t value;

	catch_up(rtc);
	value = rtc->flags | (causes(rtc) ? C_IRQF : 0);
	rtc->flags = 0;
	update(rtc);
	return value;
}

/* Writing SET clears UIE. */
static void write_b(struct rtc *rtc, uint8_t value)
{
	catch_up(rtc);
	rtc->ram[CMOS_B] = value & B_SET ? value & ~B_UIE : value;
	update(rtc);
}

static void write_alarm(struct rtc *rtc, enum cmos reg, uint8_t value)
{
	catch_up(rtc);
	rtc->ram[reg] = value;
	update(rtc);
}

static uint8_t read_cmos(struct rtc *rtc, enum cmos reg)
{
	switch (reg) {
	case CMOS_SECONDS:
	case CMOS_MINUTES:
	case CMOS_HOURS:
	case CMOS_WEEKDAY:
	case CMOS_DAY:
	case CMOS_MONTH:
	case CMOS_YEAR:
	case CMOS_CENTURY:
		return read_time(rtc, reg);
	case CMOS_A:
		return read_a(rtc);
	case CMOS_C:
		return read_c(rtc);
	default:
		return rtc->ram[reg];
	}
}

static void write_cmos(struct rtc *rtc, enum cmos reg, uint8_t value)
{
	switch (reg) {
	case CMOS_A:
		rtc->ram[reg] = value & ~A_UIP;
		break;
	case CMOS_B:
		write_b(rtc, value);
		break;
	case CMOS_SECONDS_ALARM:
	case CMOS_MINUTES_ALARM:
	case CMOS_HOURS_ALARM:
		write_alarm(rtc, reg, value);
		break;
	case CMOS_C:
	case CMOS_D:
		break;
	default:
		rtc->ram[reg] = value;
	}
}

static void port_read(void *owner, uint64_t offset, void *data, unsigned int len)
{
	struct rtc *rtc = owner;
	uint8_t *bytes = data;

	pthread_mutex_lock(&rtc->lock);
	/* The index port is write-only. */
	for (unsigned int i = 0; i < len; i++)
		bytes[i] = offset + i ? read_cmos(rtc, rtc->index) : 0xFF;
	pthread_mutex_unlock(&rtc->lock);
}

static void port_write(void *owner, uint64_t offset, const void *data, unsigned int len)
{
	struct rtc *rtc = owner;
	const uint8_t *bytes = data;

	pthread_mutex_lock(&rtc->lock);
	for (unsigned int i = 0; i < len; i++) {
		/* Bit 7 of the index port masks NMIs. */
		if (offset + i == 0)
			rtc->index = bytes[i] & (CMOS_BYTES - 1);
		else
			write_cmos(rtc, rtc->index, bytes[i]);
	}
	pthread_mutex_unlock(&rtc->lock);
}

static const struct bus_ops port_ops = {
	.read = port_read,
	.write = port_write,
};

static void put_bytes(struct rtc *rtc, enum cmos reg, unsigned int count, uint64_t value)
{
	uint64_t max = (1ull << count * 8) - 1;

	value = MIN(value, max);
	for (unsigned int i = 0; i < count; i++)
		rtc->ram[reg + i] = value >> i * 8;
}

static void put_memory_sizes(struct rtc *rtc, const struct mem *mem)
{
	uint64_t low = mem_low_end(mem), end = mem_end(mem);
	uint64_t extended = low > MIB(1) ? (low - MIB(1)) / KIB(1) : 0;

	put_bytes(rtc, CMOS_BASE_KIB, 2, MIN(low / KIB(1), 640));
	put_bytes(rtc, CMOS_EXT_KIB, 2, extended);
	put_bytes(rtc, CMOS_EXT2_KIB, 2, extended);
	put_bytes(rtc, CMOS_ABOVE_16MIB, 2, low > MIB(16) ? (low - MIB(16)) / KIB(64) : 0);
	put_bytes(rtc, CMOS_ABOVE_4GIB, 3, end > GIB(4) ? (end - GIB(4)) / KIB(64) : 0);
}

static int open_timer(struct rtc *rtc)
{
	rtc->timer_fd = timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC | TFD_NONBLOCK);
	if (rtc->timer_fd < 0)
		return -errno;
	rtc->watch = loop_watch_ready(rtc->loop, rtc->timer_fd, POLLIN, timer_ready, rtc);
	if (rtc->watch)
		return 0;
	close(rtc->timer_fd);
	return -ENOMEM;
}

static void close_timer(struct rtc *rtc)
{
	loop_unwatch(rtc->loop, rtc->watch);
	close(rtc->timer_fd);
}

int rtc_create(struct vm *vm, struct loop *loop, struct rtc **out)
{
	struct rtc *rtc = calloc(1, sizeof(*rtc));
	int ret;

	if (!rtc)
		return -ENOMEM;
	rtc->vm = vm;
	rtc->loop = loop;
	rtc->ram[CMOS_A] = A_DIVIDER;
	rtc->ram[CMOS_B] = B_24H;
	rtc->ram[CMOS_D] = D_VALID;
	put_memory_sizes(rtc, &vm->mem);
	catch_up(rtc);
	rtc->flags = 0;
	pthread_mutex_init(&rtc->lock, NULL);
	ret = open_timer(rtc);
	if (ret < 0)
		goto err_free;
	ret = bus_add(&vm->pio, LAYOUT_PORT_RTC, 2, &port_ops, rtc);
	if (ret < 0)
		goto err_close_timer;
	*out = rtc;
	return 0;

err_close_timer:
	close_timer(rtc);
err_free:
	pthread_mutex_destroy(&rtc->lock);
	free(rtc);
	return ret;
}

void rtc_destroy(struct rtc *rtc)
{
	if (!rtc)
		return;
	bus_del(&rtc->vm->pio, LAYOUT_PORT_RTC);
	close_timer(rtc);
	pthread_mutex_destroy(&rtc->lock);
	free(rtc);
}
