/* SPDX-License-Identifier: MIT */
/*
 * What a running machine's devices count, in memory that `minivmm net` reads while they do
 * (util/run_dir.h). A NIC's numbers have one writer, its loop.
 */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#include "util/counter.h"

#define RUN_NICS_MAX 8

struct run_frames {
	_Atomic uint64_t frames, bytes, dropped;
};

/* Its shape is part of the entry's version, RUN_VERSION. */
struct run_nic_live {
	struct run_frames rx; /* to the guest */
	struct run_frames tx; /* from it; dropped: malformed, or refused */
	_Atomic uint64_t ctrl_commands, ctrl_refused;
	_Atomic uint64_t link; /* 1: up, for the guest */
	_Atomic uint64_t mac;  /* run_mac: the guest's, which it may change */
	/* The receive filter: everything; all multicast; so many addresses beside its own. */
	_Atomic uint64_t promiscuous, all_multicast, filter_macs;
	_Atomic uint64_t rx_filtered; /* frames of VLANs the guest does not want */
	/* Of tx.dropped: the interface refused them, and counts them among its own. */
	_Atomic uint64_t tx_refused;
	_Atomic uint64_t vhost_left; /* 1: vhost was to move the frames, and minivmm does */
};

_Static_assert(sizeof(struct run_nic_live) == 128, "shared memory: two cache lines");

/* An address as a number, so that it changes all at once. */
static inline uint64_t run_mac(const uint8_t mac[6])
{
	uint64_t value = 0;

	for (int i = 0; i < 6; i++)
		value = value << 8 | mac[i];
	return value;
}
