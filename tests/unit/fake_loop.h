/* SPDX-License-Identifier: MIT */
/*
 * For tests of devices: a loop that runs when it is told to, on the caller's thread. Stands in
 * for util/loop.c; include it in one file of the program.
 */
#pragma once

#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/eventfd.h>

#include "util/looks.h"

#define FAKE_WATCHES 80

struct loop_watch {
	int fd;
	loop_watch_fn *fn;
	void *arg;
	short events;       /* 0: an eventfd */
	uint64_t period_ms; /* or a timer, if fd is -1 */
	uint64_t due_ns;    /* of a timer, once armed; UINT64_MAX */
	bool paused;
};

struct loop {
	struct loop_op *deferred, **deferred_tail;
	struct loop_call *posted, **posted_tail;
	struct loop_watch watches[FAKE_WATCHES];
	struct looks looks;
	uint64_t now_ns;
};

static inline void fake_loop_init(struct loop *loop)
{
	*loop = (struct loop){0};
	loop->deferred_tail = &loop->deferred;
	loop->posted_tail = &loop->posted;
}

void loop_may_nap(struct loop *loop)
{
}

void loop_wake_costs(struct loop *loop, uint32_t ns)
{
}

void loop_defer(struct loop *loop, struct loop_op *op)
{
	op->next = NULL;
	*loop->deferred_tail = op;
	loop->deferred_tail = &op->next;
}

/* Here: on the loop's thread only. */
void loop_post(struct loop *loop, struct loop_call *call)
{
	call->next = NULL;
	*loop->posted_tail = call;
	loop->posted_tail = &call->next;
}

struct loop_watch *loop_watch_event(struct loop *loop, int fd, loop_watch_fn *fn, void *arg)
{
	for (unsigned int i = 0; i < FAKE_WATCHES; i++) {
		if (loop->watches[i].fn)
			continue;
		loop->watches[i] = (struct loop_watch){
			.fd = fd, .fn = fn, .arg = arg, .due_ns = UINT64_MAX};
		return &loop->watches[i];
	}
	return NULL;
}

struct loop_watch *loop_watch_ready(struct loop *loop, int fd, short events, loop_watch_fn *fn,
				    void *arg)
{
	struct loop_watch *watch = loop_watch_event(loop, fd, fn, arg);

	if (watch)
		watch->events = events;
	return watch;
}

static inline void fake_loop_arm(struct loop *loop, struct loop_watch *watch)
{
	if (watch->fd < 0 && watch->due_ns == UINT64_MAX)
		watch->due_ns = loop->now_ns + watch->period_ms * 1000000;
}

/* It runs in fake_loop_advance only. */
struct loop_watch *loop_watch_timer(struct loop *loop, uint64_t period_ms, loop_watch_fn *fn,
				    void *arg)
{
	struct loop_watch *watch = loop_watch_event(loop, -1, fn, arg);

	if (watch) {
		watch->period_ms = period_ms;
		fake_loop_arm(loop, watch);
	}
	return watch;
}

void loop_watch_set_period(struct loop_watch *watch, uint64_t period_ms)
{
	watch->period_ms = period_ms;
}

uint64_t loop_now_ns(struct loop *loop)
{
	return loop->now_ns;
}

void loop_watch_pause(struct loop *loop, struct loop_watch *watch)
{
	watch->paused = true;
}

void loop_watch_resume(struct loop *loop, struct loop_watch *watch)
{
	watch->paused = false;
	fake_loop_arm(loop, watch);
}

void loop_unwatch(struct loop *loop, struct loop_watch *watch)
{
	if (watch)
		watch->fn = NULL;
}

bool loop_drain(struct loop *loop)
{
	return false;
}

void loop_call_wait(struct loop *loop, void (*fn)(void *arg), void *arg)
{
	fn(arg);
}

static inline void fake_loop_run_posted(struct loop *loop)
{
	struct loop_call *call = loop->posted, *next;

	loop->posted = NULL;
	loop->posted_tail = &loop->posted;
	for (; call; call = next) {
		next = call->next;
		call->fn(call);
	}
}

static inline void fake_loop_run_watches(struct loop *loop)
{
	for (unsigned int i = 0; i < FAKE_WATCHES; i++) {
		struct loop_watch *watch = &loop->watches[i];
		struct pollfd pollfd = {.fd = watch->fd,
					.events = watch->events ? watch->events : POLLIN};
		eventfd_t count;

		if (!watch->fn || watch->paused || poll(&pollfd, 1, 0) != 1)
			continue;
		if (!watch->events)
			eventfd_read(watch->fd, &count);
		watch->fn(watch->arg);
	}
}

/* As the real one: a timer paused while armed is due once more, unheard. */
static inline void fake_loop_run_timer(struct loop *loop, struct loop_watch *watch)
{
	if (!watch->fn || watch->fd >= 0 || watch->due_ns > loop->now_ns)
		return;
	watch->due_ns = UINT64_MAX;
	if (!watch->paused)
		watch->fn(watch->arg);
	if (watch->fn && !watch->paused)
		fake_loop_arm(loop, watch);
}

/* Let `ms` go by, one by one. */
static inline void fake_loop_advance(struct loop *loop, uint64_t ms)
{
	while (ms--) {
		loop->now_ns += 1000000;
		for (unsigned int i = 0; i < FAKE_WATCHES; i++)
			fake_loop_run_timer(loop, &loop->watches[i]);
	}
}

/* As the real one: what these defer runs in the next turn. */
static inline void fake_loop_run_deferred(struct loop *loop)
{
	struct loop_op *op = loop->deferred, *next;

	loop->deferred = NULL;
	loop->deferred_tail = &loop->deferred;
	for (; op; op = next) {
		next = op->next;
		op->done(op, 0);
	}
}

void loop_look(struct loop *loop, struct loop_look *look)
{
	looks_add(&loop->looks, look);
}

/* One batch; it stays awake. */
static inline void fake_loop_turn_awake(struct loop *loop)
{
	fake_loop_run_posted(loop);
	fake_loop_run_watches(loop);
	looks_run(&loop->looks);
	fake_loop_run_deferred(loop);
}

/* One batch, after which it sleeps if it may. */
static inline void fake_loop_turn(struct loop *loop)
{
	fake_loop_turn_awake(loop);
	looks_may_sleep(&loop->looks);
}
