/* SPDX-License-Identifier: MIT */
/* MC146818 clock and its CMOS RAM: the host's UTC time, its alarm and the tick of its seconds. */
#pragma once

struct loop;
struct rtc;
struct vm;

/*
 * At ports 0x70 and 0x71; raises LAYOUT_IRQ_RTC. Its timer is watched by `loop`: call both on
 * the loop's thread, or while it does not run. 0 or -errno.
 */
int rtc_create(struct vm *vm, struct loop *loop, struct rtc **out);
void rtc_destroy(struct rtc *rtc);
