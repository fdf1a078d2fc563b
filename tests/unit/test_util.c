/* SPDX-License-Identifier: MIT */
#include "util/util.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

static void test_parse_size(void **state)
{
	static const struct {
		const char *text;
		int r;
		uint64_t value;
	} cases[] = {
		{"0", 0, 0},
		{"1", 0, 1},
		{"007", 0, 7},
		{"1k", 0, 1024},
		{"1K", 0, 1024},
		{"512M", 0, MIB(512)},
		{"512m", 0, MIB(512)},
		{"2G", 0, GIB(2)},
		{"1t", 0, 1ull << 40},
		{"18446744073709551615", 0, UINT64_MAX},
		{"18014398509481983K", 0, 18014398509481983ull << 10},
		{"16777215T", 0, 16777215ull << 40},
		{"18446744073709551616", -ERANGE, 0},
		{"99999999999999999999999999999", -ERANGE, 0},
		{"18014398509481984K", -ERANGE, 0},
		{"16777216T", -ERANGE, 0},
		{"", -EINVAL, 0},
		{"M", -EINVAL, 0},
		{"-1", -EINVAL, 0},
		{"+1", -EINVAL, 0},
		{" 1", -EINVAL, 0},
		{"1 ", -EINVAL, 0},
		{"1 G", -EINVAL, 0},
		{"1GB", -EINVAL, 0},
		{"1GiB", -EINVAL, 0},
		{"1P", -EINVAL, 0},
		{"1.5G", -EINVAL, 0},
		{"0x10", -EINVAL, 0},
		{"1e9", -EINVAL, 0},
		{"99999999999999999999999x", -EINVAL, 0},
		{"\303\251", -EINVAL, 0},
		{"\377", -EINVAL, 0},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		uint64_t value = 0x5a5a;
		int r = parse_size(cases[i].text, &value);

		if (r != cases[i].r || value != (r ? 0x5a5a : cases[i].value))
			fail_msg("'%s': %d, %" PRIu64, cases[i].text, r, value);
	}
}

static void test_parse_uint(void **state)
{
	static const struct {
		const char *text;
		uint64_t min, max;
		int r;
		uint64_t value;
	} cases[] = {
		{"0", 0, 0, 0, 0},
		{"10", 1, 10, 0, 10},
		{"08", 0, 10, 0, 8},
		{"18446744073709551615", 0, UINT64_MAX, 0, UINT64_MAX},
		{"18446744073709551616", 0, UINT64_MAX, -ERANGE, 0},
		{"11", 1, 10, -ERANGE, 0},
		{"0", 1, 10, -ERANGE, 0},
		{"", 0, 10, -EINVAL, 0},
		{"-0", 0, 10, -EINVAL, 0},
		{"1k", 0, 10000, -EINVAL, 0},
		{" 1", 0, 10, -EINVAL, 0},
		{"1\n", 0, 10, -EINVAL, 0},
		{"4294967297x", 0, 10, -EINVAL, 0},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		uint64_t value = 0x5a5a;
		int r = parse_uint(cases[i].text, cases[i].min, cases[i].max, &value);

		if (r != cases[i].r || value != (r ? 0x5a5a : cases[i].value))
			fail_msg("'%s': %d, %" PRIu64, cases[i].text, r, value);
	}
}

static void test_range_fits(void **state)
{
	assert_true(range_fits(0, 0, 0));
	assert_true(range_fits(5, 5, 10));
	assert_true(range_fits(10, 0, 10));
	assert_false(range_fits(6, 5, 10));
	assert_false(range_fits(11, 0, 10));
	assert_false(range_fits(0, 11, 10));
	assert_false(range_fits(UINT64_MAX, 2, 10));
	assert_false(range_fits(2, UINT64_MAX, 10));
	assert_true(range_fits(0, UINT64_MAX, UINT64_MAX));
	assert_true(range_fits(UINT64_MAX, 0, UINT64_MAX));
	assert_false(range_fits(UINT64_MAX, 1, UINT64_MAX));
}

static void test_align(void **state)
{
	assert_int_equal(align_up(0, 4096), 0);
	assert_int_equal(align_up(1, 4096), 4096);
	assert_int_equal(align_up(4096, 4096), 4096);
	assert_int_equal(align_up(4097, 4096), 8192);
	assert_int_equal(align_down(4095, 4096), 0);
	assert_int_equal(align_down(UINT64_MAX, 4096), UINT64_MAX - 4095);
	assert_int_equal(align_up(5, 1), 5);
}

static void test_full_io(void **state)
{
	int fd = memfd_create("file", MFD_CLOEXEC);
	char in[10000], out[10000];

	memset(out, 'a', sizeof(out));
	assert_int_equal(pwrite_full(fd, out, sizeof(out), 12345), 0);
	assert_int_equal(pread_full(fd, in, sizeof(in), 12345), 0);
	assert_memory_equal(in, out, sizeof(in));
	assert_int_equal(pread_full(fd, in, sizeof(in), 12346), -ENODATA);
	assert_int_equal(pread_full(fd, in, 1, 1 << 20), -ENODATA);
	assert_int_equal(pread_full(fd, in, 0, 1 << 20), 0);
	/* Offsets a file cannot have, as a broken image may ask for. */
	assert_int_equal(pread_full(fd, in, 1, 1ull << 63), -EINVAL);
	assert_int_equal(pread_full(fd, in, 1, UINT64_MAX), -EINVAL);
	assert_true(pread_full(fd, in, 2, INT64_MAX) < 0);
	assert_int_equal(pwrite_full(fd, out, 1, UINT64_MAX), -EINVAL);
	close(fd);
	assert_int_equal(pread_full(fd, in, 1, 0), -EBADF);
	assert_int_equal(pwrite_full(fd, out, 1, 0), -EBADF);
}

/* A file that fills up half way: the rest must be an error, not silence. */
static void test_write_cut_short(void **state)
{
	int fd = memfd_create("file", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	char out[100] = {1};

	assert_int_equal(ftruncate(fd, 50), 0);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW), 0);
	assert_true(pwrite_full(fd, out, sizeof(out), 0) < 0);
	assert_int_equal(pwrite_full(fd, out, 50, 0), 0);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse_size),
		cmocka_unit_test(test_parse_uint),
		cmocka_unit_test(test_range_fits),
		cmocka_unit_test(test_align),
		cmocka_unit_test(test_full_io),
		cmocka_unit_test(test_write_cut_short),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
