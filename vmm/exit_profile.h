/* SPDX-License-Identifier: MIT */
/*
 * A vCPU's exits to user space by kind and address, with the time they took: a hash table. Its
 * vCPU's thread adds; others may read meanwhile.
 */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

enum exit_kind {
	EXIT_PIO_IN,
	EXIT_PIO_OUT,
	EXIT_MMIO_READ,
	EXIT_MMIO_WRITE,
	EXIT_OTHER, /* addr: the KVM exit reason */
};

#define EXIT_PROFILE_SLOTS 128

struct exit_slot {
	_Atomic uint64_t count; /* 0: free. Once it is more, kind and addr stay */
	_Atomic uint64_t ns;
	enum exit_kind kind;
	uint64_t addr;
};

struct exit_profile {
	struct exit_slot slots[EXIT_PROFILE_SLOTS];
	_Atomic uint64_t lost, lost_ns; /* of exits that found no slot */
};

/* What a reader sees of a slot. */
struct exit_count {
	enum exit_kind kind;
	uint64_t addr, count, ns;
};

void exit_profile_add(struct exit_profile *profile, enum exit_kind kind, uint64_t addr,
		      uint64_t ns);
/* The most frequent first. How many there are. */
unsigned int exit_profile_read(const struct exit_profile *profile,
			       struct exit_count out[EXIT_PROFILE_SLOTS]);
const char *exit_kind_name(enum exit_kind kind);
