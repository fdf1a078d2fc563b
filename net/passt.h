/* SPDX-License-Identifier: MIT */
/* passt, a program that is one machine's network without any rights; inside net/ only. */
#pragma once

#include <stddef.h>

#include "net/net.h"

struct passt;

/*
 * What passt tells the guest. It sends many frames of TCP at once, and of the largest (65520)
 * only a few fit into a socket that net.core.wmem_max keeps at its default: downloads came at
 * a fifth of the speed they have with these, uploads at 1.5 times. A datagram that is longer
 * still comes in one frame, and is passed on so.
 */
#define PASST_MTU 16384u

/*
 * Start one for `opts`, and wait until it forwards ports. `socket` is the caller's then; when it
 * is closed, passt ends: so it does when this process is killed. 0 or -errno; logs.
 */
int passt_start(const struct net_options *opts, struct passt **out, int *socket);

/* It hung up, or is to end: why it ended, as "passt was killed by signal 9". Waits a moment. */
void passt_end(struct passt *passt, char *why, size_t size);

/* After its socket was closed. Waits a moment. Accepts NULL. */
void passt_destroy(struct passt *passt);

/* A back end for `user`. 0 or -errno; logs. */
int user_open(const struct net_options *opts, struct net **out);
