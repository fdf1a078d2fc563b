/* SPDX-License-Identifier: MIT */
/* Virtqueues: their creation, and chains of drivers that keep the rules. */
#include <errno.h>

#include "queue_fixture.h"

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

/* `next` means nothing without the flag. */
static void test_next_ignored(void **state)
{
	struct fixture *f = *state;
	struct vq_chain chain;

	ring_desc(&f->ring, 0, BUF, 1, 0, 0xffff);
	ring_offer(&f->ring, 0);
	assert_int_equal(vq_pop(f->vq, &chain), 1);
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

/* --- heads and indices --- */

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(create_checks_size), TEST(create_checks_alignment), TEST(create_checks_ram),
		TEST(empty), TEST(chain), TEST(chain_as_long_as_ring), TEST(next_ignored),
		TEST(whole_region), TEST(head_again_after_push), TEST(unpop), TEST(out_of_order),
		TEST(wrap), TEST_EVENT_IDX(wrap), TEST(indirect), TEST(indirect_last),
		TEST(indirect_unaligned),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
