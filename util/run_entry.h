/* SPDX-License-Identifier: MIT */
/*
 * What a running machine says of itself, as text that others read:
 *
 *	minivmm 1
 *	vm name=web pid=4711 start=8234567 netns=4026531840
 *	nic name=net0 type=tap interface=mv0 index=7 mac=02:00:00:00:00:01 model=virtio-net ...
 *
 * In a value, what is not printable, a space and '%' are written as %XX. A reader skips lines
 * and keys it does not know; the version changes when one it knows does, or struct run_nic_live.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "util/run_live.h"

#define RUN_VERSION "minivmm 1"

/* Texts are cut to fit when written, and refused when read. */
struct run_nic {
	char name[16];      /* net0 */
	char type[16];      /* tap, fd or user: what --net asked for */
	char interface[16]; /* of the host, or "" */
	char bridge[16];    /* that --net asked for, or "" */
	char model[16];     /* virtio-net */
	char path[16];      /* who is to move its frames: user (space) or vhost */
	uint8_t mac[6];     /* of the guest at the start */
	/* Which interface that is, in the machine's network namespace: */
	uint8_t address[6]; /* has this address, where the index is unknown; or zero */
	uint32_t index;     /* or 0 */
	uint32_t queues;    /* pairs */
	uint32_t mtu;       /* 0: unknown */
};

struct run_entry {
	char name[256]; /* of the machine, or "" */
	uint32_t pid;
	uint64_t start; /* as in /proc/PID/stat: no later process of this pid has the same */
	uint64_t netns; /* inode of its network namespace */
	struct run_nic nics[RUN_NICS_MAX];
	unsigned int nic_count;
};

/* The text's length without the NUL, or -ENOSPC. */
int run_entry_format(const struct run_entry *entry, char *buf, size_t size);

/*
 * Of any `len` bytes; the text ends with them, or at a NUL. 0, -EPROTONOSUPPORT (another
 * version), or -EINVAL. Silent. Texts may hold any byte but NUL.
 */
int run_entry_parse(const char *text, size_t len, struct run_entry *out);
