/* SPDX-License-Identifier: MIT */
/* Frames over a stream socket; inside net/ only. */
#pragma once

#include <stddef.h>

#include "net/net.h"

struct passt;

/* The longest frame either side may send, with its Ethernet header: passt's own limit. */
#define STREAM_FRAME_MAX 65535u

/*
 * A back end on a connected stream socket, which it takes over on success. `passt` is the
 * process at its other end, taken over too, or NULL; `peer` is what messages call it. 0 or
 * -ENOMEM.
 */
int stream_create(int fd, struct passt *passt, const char *peer, unsigned int mtu,
		  struct net **out);
