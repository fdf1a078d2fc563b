/* SPDX-License-Identifier: MIT */
/* Address translation for the guests of a bridge: a table of nftables, minivmm-NAME. */
#pragma once

#include "net/cidr.h"

#define NAT_TABLE "minivmm-"

/*
 * The table as it has to be, for the subnet of `cidr`; `name` is an interface's, of letters,
 * digits, '-', '_' and '.'. 1: made, or made right; 0: it was so already; -errno; log.
 */
int nat_set(const char *name, const struct cidr *cidr);
/* 1: removed; 0: there was none; -errno; log. */
int nat_remove(const char *name);
