/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <time.h>

#include "ring.h"

#define SIZE 8
#define BUF 0x4000 /* buffers for anybody */
#define TABLE 0x8000 /* indirect tables */
#define LOW KIB(64)

struct fixture {
	struct mem mem;
	struct ring ring;
	struct virtqueue *vq;
};

static void start(struct fixture *f, uint16_t size, bool event_idx, bool indirect)
{
	struct vq_config config;

	guest_init(&f->mem, LOW, KIB(4));
	ring_init(&f->ring, &f->mem, size, 0x1000);
	f->ring.event_idx = event_idx;
	f->ring.indirect = indirect;
	config = ring_config(&f->ring);
	assert_int_equal(vq_create(&f->mem, &config, &f->vq), 0);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	start(f, SIZE, false, true);
	*state = f;
	return 0;
}

static int setup_event_idx(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	start(f, SIZE, true, true);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	vq_destroy(f->vq);
	guest_finish(&f->mem);
	free(f);
	return 0;
}

static void *at(struct fixture *f, uint64_t gpa)
{
	return mem_at(&f->mem, gpa, 1);
}

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

/* --- creation --- */

static int create(struct fixture *f, struct vq_config config)
{
	struct virtqueue *vq = NULL;
	int r = vq_create(&f->mem, &config, &vq);

	vq_destroy(vq);
	return r;
}

static void test_create_checks_size(void **state)
{
	static const uint16_t bad[] = {0, 3, 9, 1023, VQ_SIZE_MAX * 2, 0xffff};
	struct fixture *f = *state;
	struct vq_config config = ring_config(&f->ring);

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		config.size = bad[i];
		assert_int_equal(create(f, config), -EINVAL);
	}
	for (config.size = 1; config.size <= VQ_SIZE_MAX; config.size *= 2) {
		config.desc_gpa = 0;
		config.avail_gpa = 0x4000;
		config.used_gpa = 0x8000;
		assert_int_equal(create(f, config), 0);
	}
}

static void test_create_checks_alignment(void **state)
{
	struct fixture *f = *state;
	struct vq_config config;

	config = ring_config(&f->ring);
	config.desc_gpa += 8;
	assert_int_equal(create(f, config), -EINVAL);
	config = ring_config(&f->ring);
	config.avail_gpa += 1;
	assert_int_equal(create(f, config), -EINVAL);
	config = ring_config(&f->ring);
	config.used_gpa += 2;
	assert_int_equal(create(f, config), -EINVAL);
}

/* Each part fits exactly at the end of a region, and nowhere behind. */
static void test_create_checks_ram(void **state)
{
	struct fixture *f = *state;
	struct vq_config config;

	config = ring_config(&f->ring);
	config.desc_gpa = LOW - 16 * SIZE;
	assert_int_equal(create(f, config), 0);
	config.desc_gpa += 16;
	assert_int_equal(create(f, config), -EFAULT);
	config = ring_config(&f->ring);
	config.avail_gpa = LOW - 6 - 2 * SIZE;
	assert_int_equal(create(f, config), 0);
	config.avail_gpa += 2;
	assert_int_equal(create(f, config), -EFAULT);
	config = ring_config(&f->ring);
	config.used_gpa = LOW - 8 - 8 * SIZE;
	assert_int_equal(create(f, config), 0);
	config.used_gpa += 4;
	assert_int_equal(create(f, config), -EFAULT);
	config.used_gpa = UINT64_MAX - 3;
	assert_int_equal(create(f, config), -EFAULT);
	config.used_gpa = RING_HIGH_GPA;
	assert_int_equal(create(f, config), 0);
}

/* --- chains --- */

static void test_empty(void **state)
{
	struct fixture *f = *state;
	struct vq_chain chain;

	assert_int_equal(vq_pop(f->vq, &chain), 0);
	assert_false(vq_publish(f->vq));
	assert_null(vq_error(f->vq));
	assert_int_equal(vq_size(f->vq), SIZE);
}

static void test_chain(void **state)
{
	struct ring_buf bufs[] = {{BUF, 16}, {BUF + 0x100, 1}, {RING_HIGH_GPA, 4096}, {BUF, 3}};
	struct fixture *f = *state;
	struct ring_elem elem;
	struct vq_chain chain;
	uint16_t head;

	ring_take_desc(&f->ring); /* so that the head is not 0 */
	head = ring_add(&f->ring, bufs, 2, 2);
	assert_int_equal(vq_pop(f->vq, &chain), 1);
	assert_int_equal(chain.head, head);
	assert_int_equal(chain.out_count, 2);
	assert_int_equal(chain.in_count, 2);
	assert_int_equal(chain.out_bytes, 17);
	assert_int_equal(chain.in_bytes, 4099);
	for (unsigned int i = 0; i < 4; i++) {
		assert_ptr_equal(chain.iov[i].iov_base, at(f, bufs[i].gpa));
		assert_int_equal(chain.iov[i].iov_len, bufs[i].len);
	}
	assert_int_equal(vq_pop(f->vq, &chain), 0);
	vq_push(f->vq, head, 4099);
	assert_false(ring_used(&f->ring, &elem));
	assert_true(vq_publish(f->vq));
	assert_true(ring_used(&f->ring, &elem));
	assert_int_equal(elem.id, head);
	assert_int_equal(elem.len, 4099);
	assert_false(ring_used(&f->ring, &elem));
}

static void test_chain_as_long_as_ring(void **state)
{
	struct fixture *f = *state;
	struct ring_buf bufs[SIZE];
	struct vq_chain chain;

	for (unsigned int i = 0; i < SIZE; i++)
		bufs[i] = (struct ring_buf){BUF + i, 1};
	ring_add(&f->ring, bufs, 3, SIZE - 3);
	assert_int_equal(vq_pop(f->vq, &chain), 1);
	assert_int_equal(chain.out_count + chain.in_count, SIZE);
}

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

/* `next` means nothing without the flag. */
static void test_next_ignored(void **state)
{
	struct fixture *f = *state;
	struct vq_chain chain;

	ring_desc(&f->ring, 0, BUF, 1, 0, 0xffff);
	ring_offer(&f->ring, 0);
	assert_int_equal(vq_pop(f->vq, &chain), 1);
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

static void test_whole_region(void **state)
{
	struct ring_buf bufs[] = {{0, LOW}, {RING_HIGH_GPA, KIB(4)}};
	struct fixture *f = *state;
	struct vq_chain chain;

	ring_add(&f->ring, bufs, 1, 1);
	assert_int_equal(vq_pop(f->vq, &chain), 1);
	assert_int_equal(chain.out_bytes, LOW);
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

static void test_head_again_after_push(void **state)
{
	struct fixture *f = *state;
	struct vq_chain chain;

	ring_desc(&f->ring, 3, BUF, 1, 0, 0);
	for (unsigned int i = 0; i < 3 * SIZE; i++) {
		ring_offer(&f->ring, 3);
		assert_int_equal(vq_pop(f->vq, &chain), 1);
		vq_push(f->vq, 3, 0);
		vq_publish(f->vq);
	}
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

static void test_unpop(void **state)
{
	struct ring_buf buf = {BUF, 1};
	struct fixture *f = *state;
	struct vq_chain chain;
	uint16_t first = ring_add(&f->ring, &buf, 0, 1), second = ring_add(&f->ring, &buf, 0, 1);

	assert_int_equal(vq_pop(f->vq, &chain), 1);
	vq_unpop(f->vq);
	assert_int_equal(vq_pop(f->vq, &chain), 1);
	assert_int_equal(chain.head, first);
	assert_int_equal(vq_pop(f->vq, &chain), 1);
	assert_int_equal(chain.head, second);
	vq_unpop(f->vq);
	assert_true(vq_arm(f->vq)); /* it is there still */
	assert_int_equal(vq_pop(f->vq, &chain), 1);
	assert_int_equal(chain.head, second);
	assert_int_equal(vq_pop(f->vq, &chain), 0);
}

/* Answers in another order than the requests', published at once. */
static void test_out_of_order(void **state)
{
	struct ring_buf buf = {BUF, 1};
	struct fixture *f = *state;
	struct ring_elem elem;
	struct vq_chain chain;

	for (unsigned int i = 0; i < 3; i++) {
		ring_add(&f->ring, &buf, 0, 1);
		assert_int_equal(vq_pop(f->vq, &chain), 1);
	}
	vq_push(f->vq, 2, 22);
	vq_push(f->vq, 0, 20);
	assert_int_equal(ring_used_idx(&f->ring), 0);
	vq_publish(f->vq);
	assert_int_equal(ring_used_idx(&f->ring), 2);
	assert_true(ring_used(&f->ring, &elem));
	assert_int_equal(elem.id, 2);
	assert_int_equal(elem.len, 22);
	assert_true(ring_used(&f->ring, &elem));
	assert_int_equal(elem.id, 0);
}

/* All indices pass 65535 several times, with every number of chains in flight. */
static void wrap_around(struct fixture *f)
{
	struct ring_buf bufs[] = {{BUF, 16}, {BUF + 64, 8}};
	struct ring_elem elem;
	struct vq_chain chain;
	unsigned int interrupts = 0, batches = 0;

	for (unsigned int done = 0; done < 3 * 65536; batches++) {
		unsigned int batch = done % (SIZE / 2) + 1;

		for (unsigned int i = 0; i < batch; i++)
			ring_add(&f->ring, bufs, 1, 1);
		assert_true(ring_wants_kick(&f->ring));
		vq_disarm(f->vq);
		for (unsigned int i = 0; i < batch; i++) {
			assert_int_equal(vq_pop(f->vq, &chain), 1);
			vq_push(f->vq, chain.head, done + i);
		}
		assert_int_equal(vq_pop(f->vq, &chain), 0);
		assert_false(vq_arm(f->vq));
		interrupts += vq_publish(f->vq);
		for (unsigned int i = 0; i < batch; i++) {
			assert_true(ring_used(&f->ring, &elem));
			assert_int_equal(elem.len, done + i);
		}
		assert_false(ring_used(&f->ring, &elem));
		ring_set_used_event(&f->ring, f->ring.used_next);
		done += batch;
	}
	assert_int_equal(interrupts, batches);
}

static void test_wrap(void **state)
{
	wrap_around(*state);
}

/* --- indirect --- */

static void test_indirect(void **state)
{
	struct ring_buf bufs[] = {{BUF, 16}, {BUF + 16, 512}, {BUF + 1024, 1}};
	struct fixture *f = *state;
	struct vq_chain chain;

	ring_add_indirect(&f->ring, TABLE, bufs, 1, 2);
	assert_int_equal(vq_pop(f->vq, &chain), 1);
	assert_int_equal(chain.out_count, 1);
	assert_int_equal(chain.in_count, 2);
	assert_ptr_equal(chain.iov[2].iov_base, at(f, BUF + 1024));
}

/* 2.7.5.3.2: some direct descriptors, then an indirect one, whose WRITE flag means nothing. */
static void test_indirect_last(void **state)
{
	struct fixture *f = *state;
	_Atomic uint64_t *table = at(f, TABLE);
	struct vq_chain chain;

	ring_desc(&f->ring, 0, BUF, 7, VRING_DESC_F_NEXT, 1);
	ring_desc(&f->ring, 1, TABLE, 32, VRING_DESC_F_INDIRECT | VRING_DESC_F_WRITE, 9);
	ring_table_desc(table, 0, BUF, 8, VRING_DESC_F_NEXT, 1);
	ring_table_desc(table, 1, BUF, 9, VRING_DESC_F_WRITE, 0);
	ring_offer(&f->ring, 0);
	assert_int_equal(vq_pop(f->vq, &chain), 1);
	assert_int_equal(chain.out_count, 2);
	assert_int_equal(chain.out_bytes, 15);
	assert_int_equal(chain.in_bytes, 9);
}

/* Nothing says that a table is aligned. */
static void test_indirect_unaligned(void **state)
{
	struct vring_desc descs[2] = {
		{BUF, 10, VRING_DESC_F_NEXT, 1},
		{BUF + 1, 20, VRING_DESC_F_WRITE, 0},
	};
	struct fixture *f = *state;
	struct vq_chain chain;

	for (uint16_t shift = 1; shift < 8; shift++) {
		memcpy((uint8_t *)at(f, TABLE) + shift, descs, sizeof(descs));
		ring_desc(&f->ring, shift, TABLE + shift, 32, VRING_DESC_F_INDIRECT, 0);
		ring_offer(&f->ring, shift);
		assert_int_equal(vq_pop(f->vq, &chain), 1);
		assert_int_equal(chain.out_bytes, 10);
		assert_int_equal(chain.in_bytes, 20);
	}
}

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

/* --- notification --- */

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

#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, setup, teardown)
#define TEST_EVENT_IDX(name) \
	cmocka_unit_test_setup_teardown(test_##name, setup_event_idx, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(create_checks_size), TEST(create_checks_alignment), TEST(create_checks_ram),
		TEST(empty), TEST(chain), TEST(chain_as_long_as_ring), TEST(loop),
		TEST(self_reference), TEST(next_outside), TEST(next_ignored),
		TEST(readable_after_writable), TEST(zero_length), TEST(outside_ram),
		TEST(whole_region), TEST(four_gib), TEST(head_outside), TEST(head_in_flight),
		TEST(head_again_after_push), TEST(avail_jumps), TEST(avail_goes_back),
		TEST(batch_is_bounded), TEST(unpop), TEST(out_of_order), TEST(wrap),
		TEST_EVENT_IDX(wrap), TEST(indirect), TEST(indirect_last),
		TEST(indirect_unaligned), TEST(indirect_long),
		TEST(indirect_and_direct_too_long), TEST(indirect_not_negotiated),
		TEST(indirect_nested), TEST(indirect_with_next), TEST(indirect_length),
		TEST(indirect_outside_ram), TEST(indirect_loop), TEST(indirect_next_outside),
		TEST(no_interrupt), TEST(no_notify), TEST_EVENT_IDX(event_idx_interrupt),
		TEST_EVENT_IDX(event_idx_interrupt_wraps), TEST_EVENT_IDX(event_idx_kick),
		TEST(rewritten_meanwhile), TEST(two_threads), TEST_EVENT_IDX(two_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
