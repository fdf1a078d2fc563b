/* SPDX-License-Identifier: MIT */
/* MC146818 clock and its CMOS RAM: the host's UTC time. Reads only answer the time of day. */
#pragma once

struct rtc;
struct vm;

/* At ports 0x70 and 0x71. 0 or -errno. */
int rtc_create(struct vm *vm, struct rtc **out);
void rtc_destroy(struct rtc *rtc);
