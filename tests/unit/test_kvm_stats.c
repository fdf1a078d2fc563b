/* SPDX-License-Identifier: MIT */
/* KVM counters, from files as kernels make them, and as none does. */
#include <errno.h>
#include <linux/kvm.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "vmm/kvm_stats.h"

#define NAME_BYTES 48
#define COUNT 4

/* struct kvm_stats_desc, but for its flexible end. */
struct desc {
	uint32_t flags;
	int16_t exponent;
	uint16_t size;
	uint32_t offset, bucket_size;
	char name[NAME_BYTES];
};

_Static_assert(offsetof(struct desc, name) == sizeof(struct kvm_stats_desc), "the kernel's");

struct file {
	struct kvm_stats_header header;
	char id[NAME_BYTES];
	struct desc descs[COUNT];
	uint64_t data[8];
};

static struct file file;
static unsigned int found;
static char names[COUNT][NAME_BYTES];
static uint64_t values[COUNT];

static void put(unsigned int index, const char *name, uint32_t type, uint16_t size,
		unsigned int value)
{
	struct desc *desc = &file.descs[index];

	desc->flags = type;
	desc->size = size;
	desc->offset = value * 8;
	strcpy(desc->name, name);
}

static int setup(void **state)
{
	memset(&file, 0, sizeof(file));
	file.header = (struct kvm_stats_header){
		.name_size = NAME_BYTES,
		.num_desc = COUNT,
		.id_offset = offsetof(struct file, id),
		.desc_offset = offsetof(struct file, descs),
		.data_offset = offsetof(struct file, data),
	};
	put(0, "exits", KVM_STATS_TYPE_CUMULATIVE, 1, 1);
	put(1, "halt_exits", KVM_STATS_TYPE_CUMULATIVE, 1, 0); /* 0: left out */
	put(2, "wait_hist", KVM_STATS_TYPE_LOG_HIST, 4, 2);
	put(3, "guest_mode", KVM_STATS_TYPE_INSTANT | KVM_STATS_UNIT_BOOLEAN, 1, 7);
	for (unsigned int i = 1; i < 8; i++)
		file.data[i] = 1000 + i;
	found = 0;
	return 0;
}

static void see(void *arg, const char *name, uint64_t value)
{
	assert_true(found < COUNT);
	assert_true(strlen(name) < NAME_BYTES);
	strcpy(names[found], name);
	values[found++] = value;
}

static int read_stats(size_t len)
{
	int fd = memfd_create("kvm-stats", MFD_CLOEXEC), r;

	assert_true(fd >= 0);
	assert_int_equal(write(fd, &file, len), len);
	found = 0;
	r = kvm_stats_read(fd, see, NULL);
	close(fd);
	return r;
}

static void test_read(void **state)
{
	assert_int_equal(read_stats(sizeof(file)), 0);
	assert_int_equal(found, 2);
	assert_string_equal(names[0], "exits");
	assert_int_equal(values[0], 1001);
	assert_string_equal(names[1], "guest_mode");
	assert_int_equal(values[1], 1007);
}

/* What later kernels may add. */
static void test_unknown_kind(void **state)
{
	file.descs[0].flags = 9;
	assert_int_equal(read_stats(sizeof(file)), 0);
	assert_int_equal(found, 1);
}

static void test_name_without_end(void **state)
{
	memset(file.descs[0].name, 'x', NAME_BYTES);
	assert_int_equal(read_stats(sizeof(file)), 0);
	assert_int_equal(strlen(names[0]), NAME_BYTES - 1);
}

static void test_truncated(void **state)
{
	for (size_t len = 0; len < sizeof(file); len++)
		assert_int_equal(read_stats(len), -ENODATA);
}

static void test_refused(void **state)
{
	const struct kvm_stats_header good = file.header;
	static const uint32_t name_sizes[] = {0, 47, 264, UINT32_MAX};

	file.header.num_desc = UINT32_MAX;
	assert_int_equal(read_stats(sizeof(file)), -EPROTO);
	file.header = good;
	for (size_t i = 0; i < sizeof(name_sizes) / sizeof(name_sizes[0]); i++) {
		file.header.name_size = name_sizes[i];
		assert_int_equal(read_stats(sizeof(file)), -EPROTO);
	}
	file.header = good;
	file.header.desc_offset = UINT32_MAX;
	assert_int_equal(read_stats(sizeof(file)), -EPROTO);
	file.header = good;
	file.header.data_offset = UINT32_MAX;
	assert_int_equal(read_stats(sizeof(file)), -EPROTO);
	file.header = good;
	file.header.num_desc = 4096; /* more than there are */
	assert_int_equal(read_stats(sizeof(file)), -ENODATA);
	assert_int_equal(found, 0);
}

#define TEST(name) cmocka_unit_test_setup(test_##name, setup)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(read), TEST(unknown_kind), TEST(name_without_end), TEST(truncated),
		TEST(refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
