/* SPDX-License-Identifier: MIT */
#include "block/bio.h"

#include "util/util.h"

static void flush_start(struct bio *bio);

static void flush_done(struct loop_op *op, int res)
{
	struct bio_flushing *f = CONTAINER_OF(op, struct bio_flushing, op);
	struct loop_op *next;

	if (res < 0 && !f->err)
		f->err = res;
	for (op = f->running; op; op = next) {
		next = op->next;
		op->done(op, f->err);
	}
	f->running = NULL; /* only now: who asked meanwhile waits */
	if (f->waiting)
		flush_start(CONTAINER_OF(f, struct bio, flushing));
}

static void flush_start(struct bio *bio)
{
	struct bio_flushing *f = &bio->flushing;

	f->running = f->waiting;
	f->waiting = NULL;
	f->op.done = flush_done;
	if (f->err || bio->temporary)
		bio->ops->defer(bio, &f->op);
	else
		bio->ops->fdatasync(bio, &f->op);
}

void bio_flush(struct bio *bio, struct loop_op *op)
{
	op->next = bio->flushing.waiting;
	bio->flushing.waiting = op;
	if (!bio->flushing.running)
		flush_start(bio);
}
