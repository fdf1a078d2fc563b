/* SPDX-License-Identifier: MIT */
/* IPv4 addresses with their subnet, as 10.0.0.1/24. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct cidr {
	uint32_t addr;       /* in the host's byte order */
	unsigned int prefix; /* 0 to 32 */
};

/* Room for either of the texts below, with its NUL. */
#define CIDR_TEXT_BYTES 20

/* 0 or -EINVAL: not an address with a prefix length. Silent, as all here. */
int cidr_parse(const char *text, struct cidr *out);
/* "10.0.0.1/24"; and "10.0.0.1" alone. */
void cidr_format(const struct cidr *cidr, char text[CIDR_TEXT_BYTES]);
void cidr_format_addr(uint32_t addr, char text[CIDR_TEXT_BYTES]);

uint32_t cidr_mask(const struct cidr *cidr);
/* The first and the last address of the subnet: the network's own, and the broadcast address. */
uint32_t cidr_first(const struct cidr *cidr);
uint32_t cidr_last(const struct cidr *cidr);
bool cidr_equal(const struct cidr *a, const struct cidr *b);
/* Have the two subnets an address in common? */
bool cidr_overlap(const struct cidr *a, const struct cidr *b);

/* NULL, or why no bridge with guests can have it, as "is ..." or "has ...". */
const char *cidr_unfit(const struct cidr *cidr);
