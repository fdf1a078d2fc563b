/* SPDX-License-Identifier: MIT */
/* Virtqueues: who must notify whom, and that nobody is left asleep. */
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <time.h>

#include "queue_fixture.h"

/* Use `count` chains and publish them. */
static bool use(struct fixture *f, unsigned int count)
{
	struct ring_buf buf = {BUF, 1};
	struct ring_elem elem;
	struct vq_chain chain;
	bool irq;

	for (unsigned int i = 0; i < count; i++) {
		ring_add(&f->ring, &buf, 0, 1);
		assert_int_equal(vq_pop(f->vq, &chain), 1);
		vq_push(f->vq, chain.head, 1);
	}
	irq = vq_publish(f->vq);
	while (ring_used(&f->ring, &elem))
		;
	return irq;
}

static void test_no_interrupt(void **state)
{
	struct fixture *f = *state;

	assert_true(use(f, 1));
	ring_set_no_interrupt(&f->ring, true);
	assert_false(use(f, 1));
	ring_set_no_interrupt(&f->ring, false);
	assert_true(use(f, 2));
	assert_false(vq_publish(f->vq)); /* nothing new */
}

static void test_no_notify(void **state)
{
	struct ring_buf buf = {BUF, 1};
	struct fixture *f = *state;
	struct vq_chain chain;

	vq_disarm(f->vq);
	ring_add(&f->ring, &buf, 0, 1);
	assert_false(ring_wants_kick(&f->ring));
	assert_true(vq_arm(f->vq));
	assert_int_equal(vq_pop(f->vq, &chain), 1);
	assert_false(vq_arm(f->vq));
	ring_add(&f->ring, &buf, 0, 1);
	assert_true(ring_wants_kick(&f->ring));
}

static void test_event_idx_interrupt(void **state)
{
	struct fixture *f = *state;

	/* An interrupt when used->idx moves past used_event: from <= event to > event. */
	ring_set_used_event(&f->ring, 0);
	assert_true(use(f, 1)); /* 0 -> 1 */
	assert_false(use(f, 1)); /* 1 -> 2: it was asked for once */
	ring_set_used_event(&f->ring, 4);
	assert_false(use(f, 2)); /* 2 -> 4 */
	assert_true(use(f, 1));  /* 4 -> 5 */
	ring_set_used_event(&f->ring, 7);
	assert_true(use(f, 5)); /* 5 -> 10, past 7 in the middle */
	ring_set_used_event(&f->ring, 9);
	assert_false(use(f, 3)); /* 10 -> 13, 9 is behind */
	ring_set_used_event(&f->ring, 13);
	assert_false(vq_publish(f->vq)); /* nothing new, though the index fits */
	/* NO_INTERRUPT means nothing here (2.7.7.2). */
	ring_set_no_interrupt(&f->ring, true);
	assert_true(use(f, 1));
}

static void test_event_idx_interrupt_wraps(void **state)
{
	struct fixture *f = *state;

	ring_set_used_event(&f->ring, 0x8000);
	for (unsigned int i = 0; i < 65534; i++)
		use(f, 1);
	ring_set_used_event(&f->ring, 65535);
	assert_false(use(f, 1)); /* 65534 -> 65535 */
	assert_true(use(f, 1));  /* 65535 -> 0 */
	for (unsigned int i = 0; i < 65533; i++)
		use(f, 1);
	ring_set_used_event(&f->ring, 0);
	assert_false(use(f, 2)); /* 65533 -> 65535 */
	assert_true(use(f, 3));  /* 65535 -> 2, past 0 */
	ring_set_used_event(&f->ring, 1);
	assert_false(use(f, 3)); /* 2 -> 5: 1 is behind */
}

static void test_event_idx_kick(void **state)
{
	struct ring_buf buf = {BUF, 1};
	struct fixture *f = *state;
	struct vq_chain chain;

	assert_false(vq_arm(f->vq));
	assert_int_equal(ring_avail_event(&f->ring), 0);
	ring_add(&f->ring, &buf, 0, 1);
	assert_true(ring_wants_kick(&f->ring));
	vq_disarm(f->vq);
	ring_add(&f->ring, &buf, 0, 1);
	assert_false(ring_wants_kick(&f->ring)); /* avail_event is still 0 */
	assert_int_equal(vq_pop(f->vq, &chain), 1);
	assert_true(vq_arm(f->vq)); /* one is left, though armed behind it */
	assert_int_equal(vq_pop(f->vq, &chain), 1);
	assert_false(vq_arm(f->vq));
	assert_int_equal(ring_avail_event(&f->ring), 2);
	assert_int_equal(ring_used_flags(&f->ring), 0);
	ring_add(&f->ring, &buf, 0, 1);
	assert_true(ring_wants_kick(&f->ring));
}

/* --- two threads --- */

#define PASSED_ON 100000

/* The doorbell and the interrupt of two threads. */
struct signals {
	struct fixture *f;
	sem_t kick, irq;
};

/* False if nobody rang for long: a notification was lost. */
static bool wait_for(sem_t *sem)
{
	struct timespec end;

	clock_gettime(CLOCK_REALTIME, &end);
	end.tv_sec += 20;
	return sem_timedwait(sem, &end) == 0;
}

/* A driver that keeps the rules: it kicks when it must, and sleeps when it may. */
static void *drive(void *arg)
{
	struct signals *signals = arg;
	struct ring *ring = &signals->f->ring;
	struct ring_buf bufs[] = {{BUF, 8}, {BUF + 64, 8}};
	unsigned int added = 0, used = 0;
	struct ring_elem elem;

	while (used < PASSED_ON) {
		while (added < PASSED_ON && ring->free_count >= 2) {
			ring_add(ring, bufs, 1, 1);
			added++;
			/* Now and then one at a time, so that both sides get to sleep. */
			if (added % 7 == 0)
				break;
		}
		if (ring_wants_kick(ring))
			sem_post(&signals->kick);
		ring_set_used_event(ring, ring->used_next);
		if (ring_used_idx(ring) == ring->used_next && !wait_for(&signals->irq))
			abort();
		while (ring_used(ring, &elem))
			if (elem.len != used++)
				abort();
	}
	return NULL;
}

/* Two threads pass chains round; none is lost, and neither sleeps for ever. */
static void test_two_threads(void **state)
{
	struct fixture *f = *state;
	struct signals signals = {.f = f};
	struct vq_chain chain;
	unsigned int done = 0;
	pthread_t thread;
	int r;

	sem_init(&signals.kick, 0, 0);
	sem_init(&signals.irq, 0, 0);
	assert_int_equal(pthread_create(&thread, NULL, drive, &signals), 0);
	while (done < PASSED_ON) {
		vq_disarm(f->vq);
		while ((r = vq_pop(f->vq, &chain)) == 1) {
			assert_int_equal(chain.out_count, 1);
			assert_int_equal(chain.in_count, 1);
			vq_push(f->vq, chain.head, done++);
		}
		assert_int_equal(r, 0);
		if (vq_publish(f->vq))
			sem_post(&signals.irq);
		if (!vq_arm(f->vq) && done < PASSED_ON)
			assert_true(wait_for(&signals.kick));
	}
	pthread_join(thread, NULL);
	sem_destroy(&signals.kick);
	sem_destroy(&signals.irq);
}

/* Another serves it for a while, beginning with the `served` chains that follow. */
static void lent(struct fixture *f, unsigned int served)
{
	struct ring_buf buf = {BUF, 1};
	uint16_t heads[SIZE], used;
	struct vq_place place;

	vq_lend(f->vq, &place);
	assert_int_equal(place.size, SIZE);
	assert_ptr_equal(place.desc, mem_at(&f->mem, f->ring.desc_gpa, 1));
	assert_ptr_equal(place.avail, mem_at(&f->mem, f->ring.avail_gpa, 1));
	assert_ptr_equal(place.used, mem_at(&f->mem, f->ring.used_gpa, 1));
	assert_int_equal(place.next, f->ring.used_next);
	for (unsigned int i = 0; i < served; i++)
		heads[i] = ring_add(&f->ring, &buf, 0, 1);
	for (unsigned int i = 0; i < served; i++) {
		struct vring_used_elem elem = {heads[i], 1};

		memcpy((uint8_t *)place.used + 4 + 8 * ((place.next + i) % SIZE), &elem, 8);
	}
	used = (uint16_t)(place.next + served);
	memcpy((uint8_t *)place.used + 2, &used, 2);
	assert_true(vq_resume(f->vq, used));
}

static void test_lent_and_back(void **state)
{
	struct ring_buf buf = {BUF, 1};
	struct fixture *f = *state;
	struct ring_elem elem;
	struct vq_chain chain;

	for (unsigned int round = 0; round < 5; round++) {
		use(f, 3);
		lent(f, SIZE);
		for (unsigned int i = 0; i < SIZE; i++)
			assert_true(ring_used(&f->ring, &elem));
		assert_int_equal(vq_pop(f->vq, &chain), 0);
		assert_false(vq_arm(f->vq));
	}
	/* What it had not come to is there. */
	ring_add(&f->ring, &buf, 0, 1);
	lent(f, 0);
	assert_int_equal(vq_pop(f->vq, &chain), 1);
	vq_push(f->vq, chain.head, 1);
	assert_true(vq_publish(f->vq));
}

/* It took three and returned none: they are not popped again, and there is room for the others. */
static void test_lent_and_lost(void **state)
{
	struct ring_buf buf = {BUF, 1};
	struct fixture *f = *state;
	struct vq_place place;
	struct vq_chain chain;

	for (unsigned int i = 0; i < SIZE; i++)
		ring_add(&f->ring, &buf, 0, 1);
	vq_lend(f->vq, &place);
	assert_false(vq_resume(f->vq, 3));
	for (unsigned int i = 3; i < SIZE; i++) {
		assert_int_equal(vq_pop(f->vq, &chain), 1);
		vq_push(f->vq, chain.head, 1);
	}
	assert_int_equal(vq_pop(f->vq, &chain), 0);
	assert_true(vq_publish(f->vq));
}

/* It is the driver's to write: an index that makes no sense ends as any does. */
static void test_lent_and_spoilt(void **state)
{
	struct fixture *f = *state;
	struct vq_place place;
	struct vq_chain chain;
	uint16_t used = 100;

	vq_lend(f->vq, &place);
	memcpy((uint8_t *)place.used + 2, &used, 2);
	assert_false(vq_resume(f->vq, 0));
	assert_int_equal(vq_pop(f->vq, &chain), -EPROTO);
	assert_non_null(vq_error(f->vq));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(no_interrupt), TEST(no_notify), TEST_EVENT_IDX(event_idx_interrupt),
		TEST_EVENT_IDX(event_idx_interrupt_wraps), TEST_EVENT_IDX(event_idx_kick),
		TEST(two_threads), TEST_EVENT_IDX(two_threads), TEST(lent_and_back),
		TEST(lent_and_lost), TEST(lent_and_spoilt),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
