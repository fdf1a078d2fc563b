/* SPDX-License-Identifier: MIT */
/* Addresses for the guests of a bridge: a dnsmasq of the bridge's own. */
#pragma once

#include <stdbool.h>

#include "net/bridge/run.h"

#define DHCP_PROGRAM_BYTES 4096

/* Find the program, before anything is begun. 0 or -ENOENT; logs. */
int dhcp_find_program(char path[DHCP_PROGRAM_BYTES]);
/* The addresses it hands out, but for the bridge's own. */
void dhcp_range(const struct cidr *cidr, struct cidr *first, struct cidr *last);

/*
 * See that one runs that hands out the addresses of `cidr`'s subnet and, with `routed`, the bridge
 * as the way to everywhere else. 1: started, maybe in place of one with other settings; 0: it ran;
 * -errno; logs. The folder of the bridge is there.
 */
int dhcp_start(const struct bridge_run *run, const char *name, const char *program,
	       const struct cidr *cidr, bool routed);
bool dhcp_runs(const struct bridge_run *run, const char *name);
/* 1: ended; 0: there was none; -errno; logs. */
int dhcp_stop(const struct bridge_run *run, const char *name);
