/* SPDX-License-Identifier: MIT */
/* What `minivmm bridge up` did to a bridge, and so what `down` is to undo; as text. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "net/cidr.h"

#define BRIDGE_STATE_BYTES 512

/* Things done, in `did`. */
#define BRIDGE_DID_MAKE 1u       /* the bridge itself */
#define BRIDGE_DID_RAISE 2u      /* it was down */
#define BRIDGE_DID_ADDRESS 4u    /* it did not have the address */
#define BRIDGE_DID_FORWARDING 8u /* net.ipv4.ip_forward was off */
#define BRIDGE_DID_NAT 16u
#define BRIDGE_DID_DHCP 32u
/* Not a deed: how the host was when forwarding was off. */
#define BRIDGE_HAD_REDIRECTS 64u
/* The host forwards by interface: net.ipv4.conf.NAME.forwarding was off. */
#define BRIDGE_DID_FORWARD_ONE 128u
#define BRIDGE_DID_ALL 255u

struct bridge_state {
	uint64_t netns; /* its inode */
	int index;      /* of the bridge, which another of the same name does not have */
	struct cidr address;
	unsigned int did;
};

/* Into BRIDGE_STATE_BYTES; the length. */
size_t bridge_state_format(const struct bridge_state *state, char *text);
/* `text` may be anything. 0 or -EINVAL. */
int bridge_state_parse(const char *text, size_t len, struct bridge_state *out);
