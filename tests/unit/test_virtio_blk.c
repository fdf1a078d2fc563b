/* SPDX-License-Identifier: MIT */
/* virtio-blk: its configuration, reads, writes and flushes. */
#include <errno.h>

#include "blk_driver.h"

#define SEG_MAX 254

static int setup_readonly(void **state)
{
	struct fixture *f = create();

	f->blk.info.readonly = true;
	create_device(f);
	start(f, ALL);
	*state = f;
	return 0;
}

/* --- configuration --- */

static void test_features(void **state)
{
	struct fixture *f = *state;
	uint64_t features = f->dev->offered;

	assert_true(features & BIT(VIRTIO_F_VERSION_1));
	assert_true(features & BIT(VIRTIO_BLK_F_FLUSH));
	assert_true(features & BIT(VIRTIO_BLK_F_DISCARD));
	assert_true(features & BIT(VIRTIO_BLK_F_WRITE_ZEROES));
	assert_false(features & BIT(VIRTIO_BLK_F_RO));
	/* Legacy bits, and the bits of other devices. */
	assert_false(features & (BIT(0) | BIT(3) | BIT(7) | BIT(8)));
	/* No limit to a segment, no geometry, nothing of wear, secure erasing or zones. */
	assert_false(features & (BIT(VIRTIO_BLK_F_SIZE_MAX) | BIT(VIRTIO_BLK_F_GEOMETRY) |
				 BIT(15) | BIT(16) | BIT(17)));
}

static void test_features_readonly(void **state)
{
	struct fixture *f = *state;

	assert_true(f->dev->offered & BIT(VIRTIO_BLK_F_RO));
	assert_false(f->dev->offered & BIT(VIRTIO_BLK_F_DISCARD));
	assert_false(f->dev->offered & BIT(VIRTIO_BLK_F_WRITE_ZEROES));
}

static void test_config(void **state)
{
	struct virtio_blk_config config = {0};
	struct fixture *f = *state;

	virtio_config_read(f->dev, 0, &config, sizeof(config));
	assert_int_equal(config.capacity, SECTORS);
	assert_int_equal(config.seg_max, SEG_MAX);
	assert_int_equal(config.blk_size, 512);
	assert_int_equal(config.size_max, 0);
	assert_int_equal(config.physical_block_exp, 3);
	assert_int_equal(config.alignment_offset, 0);
	assert_int_equal(config.min_io_size, 8);
	assert_int_equal(config.opt_io_size, 128);
	assert_int_equal(config.wce, 1);
	assert_int_equal(config.max_discard_sectors, 1 << 21);
	assert_int_equal(config.max_write_zeroes_sectors, 1 << 21);
	assert_int_equal(config.max_write_zeroes_seg, 16);
	assert_int_equal(config.unused, 0); /* 5.2.5.2 */
	assert_int_equal(config.unused1[0] | config.unused1[1] | config.unused1[2], 0);
	assert_int_equal(config.max_discard_seg, 16);
	assert_int_equal(config.discard_sector_alignment, 128);
	assert_int_equal(config.write_zeroes_may_unmap, 1);
}

static void test_config_write(void **state)
{
	size_t wce = offsetof(struct virtio_blk_config, wce);
	struct virtio_blk_config before = {0}, after = {0};
	struct fixture *f = *state;
	uint8_t ones[80];

	memset(ones, 0xff, sizeof(ones));
	virtio_config_read(f->dev, 0, &before, sizeof(before));
	virtio_config_write(f->dev, 0, ones, (unsigned int)wce);
	virtio_config_write(f->dev, wce + 1, ones, sizeof(ones));
	virtio_config_write(f->dev, UINT64_MAX, ones, 8);
	virtio_config_read(f->dev, 0, &after, sizeof(after));
	assert_memory_equal(&before, &after, sizeof(before));
	memset(ones, 0, sizeof(ones));
	virtio_config_write(f->dev, wce - 2, ones, 4);
	virtio_config_read(f->dev, 0, &after, sizeof(after));
	before.wce = 0;
	assert_memory_equal(&before, &after, sizeof(before));
}

/* 5.2.5.2: `writeback` is 0 for a driver that did not take FLUSH, and stays what it was for
 * one that did not take CONFIG_WCE. */
static void test_config_wce_needs_features(void **state)
{
	size_t wce = offsetof(struct virtio_blk_config, wce);
	struct fixture *f = *state;
	uint8_t value = 0;

	reset(f);
	start(f, ~BIT(VIRTIO_BLK_F_FLUSH));
	virtio_config_read(f->dev, wce, &value, 1);
	assert_int_equal(value, 0);
	reset(f);
	start(f, ~BIT(VIRTIO_BLK_F_CONFIG_WCE));
	value = 0;
	virtio_config_write(f->dev, wce, &value, 1);
	virtio_config_read(f->dev, wce, &value, 1);
	assert_int_equal(value, 1);
}

/* --- reading and writing --- */

static void test_read(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(read_sectors(f, 5, 4096), VIRTIO_BLK_S_OK);
	assert_int_equal(f->written, 4097);
	assert_memory_equal(at(f, DATA), f->blk.disk + 5 * 512, 4096);
	assert_int_equal(f->irqs, 1);
}

static void test_write(void **state)
{
	struct fixture *f = *state;

	memset(at(f, DATA), 0x77, 1024);
	assert_int_equal(write_sectors(f, 7, 1024), VIRTIO_BLK_S_OK);
	assert_int_equal(f->written, 1);
	assert_memory_equal(at(f, DATA), f->blk.disk + 7 * 512, 1024);
	assert_int_equal(f->blk.disk[7 * 512 - 1], (uint8_t)(6 + 7 * 512 - 1));
	assert_int_equal(f->blk.log_count, 1); /* writeback: no flush */
}

/* 2.7.4.3: every way to cut header, data and status into descriptors of one length. */
static void test_framing_read(void **state)
{
	static const uint32_t pieces[] = {1, 2, 3, 5, 15, 16, 17, 100, 512, 513, 600};
	struct fixture *f = *state;

	for (size_t p = 0; p < ARRAY_LEN(pieces); p++) {
		struct ring_buf bufs[1100];
		unsigned int out_count = 0, in_count = 0;

		/* The status byte is right behind the data, in the last piece or alone. */
		for (uint32_t i = 0; i < 16; i += pieces[p])
			bufs[out_count++] =
				(struct ring_buf){HEADER + i, MIN(pieces[p], 16 - i)};
		for (uint32_t i = 0; i < 513; i += pieces[p])
			bufs[out_count + in_count++] =
				(struct ring_buf){DATA + i, MIN(pieces[p], 513 - i)};
		if (in_count > SEG_MAX)
			continue;
		put_header(f, HEADER, VIRTIO_BLK_T_IN, p);
		memset(at(f, DATA), UNTOUCHED, 600);
		ring_add_indirect(&f->ring, TABLES, bufs, out_count, in_count);
		run_one(f);
		assert_int_equal(*at(f, DATA + 512), VIRTIO_BLK_S_OK);
		assert_memory_equal(at(f, DATA), f->blk.disk + p * 512, 512);
		assert_int_equal(f->written, 513);
		assert_int_equal(*at(f, DATA + 513), UNTOUCHED);
	}
}

static void test_framing_write(void **state)
{
	struct fixture *f = *state;

	/* One readable descriptor of header and data, then cut at each place. */
	for (uint32_t cut = 1; cut <= 16 + 1024; cut++) {
		struct ring_buf bufs[] = {
			{DATA, cut}, {DATA + cut, 16 + 1024 - cut}, {STATUS, 1},
		};
		bool whole = cut == 16 + 1024;

		if (whole)
			bufs[1] = bufs[2];
		put_header(f, DATA, VIRTIO_BLK_T_OUT, 9);
		memset(at(f, DATA + 16), (int)cut, 1024);
		ring_add(&f->ring, bufs, whole ? 1 : 2, 1);
		assert_int_equal(run_one(f), VIRTIO_BLK_S_OK);
		assert_int_equal(f->written, 1);
		assert_memory_equal(at(f, DATA + 16), f->blk.disk + 9 * 512, 1024);
	}
}

static void test_last_sector(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(read_sectors(f, SECTORS - 1, 512), VIRTIO_BLK_S_OK);
	assert_int_equal(read_sectors(f, 0, DISK / 2), VIRTIO_BLK_S_OK);
}

static void test_segments(void **state)
{
	static const unsigned int good[] = {1, 15, 16, 17, SEG_MAX - 1, SEG_MAX};
	struct ring_buf bufs[SEG_MAX + 1];
	struct fixture *f = *state;

	for (unsigned int i = 0; i <= SEG_MAX; i++)
		bufs[i] = (struct ring_buf){DATA + 1024 * i, 512};
	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		unsigned int last = good[i] - 1;

		assert_int_equal(request(f, VIRTIO_BLK_T_IN, 3, bufs, 0, good[i]),
				 VIRTIO_BLK_S_OK);
		assert_int_equal(f->written, good[i] * 512 + 1);
		assert_memory_equal(at(f, bufs[last].gpa), f->blk.disk + (3 + last) * 512, 512);
	}
	f->blk.log_count = 0;
	assert_int_equal(request(f, VIRTIO_BLK_T_IN, 3, bufs, 0, SEG_MAX + 1),
			 VIRTIO_BLK_S_IOERR);
	assert_int_equal(f->blk.log_count, 0);
}

/* Every head in flight at once, each with a long list, several times: none is mixed up. */
static void test_all_heads(void **state)
{
	struct fixture *f = *state;
	struct ring_elem elem = {0};

	for (unsigned int round = 0; round < 3; round++) {
		for (unsigned int i = 0; i < SIZE; i++) {
			struct ring_buf bufs[33] = {{HEADER + 16 * i, 16}};

			for (unsigned int k = 0; k < 32; k++)
				bufs[k + 1] = (struct ring_buf){DATA + 512 * i + 16 * k, 16};
			bufs[32].len = 17; /* the next one's first byte, written first */
			put_header(f, HEADER + 16 * i, VIRTIO_BLK_T_IN, (i * 7 + round) % SECTORS);
			ring_add_indirect(&f->ring, TABLES + 1024 * (uint64_t)i, bufs, 1, 32);
		}
		virtio_kick(f->dev, 0);
		fake_loop_turn(&f->loop);
		assert_int_equal(f->blk.pending_count, SIZE);
		while (f->blk.pending_count)
			fake_blk_complete(&f->blk, f->blk.pending_count * 5 / 7);
		fake_loop_turn(&f->loop);
		for (unsigned int i = 0; i < SIZE; i++) {
			assert_true(ring_used(&f->ring, &elem));
			assert_int_equal(elem.len, 513);
		}
		/* All but the byte that the status before it may have hit. */
		for (unsigned int i = 0; i < SIZE; i++)
			assert_memory_equal(at(f, DATA + 512 * i + 1),
					    f->blk.disk + (i * 7 + round) % SECTORS * 512 + 1, 511);
	}
	assert_int_equal(f->irqs, 3); /* one for each batch */
}

static void test_readonly(void **state)
{
	struct ring_buf ranges = {RANGES, 16};
	struct fixture *f = *state;

	assert_int_equal(write_sectors(f, 0, 512), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(f, VIRTIO_BLK_T_DISCARD, 0, &ranges, 1, 0),
			 VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(f->blk.log_count, 0);
	assert_int_equal(read_sectors(f, 0, 512), VIRTIO_BLK_S_OK);
	assert_int_equal(request(f, VIRTIO_BLK_T_FLUSH, 0, NULL, 0, 0), VIRTIO_BLK_S_OK);
}

static void test_host_errors(void **state)
{
	struct fixture *f = *state;

	f->blk.error = -EIO;
	f->blk.error_op = BLK_READ;
	assert_int_equal(read_sectors(f, 0, 512), VIRTIO_BLK_S_IOERR);
	assert_int_equal(f->written, 0);
	f->blk.error = -ENOSPC;
	f->blk.error_op = BLK_WRITE;
	assert_int_equal(write_sectors(f, 0, 512), VIRTIO_BLK_S_IOERR);
	f->blk.error = -ENOTSUP;
	assert_int_equal(write_sectors(f, 0, 512), VIRTIO_BLK_S_UNSUPP);
	f->blk.error = 0;
	assert_int_equal(write_sectors(f, 0, 512), VIRTIO_BLK_S_OK);
}

static void test_get_id(void **state)
{
	static const char id[20] = "serial-number";
	static const struct {
		uint32_t room, filled, written;
	} cases[] = {{20, 20, 21}, {64, 20, 20}, {5, 5, 6}};
	struct ring_buf split[] = {{DATA, 3}, {DATA + 3, 17}};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct ring_buf data = {DATA, cases[i].room};

		memset(at(f, DATA), UNTOUCHED, 64);
		assert_int_equal(request(f, VIRTIO_BLK_T_GET_ID, 0, &data, 0, 1),
				 VIRTIO_BLK_S_OK);
		assert_int_equal(f->written, cases[i].written);
		assert_memory_equal(at(f, DATA), id, cases[i].filled);
		assert_int_equal(*at(f, DATA + cases[i].filled), UNTOUCHED);
	}
	memset(at(f, DATA), UNTOUCHED, 64);
	assert_int_equal(request(f, VIRTIO_BLK_T_GET_ID, 0, split, 0, 2), VIRTIO_BLK_S_OK);
	assert_memory_equal(at(f, DATA), id, 20);
	assert_int_equal(request(f, VIRTIO_BLK_T_GET_ID, 0, NULL, 0, 0), VIRTIO_BLK_S_IOERR);
}

/* --- caching --- */

static void test_flush(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(request(f, VIRTIO_BLK_T_FLUSH, 0, NULL, 0, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(f->written, 1);
	assert_int_equal(f->blk.log_count, 1);
	assert_int_equal(f->blk.log[0].op, BLK_FLUSH);
	f->blk.error = -EIO;
	f->blk.error_op = BLK_FLUSH;
	assert_int_equal(request(f, VIRTIO_BLK_T_FLUSH, 0, NULL, 0, 0), VIRTIO_BLK_S_IOERR);
}

/* A write is answered after the flush that follows it. */
static void assert_writethrough(struct fixture *f)
{
	struct ring_elem elem = {0};

	f->blk.log_count = 0;
	assert_int_equal(write_sectors(f, 0, 512), VIRTIO_BLK_S_OK);
	assert_int_equal(f->blk.log_count, 2);
	assert_int_equal(f->blk.log[1].op, BLK_FLUSH);
	assert_int_equal(read_sectors(f, 0, 512), VIRTIO_BLK_S_OK);
	assert_int_equal(f->blk.log_count, 3);

	put_header(f, HEADER, VIRTIO_BLK_T_OUT, 0);
	ring_add(&f->ring, (struct ring_buf[]){{HEADER, 16}, {DATA, 512}, {STATUS, 1}}, 2, 1);
	virtio_kick(f->dev, 0);
	fake_loop_turn(&f->loop);
	fake_blk_complete(&f->blk, 0);
	fake_loop_turn(&f->loop);
	assert_false(ring_used(&f->ring, &elem));
	assert_int_equal(f->blk.pending_count, 1);
	fake_blk_complete(&f->blk, 0);
	fake_loop_turn(&f->loop);
	assert_true(ring_used(&f->ring, &elem));

	/* No flush after a write that failed; no success after a flush that failed. */
	f->blk.log_count = 0;
	f->blk.error = -EIO;
	f->blk.error_op = BLK_WRITE;
	assert_int_equal(write_sectors(f, 0, 512), VIRTIO_BLK_S_IOERR);
	assert_int_equal(f->blk.log_count, 1);
	f->blk.error_op = BLK_FLUSH;
	assert_int_equal(write_sectors(f, 0, 512), VIRTIO_BLK_S_IOERR);
	f->blk.error = 0;
}

static void test_writethrough_without_flush(void **state)
{
	struct fixture *f = *state;

	reset(f);
	start(f, ~(BIT(VIRTIO_BLK_F_FLUSH) | BIT(VIRTIO_BLK_F_CONFIG_WCE)));
	assert_writethrough(f);
	reset(f);
	start(f, ~BIT(VIRTIO_BLK_F_FLUSH));
	assert_writethrough(f);
}

static void test_writethrough_by_config(void **state)
{
	size_t wce = offsetof(struct virtio_blk_config, wce);
	struct fixture *f = *state;
	uint8_t value = 0;

	virtio_config_write(f->dev, wce, &value, 1);
	assert_writethrough(f);
	value = 1;
	virtio_config_write(f->dev, wce, &value, 1);
	f->blk.log_count = 0;
	assert_int_equal(write_sectors(f, 0, 512), VIRTIO_BLK_S_OK);
	assert_int_equal(f->blk.log_count, 1);
	/* What one driver set does not outlast the reset. */
	value = 0;
	virtio_config_write(f->dev, wce, &value, 1);
	reset(f);
	start(f, ALL);
	f->blk.log_count = 0;
	assert_int_equal(write_sectors(f, 0, 512), VIRTIO_BLK_S_OK);
	assert_int_equal(f->blk.log_count, 1);
}

/* A driver that never got to DRIVER_OK leaves no mode behind either. */
static void test_writethrough_before_driver_ok(void **state)
{
	size_t wce = offsetof(struct virtio_blk_config, wce);
	struct fixture *f = *state;
	uint8_t value = 0;

	reset(f);
	virtio_set_status(f->dev, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
	virtio_set_driver_features(f->dev, 0, (uint32_t)f->dev->offered);
	virtio_set_driver_features(f->dev, 1, 1);
	virtio_set_status(f->dev, VIRTIO_CONFIG_S_FEATURES_OK);
	virtio_config_write(f->dev, wce, &value, 1);
	virtio_set_status(f->dev, 0);
	start(f, ALL);
	virtio_config_read(f->dev, wce, &value, 1);
	assert_int_equal(value, 1);
	assert_int_equal(write_sectors(f, 0, 512), VIRTIO_BLK_S_OK);
	assert_int_equal(f->blk.log_count, 1);
}

/* 5.2.6.2: it counts what the mode was all the time from the request to its end. */
static void test_writethrough_changed_meanwhile(void **state)
{
	size_t wce = offsetof(struct virtio_blk_config, wce);
	struct fixture *f = *state;
	uint8_t value = 0;

	virtio_config_write(f->dev, wce, &value, 1);
	put_header(f, HEADER, VIRTIO_BLK_T_OUT, 0);
	ring_add(&f->ring, (struct ring_buf[]){{HEADER, 16}, {DATA, 512}, {STATUS, 1}}, 2, 1);
	virtio_kick(f->dev, 0);
	fake_loop_turn(&f->loop);
	fake_blk_complete(&f->blk, 0); /* the flush is on its way, whatever comes now */
	value = 1;
	virtio_config_write(f->dev, wce, &value, 1);
	assert_int_equal(f->blk.pending_count, 1);
	assert_int_equal(f->blk.log[1].op, BLK_FLUSH);
	run_one(f);
}

#define TEST_READONLY(name) cmocka_unit_test_setup_teardown(test_##name, setup_readonly, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(features), TEST_READONLY(features_readonly), TEST(config), TEST(config_write),
		TEST(config_wce_needs_features), TEST(read), TEST(write), TEST(framing_read),
		TEST(framing_write), TEST(last_sector), TEST(segments), TEST(all_heads),
		TEST_READONLY(readonly), TEST(host_errors), TEST(get_id), TEST(flush),
		TEST(writethrough_without_flush), TEST(writethrough_by_config),
		TEST(writethrough_before_driver_ok), TEST(writethrough_changed_meanwhile),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
