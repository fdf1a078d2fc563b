/* SPDX-License-Identifier: MIT */
/*
 * The run directory of `minivmm bridge`: in /run/minivmm a folder bridge-NAME for each bridge that
 * was set up, with its state, and dnsmasq's leases and process id. Errors are logged.
 */
#pragma once

#include <stdbool.h>

#include "net/bridge/state.h"
#include "util/run_dir.h"

#define BRIDGE_RUN_DIR RUN_DIR_ROOT
/* The longest path in it: .../bridge-NAME/leases */
#define BRIDGE_PATH_BYTES 64

struct bridge_run {
	int dir;
	int lock; /* -1: only to look */
	uint64_t netns;
};

/*
 * To look (then -ENOENT, silent: there is none), or to change; then it is made if need be, and
 * nobody else changes anything until it is closed.
 */
int bridge_run_open(struct bridge_run *run, bool change);
void bridge_run_close(struct bridge_run *run);

/* -ENOENT, silent: there is none of that name. */
int bridge_run_load(const struct bridge_run *run, const char *name, struct bridge_state *out);
/* The whole state or, where it fails, the one before. */
int bridge_run_save(const struct bridge_run *run, const char *name,
		    const struct bridge_state *state);
/* With the folder. */
int bridge_run_remove(const struct bridge_run *run, const char *name);
/* Each bridge of this network namespace, by name; what cannot be read is left out. */
int bridge_run_each(const struct bridge_run *run,
		    void (*found)(const char *name, const struct bridge_state *state, void *arg),
		    void *arg);

/* The process dnsmasq says it is, or 0. Whom it runs as could have written anything there. */
int bridge_run_read_pid(const struct bridge_run *run, const char *name);
void bridge_run_path(const char *name, const char *file, char path[BRIDGE_PATH_BYTES]);
