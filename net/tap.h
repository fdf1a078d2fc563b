/* SPDX-License-Identifier: MIT */
/* TAP devices; inside net/ only. attach.c finds or makes one, tap.c drives it. */
#pragma once

#include <stdbool.h>

#include "net/link.h"
#include "net/net.h"

struct tap {
	struct net net;
	struct mnl_socket *nl, *watch; /* NULL for fd= */
	int index;             /* of the interface, 0 if unknown */
	bool created;          /* ours to delete */
	bool keep_files;       /* not ours to close: the caller's, who takes them back */
	bool up;               /* as last asked */
	unsigned int attached; /* queues: the first so many */
	struct batch *batch;   /* once it was wanted, or NULL where there can be none: */
	bool no_batch;
	/* Adopted: what to put back. */
	struct link_change restore;
	int vnet_hdr_bytes;
};

/* A tap with no queue yet. -ENOMEM. */
int tap_create(struct tap **out);
/* Undoes whatever was done so far. */
void tap_destroy(struct tap *tap);

/* Open the control device. The file, or -errno; logs. */
int tap_open_file(void);
/* Set header size and offloads; all queues are attached, of which the first stays so; and vhost
 * for them. 0 or -errno; logs. */
int tap_setup(struct tap *tap, enum net_vhost vhost);

/* From options; 0 or -errno; logs. */
int tap_open_link(const struct net_options *opts, struct net **out);
int tap_open_fds(const struct net_options *opts, struct net **out);
