/* SPDX-License-Identifier: MIT */
/*
 * The run directory: a file for each running machine, by which others find it.
 *
 * /run/minivmm, of root's machines, is for everybody to read, so an entry says nothing that ps
 * and ip do not: no path, no command line. Other users' are in $XDG_RUNTIME_DIR/minivmm.
 *
 * A file is RUN_TEXT_BYTES of text (util/run_entry.h), padded with NULs, then a struct
 * run_nic_live for each NIC, which the machine has mapped and counts in. It is made whole before
 * it gets its name, which no other ever has; the machine holds a write lock on it, which ends
 * with the process, however that ends. A file without is stale, and goes when somebody looks.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "util/run_entry.h"

#define RUN_DIR_ROOT "/run/minivmm"
#define RUN_TEXT_BYTES 8192

struct run;

/*
 * Make the entry of this process, in the first place of the above that will have it; `pid`,
 * `start` and `netns` are filled in. 0 or -errno; silent, but for -v.
 */
int run_publish(struct run_entry *entry, struct run **out);
/* In directory `path`, which is made if its parent is there. */
int run_publish_in(const char *path, struct run_entry *entry, struct run **out);
/* The memory of NIC `index`. */
struct run_nic_live *run_live(struct run *run, unsigned int index);
/*
 * A socket beside the entry, listening, by which this machine can be asked for something; it goes
 * with the entry, and whoever connects is to be checked. The file, the caller's, or -errno.
 */
int run_listen(struct run *run);
/* Accepts NULL. */
void run_withdraw(struct run *run);

/* A machine that runs, as its entry says: nothing here is to be trusted. */
struct run_found {
	struct run_entry entry;
	struct run_nic_live live[RUN_NICS_MAX]; /* copied just now */
	uid_t uid;                              /* whose it is */
	int dir;                                /* lent, as is its file's name there: */
	const char *file;
};

struct run_reader {
	/* `found` is only lent. */
	void (*found)(struct run_reader *reader, const struct run_found *found);
	unsigned int unreadable; /* what has an entry's name and could not be made out */
};

/*
 * Read all there are: root everybody's that are below /run, others their own and root's. Stale
 * files are removed, if we may. 0 or -ENOMEM.
 */
int run_read(struct run_reader *reader);
/*
 * Connect to the machine's socket. Whatever is done with it, here and later, waits for `seconds`
 * at most: the machine may have stopped. The file, or -errno: -ENOENT, it has none; -EAGAIN, it
 * was too late.
 */
int run_connect(const struct run_found *found, unsigned int seconds);
/* Those of one directory; none if it is not there, or not safe to read. */
int run_read_in(struct run_reader *reader, const char *path);
