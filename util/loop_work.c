/* SPDX-License-Identifier: MIT */
/*
 * Work that would hold up the loop is done by threads beside it. One more is started when work
 * comes and none is idle, up to the loop's limit, and all stay until it is destroyed.
 *
 * The loop that hears of each piece takes a processor from them each time. Where much is queued a
 * thread takes a few pieces together, and the loop hears of them once.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "util/loop_impl.h"
#include "util/util.h"

#define THREADS_MAX 8
#define TOGETHER_MAX 4 /* pieces of work */

struct loop_workers {
	pthread_mutex_t lock;
	pthread_cond_t come; /* there is work, or the end */
	struct loop_work *first, **last;
	unsigned int queued, idle; /* of work, of threads */
	bool end;
	/* the loop's alone */
	pthread_t threads[THREADS_MAX];
	unsigned int count, max;
	char name[16];
};

/* The thread's part of what is queued: a list. NULL: nothing is. */
static struct loop_work *take(struct loop_workers *w)
{
	unsigned int part = MIN(MAX(w->queued / w->max, 1), TOGETHER_MAX);
	struct loop_work *work = w->first, **end = &w->first;

	if (!work)
		return NULL;
	for (; part && *end; part--, w->queued--)
		end = &(*end)->next;
	w->first = *end;
	*end = NULL;
	if (!w->first)
		w->last = &w->first;
	return work;
}

static void carry_out(struct loop_work *list)
{
	for (struct loop_work *work = list; work; work = work->next)
		work->run(work);
	loop_post(list->loop, &list->call);
}

/* --- on the workers' threads --- */

static struct loop_work *next_work(struct loop_workers *w)
{
	struct loop_work *work;

	pthread_mutex_lock(&w->lock);
	w->idle++;
	while (!w->first && !w->end)
		pthread_cond_wait(&w->come, &w->lock);
	w->idle--;
	work = take(w);
	pthread_mutex_unlock(&w->lock);
	return work;
}

static void *worker_thread(void *arg)
{
	struct loop_workers *w = arg;
	struct loop_work *work;

	while ((work = next_work(w)))
		carry_out(work);
	return NULL;
}

/* --- on the loop's --- */

static struct loop_workers *workers_create(const struct loop *loop)
{
	struct loop_workers *w = calloc(1, sizeof(*w));

	if (!w)
		return NULL;
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->come, NULL);
	w->last = &w->first;
	w->max = MIN(loop->workers_max, THREADS_MAX);
	snprintf(w->name, sizeof(w->name), "%.13s-w", loop->name);
	return w;
}

void loop_workers_destroy(struct loop_workers *w)
{
	if (!w)
		return;
	pthread_mutex_lock(&w->lock);
	w->end = true;
	pthread_cond_broadcast(&w->come);
	pthread_mutex_unlock(&w->lock);
	for (unsigned int i = 0; i < w->count; i++)
		pthread_join(w->threads[i], NULL);
	pthread_cond_destroy(&w->come);
	pthread_mutex_destroy(&w->lock);
	free(w);
}

/* One thread more, if it can be had. */
static void add_thread(struct loop_workers *w)
{
	pthread_t *thread = &w->threads[w->count];
	sigset_t all, old;

	if (w->count == w->max)
		return;
	/* Signals are for the main thread. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	if (pthread_create(thread, NULL, worker_thread, w) == 0) {
		pthread_setname_np(*thread, w->name);
		w->count++;
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

static void work_done(struct loop_call *call)
{
	struct loop_work *work = CONTAINER_OF(call, struct loop_work, call), *next;

	for (; work; work = next) {
		next = work->next;
		work->loop->in_flight--;
		work->done(work);
	}
}

/* True if there is more work than there are threads that wait for it. */
static bool enqueue(struct loop_workers *w, struct loop_work *work)
{
	bool more;

	pthread_mutex_lock(&w->lock);
	work->next = NULL;
	*w->last = work;
	w->last = &work->next;
	more = ++w->queued > w->idle;
	pthread_cond_signal(&w->come);
	pthread_mutex_unlock(&w->lock);
	return more;
}

void loop_work(struct loop *loop, struct loop_work *work)
{
	struct loop_workers *w;

	work->loop = loop;
	work->call.fn = work_done;
	loop->in_flight++;
	if (!loop->workers)
		loop->workers = workers_create(loop);
	w = loop->workers;
	if (w && enqueue(w, work))
		add_thread(w);
	if (!w)
		carry_out(work); /* holding up the loop is better than not at all */
	else if (!w->count)
		carry_out(take(w));
}
