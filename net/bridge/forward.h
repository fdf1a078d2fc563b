/* SPDX-License-Identifier: MIT */
/*
 * net.ipv4.ip_forward, of this network namespace.
 *
 * The kernel keeps it for each interface, too, and sets them all. And it takes a router for one
 * that accepts no redirects, and any other for one that does, whatever was set before.
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
