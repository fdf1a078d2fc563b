/* SPDX-License-Identifier: MIT */
/*
 * A bucket that leaks, kept as a moment: `paid_ns` is when all that has passed will have been
 * paid for at the rate. It may lie up to BURST_NS ahead before something has to wait, and what
 * passes moves it on, however far. So there is nothing to be done while nobody asks.
 */
#include "virtio/blk_limit.h"

#include <errno.h>
#include <stdlib.h>

#include "util/loop.h"
#include "util/util.h"

#define SECOND_NS 1000000000ull
#define BURST_NS SECOND_NS
#define MS_NS 1000000ull
/* Between looks: a timer that was set for something forgotten must not make others late. */
#define WAIT_MS_MAX 100

_Static_assert(BLK_LIMIT_PASS_MAX <= (UINT64_MAX - BLK_LIMIT_MAX) / SECOND_NS, "charge");

struct bucket {
	uint64_t rate; /* per second; 0: no limit */
	uint64_t paid_ns;
	uint64_t rest; /* what paid_ns leaves out, in 1/rate ns */
};

struct blk_limit {
	struct loop *loop;
	struct loop_watch *timer; /* runs while somebody waits */
	void (*fn)(void *arg);
	void *arg;
	struct bucket ops, bytes;
};

/* How long until something may pass. */
static uint64_t wait_ns(const struct bucket *bucket, uint64_t now)
{
	if (!bucket->rate || bucket->paid_ns < now + BURST_NS)
		return 0;
	return bucket->paid_ns - (now + BURST_NS) + 1;
}

static void charge(struct bucket *bucket, uint64_t amount, uint64_t now)
{
	uint64_t product = amount * SECOND_NS + bucket->rest;

	if (!bucket->rate)
		return;
	bucket->paid_ns = MAX(bucket->paid_ns, now) + product / bucket->rate;
	bucket->rest = product % bucket->rate;
}

bool blk_limit_pass(struct blk_limit *limit, uint64_t bytes)
{
	uint64_t now = loop_now_ns(limit->loop);

	if (wait_ns(&limit->ops, now) || wait_ns(&limit->bytes, now))
		return false;
	charge(&limit->ops, 1, now);
	charge(&limit->bytes, bytes, now);
	return true;
}

static void fired(void *arg)
{
	struct blk_limit *limit = arg;

	loop_watch_pause(limit->loop, limit->timer); /* unless fn waits again */
	limit->fn(limit->arg);
}

void blk_limit_wait(struct blk_limit *limit, void (*fn)(void *arg), void *arg)
{
	uint64_t now = loop_now_ns(limit->loop);
	uint64_t ns = MAX(wait_ns(&limit->ops, now), wait_ns(&limit->bytes, now));
	uint64_t ms = (ns + MS_NS - 1) / MS_NS;

	limit->fn = fn;
	limit->arg = arg;
	loop_watch_set_period(limit->timer, MIN(MAX(ms, 1), WAIT_MS_MAX));
	loop_watch_resume(limit->loop, limit->timer);
}

void blk_limit_forget(struct blk_limit *limit)
{
	loop_watch_pause(limit->loop, limit->timer);
}

int blk_limit_create(struct loop *loop, uint64_t ops_per_s, uint64_t bytes_per_s,
		     struct blk_limit **out)
{
	struct blk_limit *limit = calloc(1, sizeof(*limit));

	if (!limit)
		return -ENOMEM;
	limit->loop = loop;
	limit->ops.rate = ops_per_s;
	limit->bytes.rate = bytes_per_s;
	limit->timer = loop_watch_timer(loop, WAIT_MS_MAX, fired, limit);
	if (!limit->timer) {
		free(limit);
		return -ENOMEM;
	}
	loop_watch_pause(loop, limit->timer);
	*out = limit;
	return 0;
}

void blk_limit_destroy(struct blk_limit *limit)
{
	if (!limit)
		return;
	loop_unwatch(limit->loop, limit->timer);
	free(limit);
}
