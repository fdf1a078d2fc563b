/* SPDX-License-Identifier: MIT */
/* TAP devices; inside net/ only. attach.c finds or makes one, tap.c drives it. */
#pragma once

#include <stdbool.h>

#include "net/link.h"
#include "net/net.h"

struct tap {
	struct net net;
	struct mnl_socket *nl; /* NULL for fd= */
	int index;             /* of the interface, 0 if unknown */
	bool created;          /* ours to delete */
	/* Adopted: what to put back. */
	struct link_change restore;
	int vnet_hdr_bytes;
};

/* A tap with no file yet. -ENOMEM. */
int tap_create(struct tap **out);
/* Undoes whatever was done so far. */
void tap_destroy(struct tap *tap);

/* Open the control device. The file, or -errno; logs. */
int tap_open_file(void);
/* Set header size and offloads; `tap->net.fd` is attached. 0 or -errno; logs. */
int tap_setup(struct tap *tap);

/* From options; 0 or -errno; logs. */
int tap_open_link(const struct net_options *opts, struct net **out);
int tap_open_fd(int fd, struct net **out);
