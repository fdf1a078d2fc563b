/* SPDX-License-Identifier: MIT */
/* virtio-blk: discard and write-zeroes. */
#include <errno.h>

#include "blk_driver.h"

static void put_range(struct fixture *f, unsigned int index, uint64_t sector, uint32_t sectors,
		      uint32_t flags)
{
	struct virtio_blk_discard_write_zeroes range = {sector, sectors, flags};

	memcpy(at(f, RANGES + 16 * (uint64_t)index), &range, sizeof(range));
}

static uint8_t ranges(struct fixture *f, uint32_t type, unsigned int count)
{
	struct ring_buf data = {RANGES, 16 * count};

	f->blk.log_count = 0;
	return request(f, type, 0, &data, 1, 0);
}

static void test_discard(void **state)
{
	struct fixture *f = *state;

	put_range(f, 0, 16, 8, 0);
	assert_int_equal(ranges(f, VIRTIO_BLK_T_DISCARD, 1), VIRTIO_BLK_S_OK);
	assert_int_equal(f->written, 1);
	assert_int_equal(f->blk.log_count, 1);
	assert_int_equal(f->blk.log[0].op, BLK_DISCARD);
	assert_int_equal(f->blk.log[0].offset, 16 * 512);
	assert_int_equal(f->blk.log[0].len, 8 * 512);
}

static void test_ranges_one_by_one(void **state)
{
	struct fixture *f = *state;

	for (unsigned int i = 0; i < 16; i++)
		put_range(f, i, 100 * i, i % 5, 0);
	assert_int_equal(ranges(f, VIRTIO_BLK_T_WRITE_ZEROES, 16), VIRTIO_BLK_S_OK);
	assert_int_equal(f->blk.log_count, 12); /* without the four empty ones */
	assert_int_equal(f->blk.log[11].offset, 1400 * 512);
	assert_int_equal(f->blk.log[11].len, 4 * 512);
	f->blk.error = -EIO;
	f->blk.error_op = BLK_WRITE_ZEROES;
	assert_int_equal(ranges(f, VIRTIO_BLK_T_WRITE_ZEROES, 16), VIRTIO_BLK_S_IOERR);
	assert_int_equal(f->blk.log_count, 1);
}

static void test_ranges_empty(void **state)
{
	struct fixture *f = *state;

	put_range(f, 0, 0, 0, 0);
	put_range(f, 1, SECTORS, 0, 0);
	assert_int_equal(ranges(f, VIRTIO_BLK_T_DISCARD, 2), VIRTIO_BLK_S_OK);
	assert_int_equal(f->blk.log_count, 0);
}

static void test_range_flags(void **state)
{
	struct fixture *f = *state;

	put_range(f, 0, 0, 1, VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP);
	assert_int_equal(ranges(f, VIRTIO_BLK_T_DISCARD, 1), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(ranges(f, VIRTIO_BLK_T_WRITE_ZEROES, 1), VIRTIO_BLK_S_OK);
	assert_true(f->blk.log[0].unmap);
	put_range(f, 0, 0, 1, 0);
	assert_int_equal(ranges(f, VIRTIO_BLK_T_WRITE_ZEROES, 1), VIRTIO_BLK_S_OK);
	assert_false(f->blk.log[0].unmap);
	for (unsigned int bit = 1; bit < 32; bit++) {
		put_range(f, 1, 0, 1, 1u << bit);
		assert_int_equal(ranges(f, VIRTIO_BLK_T_DISCARD, 2), VIRTIO_BLK_S_UNSUPP);
		assert_int_equal(ranges(f, VIRTIO_BLK_T_WRITE_ZEROES, 2), VIRTIO_BLK_S_UNSUPP);
		assert_int_equal(f->blk.log_count, 0);
	}
}

static void test_ranges_outside(void **state)
{
	static const struct {
		uint64_t sector;
		uint32_t sectors;
	} bad[] = {
		{SECTORS, 1}, {SECTORS - 1, 2}, {UINT64_MAX, 1}, {UINT64_MAX, UINT32_MAX},
		{0, UINT32_MAX}, {0, SECTORS + 1}, {BIT(55), 1},
	};
	struct fixture *f = *state;

	put_range(f, 0, 0, 1, 0);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		put_range(f, 1, bad[i].sector, bad[i].sectors, 0);
		assert_int_equal(ranges(f, VIRTIO_BLK_T_DISCARD, 2), VIRTIO_BLK_S_IOERR);
		assert_int_equal(ranges(f, VIRTIO_BLK_T_WRITE_ZEROES, 2), VIRTIO_BLK_S_IOERR);
		assert_int_equal(f->blk.log_count, 0);
	}
}

static void test_range_limit(void **state)
{
	struct fixture *f = *state;

	f->blk.info.size_bytes = GIB(4); /* the disk in RAM is smaller: nothing completes */
	put_range(f, 0, 0, (1u << 21) + 1, 0);
	assert_int_equal(ranges(f, VIRTIO_BLK_T_DISCARD, 1), VIRTIO_BLK_S_IOERR);
	f->blk.info.size_bytes = DISK;
}

static void test_ranges_payload(void **state)
{
	static const uint32_t bad[] = {1, 15, 17, 31, 16 * 17, 4096};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct ring_buf data = {RANGES, bad[i]};

		assert_int_equal(request(f, VIRTIO_BLK_T_DISCARD, 0, &data, 1, 0),
				 VIRTIO_BLK_S_IOERR);
	}
	assert_int_equal(request(f, VIRTIO_BLK_T_DISCARD, 0, NULL, 0, 0), VIRTIO_BLK_S_IOERR);
	assert_int_equal(f->blk.log_count, 0);
}

static void test_ranges_split(void **state)
{
	struct ring_buf data[32];
	struct fixture *f = *state;

	put_range(f, 0, 3, 4, 0);
	put_range(f, 1, 5, 6, 0);
	for (unsigned int i = 0; i < 32; i++)
		data[i] = (struct ring_buf){RANGES + i, 1};
	assert_int_equal(request(f, VIRTIO_BLK_T_DISCARD, 0, data, 32, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(f->blk.log_count, 2);
	assert_int_equal(f->blk.log[1].offset, 5 * 512);
}

static void test_ranges_not_negotiated(void **state)
{
	struct fixture *f = *state;

	reset(f);
	start(f, ~(BIT(VIRTIO_BLK_F_DISCARD) | BIT(VIRTIO_BLK_F_WRITE_ZEROES)));
	put_range(f, 0, 0, 1, 0);
	assert_int_equal(ranges(f, VIRTIO_BLK_T_DISCARD, 1), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(ranges(f, VIRTIO_BLK_T_WRITE_ZEROES, 1), VIRTIO_BLK_S_UNSUPP);
}

static void test_ranges_writethrough(void **state)
{
	struct fixture *f = *state;

	reset(f);
	start(f, ~BIT(VIRTIO_BLK_F_FLUSH));
	put_range(f, 0, 0, 1, 0);
	put_range(f, 1, 8, 1, 0);
	assert_int_equal(ranges(f, VIRTIO_BLK_T_WRITE_ZEROES, 2), VIRTIO_BLK_S_OK);
	assert_int_equal(f->blk.log_count, 3);
	assert_int_equal(f->blk.log[2].op, BLK_FLUSH);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(discard), TEST(ranges_one_by_one), TEST(ranges_empty), TEST(range_flags),
		TEST(ranges_outside), TEST(range_limit), TEST(ranges_payload), TEST(ranges_split),
		TEST(ranges_not_negotiated), TEST(ranges_writethrough),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
