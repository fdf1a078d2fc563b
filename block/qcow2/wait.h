/* SPDX-License-Identifier: MIT */
/* Queues of those who wait for something inside the qcow2 engine. */
#pragma once

/* Functions that may have to wait return 0, -errno, or this: the caller's `wait` is woken. */
#define Q2_PARKED 1

struct q2_wait {
	struct q2_wait *next;
	/* err: what was waited for failed; otherwise ask again */
	void (*wake)(struct q2_wait *wait, int err);
};

struct q2_waitq {
	struct q2_wait *first;
	struct q2_wait **last;
};

void q2_waitq_init(struct q2_waitq *queue);
void q2_waitq_add(struct q2_waitq *queue, struct q2_wait *wait);
void q2_waitq_move(struct q2_waitq *to, struct q2_waitq *from); /* `to` held none */
void q2_waitq_wake(struct q2_waitq *queue, int err); /* all; they may queue up again */
