/* SPDX-License-Identifier: MIT */
#include "tests/unit/test_boot.h"

#include <errno.h>
#include <stdlib.h>

#include "block/block.h"
#include "boot/cmdline.h"
#include "boot/disk.h"

#define DISK_BYTES MIB(16)

/* A disk in memory; stands in for block/ at link time. */
struct blk {
	uint8_t *bytes;
	int error; /* what reads return, or 0 */
	struct blk_info info;
};

static struct blk blk;

const struct blk_info *blk_info(const struct blk *b)
{
	return &b->info;
}

int blk_read_sync(struct blk *b, void *buf, uint64_t len_bytes, uint64_t offset_bytes)
{
	assert_true(range_fits(offset_bytes, len_bytes, b->info.size_bytes));
	assert_int_equal(len_bytes % 512, 0);
	assert_int_equal(offset_bytes % 512, 0);
	memcpy(buf, b->bytes + offset_bytes, len_bytes);
	return b->error;
}

static int setup(void **state)
{
	blk.bytes = calloc(1, DISK_BYTES);
	blk.error = 0;
	blk.info.size_bytes = DISK_BYTES;
	return blk.bytes ? 0 : -1;
}

static int teardown(void **state)
{
	free(blk.bytes);
	return 0;
}

static void put(uint64_t at, const void *data, size_t len)
{
	memcpy(blk.bytes + at, data, len);
}

static void put32(uint64_t at, uint32_t value)
{
	put(at, &value, 4);
}

static void put64(uint64_t at, uint64_t value)
{
	put(at, &value, 8);
}

static uint32_t crc32_of(const uint8_t *data, size_t len)
{
	uint32_t crc = ~0u;

	for (size_t i = 0; i < len; i++)
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ ((crc ^ data[i] >> bit) & 1 ? 0xEDB88320 : 0);
	return ~crc;
}

static void mbr_sign(uint32_t disk_id)
{
	put32(440, disk_id);
	put(510, "\x55\xAA", 2);
}

/* An entry of the boot record at `sector`; start and count in sectors. */
static void mbr_entry(uint64_t sector, int index, uint8_t type, uint32_t start, uint32_t count)
{
	uint64_t at = sector * 512 + 446 + index * 16;

	blk.bytes[at + 4] = type;
	put32(at + 8, start);
	put32(at + 12, count);
	put(sector * 512 + 510, "\x55\xAA", 2);
}

static void put_ext(uint64_t sector, uint32_t incompat)
{
	put(sector * 512 + 1024 + 0x38, "\x53\xEF", 2);
	put32(sector * 512 + 1024 + 0x60, incompat);
}

#define EXT4 0x2C2 /* extents, 64bit, flex_bg, filetype */
#define EXT3 0x02

static const uint8_t type_root[] = {0xE3, 0xBC, 0x68, 0x4F, 0xCD, 0xE8, 0xB1, 0x4D,
				    0x96, 0xE7, 0xFB, 0xCA, 0xF9, 0x84, 0xB7, 0x09};
static const uint8_t type_linux[] = {0xAF, 0x3D, 0xC6, 0x0F, 0x83, 0x84, 0x72, 0x47,
				     0x8E, 0x79, 0x3D, 0x69, 0xD8, 0x47, 0x7D, 0xE4};
static const uint8_t type_esp[] = {0x28, 0x73, 0x2A, 0xC1, 0x1F, 0xF8, 0xD2, 0x11,
				   0xBA, 0x4B, 0x00, 0xA0, 0xC9, 0x3E, 0xC9, 0x3B};

static void gpt_entry(int index, const uint8_t *type, uint64_t first, uint64_t last)
{
	uint64_t at = 1024 + index * 128;

	put(at, type, 16);
	for (int i = 0; i < 16; i++)
		blk.bytes[at + 16 + i] = (uint8_t)(index << 4 | i);
	put64(at + 32, first);
	put64(at + 40, last);
}

static void gpt_finish(void)
{
	put32(512 + 16, 0);
	put32(512 + 88, crc32_of(blk.bytes + 1024, 128 * 128));
	put32(512 + 16, crc32_of(blk.bytes + 512, 92));
}

static void gpt_begin(void)
{
	mbr_entry(0, 0, 0xEE, 1, DISK_BYTES / 512 - 1);
	put(512, "EFI PART\0\0\1\0\x5C\0\0\0", 16);
	put64(512 + 24, 1);
	put64(512 + 32, DISK_BYTES / 512 - 1);
	put64(512 + 40, 34);
	put64(512 + 48, DISK_BYTES / 512 - 34);
	put64(512 + 72, 2);
	put32(512 + 80, 128);
	put32(512 + 84, 128);
}

static void expect(const char *want)
{
	char *cmdline;

	assert_int_equal(cmdline_make(&blk, false, &cmdline), 0);
	assert_string_equal(cmdline, want);
	free(cmdline);
}

/* Boots all the same, and says that there is no root. */
static void expect_none(void)
{
	const char *text;

	caught_begin();
	expect("console=ttyS0");
	text = caught_end();
	assert_one_error(text, "root");
}

static void test_gpt(void **state)
{
	gpt_begin();
	gpt_entry(0, type_esp, 2048, 4095);
	gpt_entry(1, type_linux, 8192, 16383);
	gpt_entry(3, type_root, 4096, 6143);
	gpt_finish();
	/* The typed root wins over the larger one, even with no file system that we know. */
	put_ext(8192, EXT4);
	expect("console=ttyS0 root=PARTUUID=33323130-3534-3736-3839-3a3b3c3d3e3f rw");
	put_ext(4096, EXT4);
	expect("console=ttyS0 root=PARTUUID=33323130-3534-3736-3839-3a3b3c3d3e3f rw "
	       "rootfstype=ext4");
	/* Without it, the one with a file system; among those the largest. */
	gpt_entry(3, type_linux, 4096, 6143);
	gpt_entry(2, type_linux, 16384, 32000);
	gpt_finish();
	expect("console=ttyS0 root=PARTUUID=13121110-1514-1716-1819-1a1b1c1d1e1f rw "
	       "rootfstype=ext4");
}

static void test_gpt_broken(void **state)
{
	uint8_t *copy = malloc(20 * 1024);

	gpt_begin();
	gpt_entry(0, type_root, 4096, 6143);
	gpt_finish();
	memcpy(copy, blk.bytes, 20 * 1024);
	/* Any flipped byte of the header or the entries: not a table, so no root. */
	for (size_t at = 512; at < 1024 + 128 * 128; at += at < 1024 ? 1 : 97) {
		if (at >= 512 + 92 && at < 1024)
			continue;
		blk.bytes[at] ^= 0x10;
		expect_none();
		memcpy(blk.bytes, copy, 20 * 1024);
	}
	/* Consistent, but nonsense. */
	put32(512 + 84, 256);
	gpt_finish();
	expect_none();
	memcpy(blk.bytes, copy, 20 * 1024);
	put64(512 + 72, UINT64_MAX);
	gpt_finish();
	expect_none();
	memcpy(blk.bytes, copy, 20 * 1024);
	put32(512 + 80, UINT32_MAX);
	gpt_finish();
	expect_none();
	memcpy(blk.bytes, copy, 20 * 1024);
	gpt_entry(0, type_root, 4096, DISK_BYTES / 512);
	gpt_finish();
	expect_none();
	gpt_entry(0, type_root, 4096, 4095);
	gpt_finish();
	expect_none();
	free(copy);
}

static void test_mbr(void **state)
{
	mbr_sign(0xC0FFEE01);
	mbr_entry(0, 0, 0x82, 2048, 2048);
	mbr_entry(0, 1, 0x83, 4096, 2048);
	expect("console=ttyS0 root=PARTUUID=c0ffee01-02 rw");
	put_ext(4096, EXT3);
	expect("console=ttyS0 root=PARTUUID=c0ffee01-02 rw");
	put(4096 * 512, "XFSB", 4);
	expect("console=ttyS0 root=PARTUUID=c0ffee01-02 rw rootfstype=xfs");
	/* No disk signature: no PARTUUID. */
	mbr_sign(0);
	expect("console=ttyS0 root=/dev/vda2 rw rootfstype=xfs");
	/* Past the end of the disk. */
	mbr_entry(0, 1, 0x83, 4096, DISK_BYTES / 512);
	expect_none();
}

static void test_mbr_logical(void **state)
{
	mbr_sign(0x1234);
	mbr_entry(0, 0, 0x05, 8192, 16384);
	mbr_entry(8192, 0, 0x82, 63, 1000);
	mbr_entry(8192, 1, 0x05, 4096, 8000);
	mbr_entry(8192 + 4096, 0, 0x83, 63, 1000);
	expect("console=ttyS0 root=PARTUUID=00001234-06 rw");
	/* A chain that loops ends. */
	mbr_entry(8192 + 4096, 0, 0x82, 63, 1000);
	mbr_entry(8192 + 4096, 1, 0x05, 4096, 8000);
	expect_none();
	/* A link past the end of the disk. */
	mbr_entry(8192, 1, 0x05, UINT32_MAX, 8000);
	expect_none();
}

static void test_whole_disk(void **state)
{
	expect_none();
	put_ext(0, EXT3);
	expect("console=ttyS0 root=/dev/vda rw");
	put_ext(0, EXT4);
	expect("console=ttyS0 root=/dev/vda rw rootfstype=ext4");
	/* A boot sector's code is no partition table. */
	memset(blk.bytes, 0xB8, 510);
	put(510, "\x55\xAA", 2);
	expect("console=ttyS0 root=/dev/vda rw rootfstype=ext4");
	memset(blk.bytes, 0, 4096);
	put(0x10040, "_BHRfS_M", 8);
	expect("console=ttyS0 root=/dev/vda rw rootfstype=btrfs");
	put(1024, "\xE2\xE1\xF5\xE0", 4);
	expect("console=ttyS0 root=/dev/vda rw rootfstype=erofs");
	put(0, "hsqs", 4);
	expect("console=ttyS0 root=/dev/vda rw rootfstype=squashfs");
}

static void test_small_disks(void **state)
{
	for (uint64_t size = 0; size <= 8192; size += 512) {
		blk.info.size_bytes = size;
		expect_none();
	}
	mbr_entry(0, 0, 0xEE, 1, 1);
	for (uint64_t size = 512; size <= 8192; size += 512) {
		blk.info.size_bytes = size;
		expect_none();
	}
}

static void test_readonly(void **state)
{
	char *cmdline;

	put_ext(0, EXT4);
	assert_int_equal(cmdline_make(&blk, true, &cmdline), 0);
	assert_string_equal(cmdline, "console=ttyS0 root=/dev/vda ro rootfstype=ext4");
	free(cmdline);
}

static void test_no_disk(void **state)
{
	char *cmdline;

	assert_int_equal(cmdline_make(NULL, false, &cmdline), 0);
	assert_string_equal(cmdline, "console=ttyS0");
	free(cmdline);
}

static void test_read_error(void **state)
{
	char *cmdline;

	blk.error = -EIO;
	caught_begin();
	assert_int_equal(cmdline_make(&blk, false, &cmdline), -EIO);
	assert_one_error(caught_end(), "Input/output error");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_gpt, setup, teardown),
		cmocka_unit_test_setup_teardown(test_gpt_broken, setup, teardown),
		cmocka_unit_test_setup_teardown(test_mbr, setup, teardown),
		cmocka_unit_test_setup_teardown(test_mbr_logical, setup, teardown),
		cmocka_unit_test_setup_teardown(test_whole_disk, setup, teardown),
		cmocka_unit_test_setup_teardown(test_small_disks, setup, teardown),
		cmocka_unit_test_setup_teardown(test_readonly, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_disk, setup, teardown),
		cmocka_unit_test_setup_teardown(test_read_error, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
