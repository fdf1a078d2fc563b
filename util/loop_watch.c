/* SPDX-License-Identifier: MIT */
/*
 * Watches: ops that are asked for again each time they are done. One that is given up while the
 * engine still has it is marked dead, and freed when it is done.
 */
#include "util/loop_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "util/log.h"
#include "util/util.h"

static void watch_arm(struct loop_watch *watch)
{
	if (!watch->loop->enabled)
		return; /* loop_watches_arm will */
	watch->loop->engine->arm(watch);
	watch->armed = true;
}

static void watch_free(struct loop_watch *watch)
{
	LIST_REMOVE(watch, entry);
	free(watch);
}

static void watch_run(struct loop_watch *watch)
{
	watch->in_fn = true;
	watch->fn(watch->arg);
	watch->in_fn = false;
}

static void watch_done(struct loop_op *op, int res)
{
	struct loop_watch *watch = CONTAINER_OF(op, struct loop_watch, op);
	bool fired = res >= 0 || (watch->kind == WATCH_TIMER && res == -ETIME);
	bool again = fired || res == -EINTR || res == -EAGAIN;

	watch->armed = false;
	/* Nobody hears it now: leave the event in the eventfd for loop_watch_resume. */
	if (fired && watch->paused && !watch->dead && watch->kind == WATCH_EVENT)
		eventfd_write(watch->fd, watch->count);
	if (fired && !watch->dead && !watch->paused)
		watch_run(watch);
	if (watch->dead) {
		watch_free(watch);
		return;
	}
	if (!again)
		log_error("loop %s: cannot wait for fd %d: %s", watch->loop->name, watch->fd,
			  strerror(-res));
	else if (!watch->paused)
		watch_arm(watch);
}

static struct loop_watch *watch_create(struct loop *loop, enum watch_kind kind, int fd,
				       loop_watch_fn *fn, void *arg)
{
	struct loop_watch *watch = calloc(1, sizeof(*watch));

	if (!watch)
		return NULL;
	watch->op.done = watch_done;
	watch->loop = loop;
	watch->kind = kind;
	watch->fd = fd;
	watch->fn = fn;
	watch->arg = arg;
	LIST_INSERT_HEAD(&loop->watches, watch, entry);
	return watch;
}

struct loop_watch *loop_watch_event(struct loop *loop, int fd, loop_watch_fn *fn, void *arg)
{
	struct loop_watch *watch = watch_create(loop, WATCH_EVENT, fd, fn, arg);
	int flags = fcntl(fd, F_GETFL);

	/* A read that waits must not fail with EAGAIN at once. */
	if (flags >= 0 && (flags & O_NONBLOCK))
		fcntl(fd, F_SETFL, flags & ~O_NONBLOCK);
	if (watch)
		watch_arm(watch);
	return watch;
}

struct loop_watch *loop_watch_ready(struct loop *loop, int fd, short events, loop_watch_fn *fn,
				    void *arg)
{
	struct loop_watch *watch = watch_create(loop, WATCH_READY, fd, fn, arg);

	if (!watch)
		return NULL;
	watch->events = events;
	watch_arm(watch);
	return watch;
}

struct loop_watch *loop_watch_timer(struct loop *loop, uint64_t period_ms, loop_watch_fn *fn,
				    void *arg)
{
	struct loop_watch *watch = watch_create(loop, WATCH_TIMER, -1, fn, arg);

	if (!watch)
		return NULL;
	watch->period_ms = period_ms;
	watch_arm(watch);
	return watch;
}

void loop_watch_set_period(struct loop_watch *watch, uint64_t period_ms)
{
	watch->period_ms = period_ms;
}

void loop_watch_pause(struct loop *loop, struct loop_watch *watch)
{
	watch->paused = true; /* it may fire once more, unheard */
}

void loop_watch_resume(struct loop *loop, struct loop_watch *watch)
{
	watch->paused = false;
	if (!watch->armed && !watch->in_fn)
		watch_arm(watch);
}

void loop_unwatch(struct loop *loop, struct loop_watch *watch)
{
	if (!watch)
		return;
	watch->dead = true;
	if (watch->in_fn)
		return; /* watch_done frees it */
	if (!watch->armed) {
		watch_free(watch);
		return;
	}
	if (!loop->enabled)
		return; /* nobody sees it fire any more; loop_destroy frees it */
	loop->engine->disarm(watch);
}

void loop_watches_arm(struct loop *loop)
{
	struct loop_watch *watch;

	LIST_FOREACH(watch, &loop->watches, entry)
		if (!watch->armed && !watch->paused)
			watch_arm(watch);
}

bool loop_op_is_watch(const struct loop_op *op)
{
	return op->done == watch_done;
}

void loop_watches_finish(struct loop *loop)
{
	while (!LIST_EMPTY(&loop->watches))
		watch_free(LIST_FIRST(&loop->watches));
}
