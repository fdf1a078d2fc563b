/* SPDX-License-Identifier: MIT */
/*
 * The MC146818's registers over the host's clock. Time registers show UTC in the format that
 * register B asks for; writing them changes nothing. Alarm, periodic and update interrupts are
 * not delivered: their registers read back, and the flags in register C stay clear. UIP goes
 * up before each second ends, as long as on the chip, for those who wait to see the tick.
 *
 * The rest is CMOS RAM, in which firmware would have left the sizes of memory.
 */
#include "devices/rtc.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#include "util/util.h"
#include "vmm/bus.h"
#include "vmm/layout.h"
#include "vmm/mem.h"
#include "vmm/vm.h"

enum cmos {
	CMOS_SECONDS = 0x00,
	CMOS_MINUTES = 0x02,
	CMOS_HOURS = 0x04,
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
#define B_BINARY 0x04
#define B_24H 0x02
#define HOURS_PM 0x80
#define D_VALID 0x80

/* The update takes 1984 us, and UIP precedes it by 244 us (MC146818A, table 6). */
#define UIP_NS 2228000
#define NS_PER_S 1000000000

struct rtc {
	struct vm *vm;
	pthread_mutex_t lock; /* guards the fields below */
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

static uint8_t read_cmos(const struct rtc *rtc, enum cmos reg)
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

int rtc_create(struct vm *vm, struct rtc **out)
{
	struct rtc *rtc = calloc(1, sizeof(*rtc));
	int ret;

	if (!rtc)
		return -ENOMEM;
	rtc->vm = vm;
	rtc->ram[CMOS_A] = A_DIVIDER;
	rtc->ram[CMOS_B] = B_24H;
	rtc->ram[CMOS_D] = D_VALID;
	put_memory_sizes(rtc, &vm->mem);
	pthread_mutex_init(&rtc->lock, NULL);
	ret = bus_add(&vm->pio, LAYOUT_PORT_RTC, 2, &port_ops, rtc);
	if (ret < 0) {
		pthread_mutex_destroy(&rtc->lock);
		free(rtc);
		return ret;
	}
	*out = rtc;
	return 0;
}

void rtc_destroy(struct rtc *rtc)
{
	if (!rtc)
		return;
	bus_del(&rtc->vm->pio, LAYOUT_PORT_RTC);
	pthread_mutex_destroy(&rtc->lock);
	free(rtc);
}
