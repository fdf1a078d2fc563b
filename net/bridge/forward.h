/* SPDX-License-Identifier: MIT */
/*
 * Forwarding of IPv4, in this network namespace: net.ipv4.ip_forward.
 *
 * The kernel keeps it for each interface, too, and sets them all. And it takes a router for one
 * that accepts no redirects, and any other for one that does, whatever was set before.
 *
 * What counts is the interface a packet came by. So a host may forward between some of them, with
 * ip_forward off; which they were would be lost if that was turned on and off again.
 */
#pragma once

#include <stdbool.h>

/* 0 or -errno; log. */
int forward_get(bool *on);
/* Did the host accept redirects? */
int forward_get_redirects(bool *on);
int forward_turn_on(void);
/* To a host that accepts redirects, or does not. */
int forward_turn_off(bool redirects);

/* Has any interface its own switch on? (With ip_forward on, all have.) */
int forward_get_any(bool *on);
/* One interface's own switch. */
int forward_get_one(const char *interface, bool *on);
int forward_set_one(const char *interface, bool on);
