/* SPDX-License-Identifier: MIT */
/* A guard: which frames a guest may send, as a program for tc. */
#pragma once

#include <linux/filter.h>
#include <stdbool.h>
#include <stdint.h>

#define GUARD_ADDRS_MAX 8

struct guard_addr {
	bool ipv6;
	uint8_t bytes[16]; /* an IPv4 address has the first 4 */
	unsigned int bits; /* of the prefix */
};

struct guard {
	bool on;
	/* What the guest may send from; none: from any, as long as its MAC is right. */
	struct guard_addr addrs[GUARD_ADDRS_MAX];
	unsigned int addr_count;
};

/*
 * "mac", or addresses, each perhaps with a prefix's length, with + between, as
 * 192.0.2.7+2001:db8::/64. 0, -EINVAL or -ERANGE (too many). Silent.
 */
int guard_parse(const char *text, struct guard *out);

/* What a program can come to. The kernel shows a filter only if it fits a page. */
#define GUARD_PROGRAM_MAX 400

/* The number of instructions, at most GUARD_PROGRAM_MAX. */
unsigned int guard_program(const struct guard *guard, const uint8_t mac[6],
			   struct sock_filter program[GUARD_PROGRAM_MAX]);
