/* SPDX-License-Identifier: MIT */
/* Virtqueues of drivers that break the rules: the ring is broken, and nothing else. */
#include <errno.h>
#include <pthread.h>

#include "queue_fixture.h"

/* The ring is broken, says why, and stays so whatever comes. */
static void assert_broken(struct fixture *f, const char *why)
{
	struct vq_chain chain;

	assert_int_equal(vq_pop(f->vq, &chain), -EPROTO);
	assert_non_null(vq_error(f->vq));
	assert_string_equal(vq_error(f->vq), why);
	ring_desc(&f->ring, 0, BUF, 16, 0, 0);
	ring_offer(&f->ring, 0);
	assert_int_equal(vq_pop(f->vq, &chain), -EPROTO);
	assert_false(vq_arm(f->vq));
}

/* --- chains --- */

static void test_loop(void **state)
{
	struct fixture *f = *state;

	for (uint16_t i = 0; i < SIZE; i++)
		ring_desc(&f->ring, i, BUF, 1, VRING_DESC_F_NEXT, (i + 1) % SIZE);
	ring_offer(&f->ring, 0);
	assert_broken(f, "a chain that loops");
}

static void test_self_reference(void **state)
{
	struct fixture *f = *state;

	ring_desc(&f->ring, 5, BUF, 1, VRING_DESC_F_NEXT, 5);
	ring_offer(&f->ring, 5);
	assert_broken(f, "a chain that loops");
}

static void test_next_outside(void **state)
{
	struct fixture *f = *state;

	ring_desc(&f->ring, 0, BUF, 1, VRING_DESC_F_NEXT, SIZE);
	ring_offer(&f->ring, 0);
	assert_broken(f, "a next descriptor outside its table");
}

static void test_readable_after_writable(void **state)
{
	struct fixture *f = *state;

	ring_desc(&f->ring, 0, BUF, 1, VRING_DESC_F_NEXT | VRING_DESC_F_WRITE, 1);
	ring_desc(&f->ring, 1, BUF, 1, 0, 0);
	ring_offer(&f->ring, 0);
	assert_broken(f, "a readable descriptor after a writable one");
}

static void test_zero_length(void **state)
{
	struct fixture *f = *state;

	ring_desc(&f->ring, 0, BUF, 1, VRING_DESC_F_NEXT, 1);
	ring_desc(&f->ring, 1, BUF, 0, 0, 0);
	ring_offer(&f->ring, 0);
	assert_broken(f, "a descriptor of length 0");
}

static void test_outside_ram(void **state)
{
	static const struct ring_buf bad[] = {
		{LOW, 1},                       /* just behind */
		{LOW - 1, 2},                   /* across the end */
		{BUF, 0xffffffff},              /* much too long */
		{RING_HIGH_GPA - 1, 2},         /* from the hole into high RAM */
		{RING_HIGH_GPA + KIB(4), 1},    /* behind it all */
		{UINT64_MAX, 1},
		{UINT64_MAX, 0xffffffff},       /* wraps to low RAM */
		{UINT64_MAX - 0xfff, 0x2000},
		{0, 0xffffffff},
	};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct fixture f;

		start(&f, SIZE, false, true);
		ring_add(&f.ring, &bad[i], i % 2, 1 - i % 2);
		assert_broken(&f, "a descriptor outside RAM");
		vq_destroy(f.vq);
		guest_finish(&f.mem);
	}
}

/* 2.7.5: no more than 2^32 bytes in a chain. The region is a claim only; nobody touches it. */
static void test_four_gib(void **state)
{
	struct fixture *f = *state;
	struct vq_chain chain;
	uint64_t base = GIB(8);

	f->mem.regions[1].gpa = base;
	f->mem.regions[1].len_bytes = GIB(5);
	ring_desc(&f->ring, 0, base, 1u << 31, VRING_DESC_F_NEXT, 1);
	ring_desc(&f->ring, 1, base, 1u << 31, VRING_DESC_F_WRITE, 0);
	ring_offer(&f->ring, 0);
	assert_int_equal(vq_pop(f->vq, &chain), 1);
	ring_desc(&f->ring, 2, base, 1u << 31, VRING_DESC_F_NEXT, 3);
	ring_desc(&f->ring, 3, base, 1u << 31, VRING_DESC_F_NEXT | VRING_DESC_F_WRITE, 4);
	ring_desc(&f->ring, 4, base, 1, VRING_DESC_F_WRITE, 0);
	ring_offer(&f->ring, 2);
	assert_broken(f, "a chain of more than 4 GiB");
}

/* --- heads and indices --- */

static void test_head_outside(void **state)
{
	struct fixture *f = *state;

	ring_offer(&f->ring, SIZE);
	assert_broken(f, "an available head outside the descriptor table");
}

static void test_head_in_flight(void **state)
{
	struct fixture *f = *state;
	struct vq_chain chain;

	ring_desc(&f->ring, 3, BUF, 1, 0, 0);
	ring_offer(&f->ring, 3);
	assert_int_equal(vq_pop(f->vq, &chain), 1);
	ring_offer(&f->ring, 3);
	assert_broken(f, "an available head that is in use already");
}

static void test_avail_jumps(void **state)
{
	static const char why[] = "more buffers available than the ring holds";
	static const uint16_t jumps[] = {SIZE + 1, 0x7fff, 0x8000, 0xffff};

	for (size_t i = 0; i < ARRAY_LEN(jumps); i++) {
		struct fixture f;

		start(&f, SIZE, false, false);
		ring_set_avail(&f.ring, jumps[i]);
		assert_broken(&f, why);
		vq_destroy(f.vq);
		guest_finish(&f.mem);
	}
}

static void test_avail_goes_back(void **state)
{
	struct fixture *f = *state;
	struct vq_chain chain;

	for (uint16_t i = 0; i < 3; i++) {
		ring_desc(&f->ring, i, BUF, 1, 0, 0);
		ring_offer(&f->ring, i);
		assert_int_equal(vq_pop(f->vq, &chain), 1);
	}
	ring_set_avail(&f->ring, 1);
	assert_broken(f, "more buffers available than the ring holds");
}

/* A driver that refills before it was shown anything used must not keep a batch going. */
static void test_batch_is_bounded(void **state)
{
	struct fixture *f = *state;
	struct vq_chain chain;

	ring_desc(&f->ring, 0, BUF, 1, 0, 0);
	for (unsigned int i = 0; i < SIZE; i++) {
		ring_offer(&f->ring, 0);
		assert_int_equal(vq_pop(f->vq, &chain), 1);
		vq_push(f->vq, 0, 0);
	}
	ring_offer(&f->ring, 0);
	assert_broken(f, "more buffers available than the ring holds");
}

/* --- indirect --- */

/* Longer than the ring, which drivers make that had to shrink it; but not without bound. */
static void test_indirect_long(void **state)
{
	struct ring_buf bufs[VQ_IOV_MAX + 1];
	struct fixture *f = *state;
	struct vq_chain chain;

	for (unsigned int i = 0; i < ARRAY_LEN(bufs); i++)
		bufs[i] = (struct ring_buf){BUF + i, 1};
	ring_add_indirect(&f->ring, TABLE, bufs, 1, VQ_IOV_MAX - 1);
	assert_int_equal(vq_pop(f->vq, &chain), 1);
	assert_int_equal(chain.in_count, VQ_IOV_MAX - 1);
	ring_add_indirect(&f->ring, TABLE, bufs, 1, VQ_IOV_MAX);
	assert_broken(f, "an indirect table of a wrong length");
}

static void test_indirect_and_direct_too_long(void **state)
{
	struct fixture *f = *state;
	_Atomic uint64_t *table = at(f, TABLE);

	for (uint16_t i = 0; i < VQ_IOV_MAX; i++)
		ring_table_desc(table, i, BUF, 1,
				i + 1 < VQ_IOV_MAX ? VRING_DESC_F_NEXT : 0, i + 1);
	ring_desc(&f->ring, 0, BUF, 1, VRING_DESC_F_NEXT, 1);
	ring_desc(&f->ring, 1, TABLE, 16 * VQ_IOV_MAX, VRING_DESC_F_INDIRECT, 0);
	ring_offer(&f->ring, 0);
	assert_broken(f, "a chain of too many descriptors");
}

static void test_indirect_not_negotiated(void **state)
{
	struct ring_buf buf = {BUF, 1};
	struct fixture f;

	start(&f, SIZE, false, false);
	ring_add_indirect(&f.ring, TABLE, &buf, 1, 0);
	assert_broken(&f, "an indirect descriptor, which was not negotiated");
	vq_destroy(f.vq);
	guest_finish(&f.mem);
}

static void test_indirect_nested(void **state)
{
	struct fixture *f = *state;

	ring_desc(&f->ring, 0, TABLE, 16, VRING_DESC_F_INDIRECT, 0);
	ring_table_desc(at(f, TABLE), 0, TABLE, 16, VRING_DESC_F_INDIRECT, 0);
	ring_offer(&f->ring, 0);
	assert_broken(f, "an indirect descriptor in an indirect table");
}

static void test_indirect_with_next(void **state)
{
	struct fixture *f = *state;

	ring_desc(&f->ring, 0, TABLE, 16, VRING_DESC_F_INDIRECT | VRING_DESC_F_NEXT, 1);
	ring_desc(&f->ring, 1, BUF, 16, 0, 0);
	ring_offer(&f->ring, 0);
	assert_broken(f, "an indirect descriptor with a next one");
}

static void test_indirect_length(void **state)
{
	static const uint32_t bad[] = {0, 8, 15, 17, 24, 16 * (VQ_IOV_MAX + 1), 0xfffffff0,
				       0xffffffff};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct fixture f;

		start(&f, SIZE, false, true);
		ring_desc(&f.ring, 0, TABLE, bad[i], VRING_DESC_F_INDIRECT, 0);
		ring_offer(&f.ring, 0);
		assert_broken(&f, "an indirect table of a wrong length");
		vq_destroy(f.vq);
		guest_finish(&f.mem);
	}
}

static void test_indirect_outside_ram(void **state)
{
	struct fixture *f = *state;

	ring_desc(&f->ring, 0, LOW - 16, 32, VRING_DESC_F_INDIRECT, 0);
	ring_offer(&f->ring, 0);
	assert_broken(f, "an indirect table outside RAM");
}

static void test_indirect_loop(void **state)
{
	struct fixture *f = *state;

	ring_desc(&f->ring, 0, TABLE, 32, VRING_DESC_F_INDIRECT, 0);
	ring_table_desc(at(f, TABLE), 0, BUF, 1, VRING_DESC_F_NEXT, 1);
	ring_table_desc(at(f, TABLE), 1, BUF, 1, VRING_DESC_F_NEXT, 0);
	ring_offer(&f->ring, 0);
	assert_broken(f, "a chain that loops");
}

/* `next` indexes the table the descriptor is in, not the ring. */
static void test_indirect_next_outside(void **state)
{
	struct fixture *f = *state;

	ring_desc(&f->ring, 0, TABLE, 32, VRING_DESC_F_INDIRECT, 0);
	ring_table_desc(at(f, TABLE), 0, BUF, 1, VRING_DESC_F_NEXT, 2);
	ring_offer(&f->ring, 0);
	assert_broken(f, "a next descriptor outside its table");
}

/* --- the driver at the same time --- */

struct driver {
	struct fixture *f;
	atomic_bool stop;
};

/* Rewrites the descriptors while the device reads them, mostly sensibly. */
static void *rewrite(void *arg)
{
	static const struct ring_buf bufs[] = {
		{BUF, 16}, {LOW - 8, 8}, {LOW - 8, 9}, {BUF, 0}, {RING_HIGH_GPA, 4096},
		{BUF, 0xffffffff}, {TABLE, 64},
	};
	struct driver *driver = arg;
	struct ring *ring = &driver->f->ring;
	_Atomic uint64_t *table = at(driver->f, TABLE);

	for (uint32_t i = 1; !atomic_load(&driver->stop); i = i * 1664525 + 1013904223) {
		const struct ring_buf *buf = &bufs[(i >> 8) % ARRAY_LEN(bufs)];
		uint16_t flags = (i >> 16) % 8, next = (i >> 20) % (SIZE + 1);

		ring_desc(ring, (i >> 24) % SIZE, buf->gpa, buf->len, flags, next);
		ring_table_desc(table, (i >> 28) % 4, buf->gpa, buf->len, flags & 3, next);
	}
	return NULL;
}

static void check_iov(struct fixture *f, const struct vq_chain *chain)
{
	uint64_t out_bytes = 0, in_bytes = 0;

	for (unsigned int i = 0; i < chain->out_count + chain->in_count; i++) {
		uint8_t *base = chain->iov[i].iov_base;
		size_t len = chain->iov[i].iov_len;
		struct mem_region *low = &f->mem.regions[0], *high = &f->mem.regions[1];

		assert_true(len);
		assert_true((base >= low->hva && base + len <= low->hva + low->len_bytes) ||
			    (base >= high->hva && base + len <= high->hva + high->len_bytes));
		if (i < chain->out_count)
			out_bytes += len;
		else
			in_bytes += len;
	}
	assert_int_equal(out_bytes, chain->out_bytes);
	assert_int_equal(in_bytes, chain->in_bytes);
}

/* What comes out is inside RAM and consistent, whatever was there when it was looked at. */
static void test_rewritten_meanwhile(void **state)
{
	struct fixture *f = *state;
	struct driver driver = {.f = f};
	struct vq_config config = ring_config(&f->ring);
	struct vq_chain chain;
	unsigned int good = 0, bad = 0;
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, rewrite, &driver), 0);
	for (unsigned int i = 0; i < 200000 && (i < 20000 || !good || !bad); i++) {
		ring_offer(&f->ring, i % SIZE);
		if (vq_pop(f->vq, &chain) == 1) {
			check_iov(f, &chain);
			vq_push(f->vq, chain.head, 0);
			vq_publish(f->vq);
			good++;
			continue;
		}
		bad++;
		vq_destroy(f->vq);
		ring_set_avail(&f->ring, 0);
		assert_int_equal(vq_create(&f->mem, &config, &f->vq), 0);
	}
	atomic_store(&driver.stop, true);
	pthread_join(thread, NULL);
	assert_true(good);
	assert_true(bad);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(loop), TEST(self_reference), TEST(next_outside), TEST(readable_after_writable),
		TEST(zero_length), TEST(outside_ram), TEST(four_gib), TEST(head_outside),
		TEST(head_in_flight), TEST(avail_jumps), TEST(avail_goes_back),
		TEST(batch_is_bounded), TEST(indirect_long), TEST(indirect_and_direct_too_long),
		TEST(indirect_not_negotiated), TEST(indirect_nested), TEST(indirect_with_next),
		TEST(indirect_length), TEST(indirect_outside_ram), TEST(indirect_loop),
		TEST(indirect_next_outside), TEST(rewritten_meanwhile),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
