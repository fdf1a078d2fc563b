/* SPDX-License-Identifier: MIT */
/* minivmm-qcow as a process: how it is started, spoken to, and ended. */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "block/qcow/proto.h"

struct qcow_process {
	pid_t pid;  /* 0: ended */
	int socket;
	const unsigned char *slot; /* what it read; it may change at any time */
};

/*
 * Start `program` (NULL: minivmm-qcow where it is installed) on `image_fd`, which stays the
 * caller's. It dies with the thread that called this. 0 or -errno; logs as `name`.
 */
int qcow_process_start(struct qcow_process *p, const char *program, int image_fd,
		       const char *name);

/* Never waits. 0 or -errno. */
int qcow_process_send(struct qcow_process *p, const struct qcow_request *req);

/*
 * The answer to `asked`, waiting up to `timeout_ms` for it. 0, -EAGAIN (none yet), -ETIMEDOUT,
 * -EPIPE (it hung up), -EPROTO (nonsense) or another -errno.
 */
int qcow_process_hear(struct qcow_process *p, const struct qcow_request *asked, int timeout_ms,
		      struct qcow_reply *out);

/* Kill it, and wait for its end, once. The wait status. */
int qcow_process_kill(struct qcow_process *p);

/* Kill it if it lives; give back what it used. */
void qcow_process_finish(struct qcow_process *p);
