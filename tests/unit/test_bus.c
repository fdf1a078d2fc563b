/* SPDX-License-Identifier: MIT */
#include "vmm/bus.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "util/util.h"

/* A device that knows what was last asked of it. */
struct dev {
	struct bus *bus;
	uint64_t offset;
	uint64_t data;
	unsigned int len, reads, writes;
};

static struct bus bus;
static struct dev dev;

static void dev_read(void *owner, uint64_t offset, void *data, unsigned int len)
{
	struct dev *d = owner;

	d->offset = offset;
	d->len = len;
	d->reads++;
	memcpy(data, &d->data, len);
}

static void dev_write(void *owner, uint64_t offset, const void *data, unsigned int len)
{
	struct dev *d = owner;

	d->offset = offset;
	d->len = len;
	d->writes++;
	d->data = 0;
	memcpy(&d->data, data, len);
}

static const struct bus_ops ops = {dev_read, dev_write};

static int setup(void **state)
{
	memset(&dev, 0, sizeof(dev));
	return bus_init(&bus);
}

static int teardown(void **state)
{
	bus_finish(&bus);
	return 0;
}

static uint64_t read_at(uint64_t addr, unsigned int len, int expected)
{
	uint64_t value = 0;

	assert_int_equal(bus_read(&bus, addr, &value, len), expected);
	return value;
}

static void test_empty(void **state)
{
	uint64_t value = 0;

	assert_int_equal(read_at(0, 4, -ENODEV), 0xffffffff);
	assert_int_equal(read_at(UINT64_MAX, 1, -ENODEV), 0xff);
	assert_int_equal(bus_write(&bus, 0, &value, 1), -ENODEV);
	bus_del(&bus, 0);
}

static void test_dispatch(void **state)
{
	uint32_t value = 0x11223344;

	dev.data = 0x8877665544332211;
	assert_int_equal(bus_add(&bus, 0x3f8, 8, &ops, &dev), 0);
	assert_int_equal(read_at(0x3f8, 8, 0), 0x8877665544332211);
	assert_int_equal(read_at(0x3ff, 1, 0), 0x11);
	assert_int_equal(dev.offset, 7);
	assert_int_equal(dev.len, 1);
	assert_int_equal(read_at(0x3fc, 4, 0), 0x44332211);
	assert_int_equal(bus_write(&bus, 0x3fa, &value, 2), 0);
	assert_int_equal(dev.offset, 2);
	assert_int_equal(dev.data, 0x3344);
}

/* An access that hangs out of a range on either side is nobody's. */
static void test_crossing(void **state)
{
	uint64_t value = 0;

	assert_int_equal(bus_add(&bus, 0x100, 8, &ops, &dev), 0);
	assert_int_equal(read_at(0xff, 1, -ENODEV), 0xff);
	assert_int_equal(read_at(0xff, 2, -ENODEV), 0xffff);
	assert_int_equal(read_at(0xfc, 8, -ENODEV), UINT64_MAX);
	assert_int_equal(read_at(0x107, 2, -ENODEV), 0xffff);
	assert_int_equal(read_at(0x101, 8, -ENODEV), UINT64_MAX);
	assert_int_equal(read_at(0x108, 1, -ENODEV), 0xff);
	assert_int_equal(bus_write(&bus, 0x106, &value, 4), -ENODEV);
	/* Nor do two neighbours share one. */
	assert_int_equal(bus_add(&bus, 0x108, 8, &ops, &dev), 0);
	assert_int_equal(read_at(0x104, 8, -ENODEV), UINT64_MAX);
	assert_int_equal(dev.reads + dev.writes, 0);
}

static void test_overlap(void **state)
{
	static const struct {
		uint64_t base, len;
		int r;
	} cases[] = {
		{0x1000, 0x1000, -EEXIST}, /* the same */
		{0x1000, 1, -EEXIST},
		{0x1fff, 1, -EEXIST},
		{0x1fff, 2, -EEXIST},
		{0x0fff, 2, -EEXIST},
		{0x1800, 0x10, -EEXIST}, /* inside */
		{0, 0x10000, -EEXIST},	 /* around */
		{0, UINT64_MAX, -EEXIST},
		{1, UINT64_MAX, -EEXIST},
		{0x5000, 0, -EINVAL},
		{0, 0, -EINVAL},
		{2, UINT64_MAX, -EINVAL}, /* wraps */
		{UINT64_MAX, 2, -EINVAL},
		{0, 0x1000, 0},
		{0x2000, 1, 0},
		{UINT64_MAX, 1, 0}, /* ends with the address space */
	};

	assert_int_equal(bus_add(&bus, 0x1000, 0x1000, &ops, &dev), 0);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		if (bus_add(&bus, cases[i].base, cases[i].len, &ops, &dev) != cases[i].r)
			fail_msg("case %zu", i);
	read_at(0, 8, 0);
	read_at(0x2000, 1, 0);
	read_at(UINT64_MAX, 1, 0);
	assert_int_equal(read_at(UINT64_MAX, 2, -ENODEV), 0xffff);
	assert_int_equal(read_at(UINT64_MAX - 1, 1, -ENODEV), 0xff);
}

static void test_whole_space(void **state)
{
	assert_int_equal(bus_add(&bus, 0, UINT64_MAX, &ops, &dev), 0);
	read_at(UINT64_MAX - 1, 1, 0);
	read_at(UINT64_MAX, 1, -ENODEV);
	assert_int_equal(bus_add(&bus, UINT64_MAX, 1, &ops, &dev), 0);
	read_at(UINT64_MAX, 1, 0);
	assert_int_equal(dev.offset, 0);
}

/* A range that ends with the address space: its end is 0 to whoever adds up. */
static void test_last_range(void **state)
{
	uint64_t base = UINT64_MAX - 15;

	assert_int_equal(bus_add(&bus, base, 16, &ops, &dev), 0);
	read_at(base, 8, 0);
	read_at(base + 8, 8, 0);
	assert_int_equal(dev.offset, 8);
	read_at(base - 1, 2, -ENODEV);
	read_at(base + 9, 8, -ENODEV);
	read_at(UINT64_MAX, 2, -ENODEV);
	assert_int_equal(bus_add(&bus, base - 1, 2, &ops, &dev), -EEXIST);
	bus_del(&bus, base);
	read_at(base, 8, -ENODEV);
}

static void test_del(void **state)
{
	struct dev other = {.data = 7};

	assert_int_equal(bus_add(&bus, 0x10, 0x10, &ops, &dev), 0);
	assert_int_equal(bus_add(&bus, 0x20, 0x10, &ops, &other), 0);
	bus_del(&bus, 0x11); /* not a start: nothing */
	bus_del(&bus, 0x30);
	read_at(0x10, 1, 0);
	bus_del(&bus, 0x10);
	read_at(0x10, 1, -ENODEV);
	assert_int_equal(read_at(0x20, 1, 0), 7);
	assert_int_equal(bus_add(&bus, 0x18, 8, &ops, &dev), 0);
	bus_del(&bus, 0x20);
	read_at(0x20, 1, -ENODEV);
	read_at(0x18, 1, 0);
	bus_del(&bus, 0x18);
	bus_del(&bus, 0x18);
	assert_int_equal(bus.count, 0);
}

/* Against a plain table of who owns each address. */
static void test_random(void **state)
{
	enum { SPACE = 512, DEVS = 64 };
	struct dev devs[DEVS] = {0};
	uint64_t bases[DEVS];
	bool there[DEVS] = {0};
	int owner[SPACE];

	memset(owner, -1, sizeof(owner));
	srandom(1);
	for (int round = 0; round < 20000; round++) {
		int i = (int)random() % DEVS;
		uint64_t base = (uint64_t)random() % SPACE;
		uint64_t wanted = (uint64_t)random() % 20 + 1;
		uint64_t len = MIN(wanted, SPACE - base);
		uint64_t addr = (uint64_t)random() % (SPACE - 8);
		unsigned int size = 1u << random() % 4;
		bool taken = false, whole = true;

		if (there[i]) {
			bus_del(&bus, bases[i]);
			for (int a = 0; a < SPACE; a++)
				owner[a] = owner[a] == i ? -1 : owner[a];
			there[i] = false;
		} else {
			for (uint64_t a = base; a < base + len; a++)
				taken |= owner[a] >= 0;
			assert_int_equal(bus_add(&bus, base, len, &ops, &devs[i]),
					 taken ? -EEXIST : 0);
			there[i] = !taken;
			bases[i] = base;
			for (uint64_t a = base; !taken && a < base + len; a++)
				owner[a] = i;
		}
		for (uint64_t a = addr; a < addr + size; a++)
			whole &= owner[a] >= 0 && owner[a] == owner[addr];
		read_at(addr, size, whole ? 0 : -ENODEV);
		if (whole)
			assert_int_equal(devs[owner[addr]].offset, addr - bases[owner[addr]]);
	}
}

/* A BAR moves while a driver writes its register: the device changes the bus itself. */
static void move_self(void *owner, uint64_t offset, const void *data, unsigned int len)
{
	struct dev *d = owner;
	uint64_t to;

	memcpy(&to, data, sizeof(to));
	bus_del(d->bus, 0x1000);
	assert_int_equal(bus_add(d->bus, to, 16, &ops, d), 0);
}

static void test_callback_moves(void **state)
{
	static const struct bus_ops mover = {dev_read, move_self};
	uint64_t to = 0x9000;

	dev.bus = &bus;
	assert_int_equal(bus_add(&bus, 0x1000, 16, &mover, &dev), 0);
	assert_int_equal(bus_write(&bus, 0x1000, &to, 8), 0);
	read_at(0x1000, 1, -ENODEV);
	read_at(0x9000, 1, 0);
}

/* --- many threads: one device is always there, others come and go around it --- */

static atomic_bool stop;

static void fixed_read(void *owner, uint64_t offset, void *data, unsigned int len)
{
	memcpy(data, owner, len);
}

static void fixed_write(void *owner, uint64_t offset, const void *data, unsigned int len)
{
}

static const struct bus_ops fixed_ops = {fixed_read, fixed_write};

static void *look_up(void *arg)
{
	uintptr_t wrong = 0;

	while (!atomic_load(&stop)) {
		uint32_t value = 0, other;

		wrong += bus_read(&bus, 0x8000, &value, 4) != 0 || value != 0xcafe;
		bus_write(&bus, 0x4000, &value, 4);
		/* Either the one that comes and goes, or nobody: never another's. */
		if (bus_read(&bus, 0x4000, &other, 4) == 0)
			wrong += other != 0xbeef;
		else
			wrong += other != UINT32_MAX;
	}
	return (void *)wrong;
}

static void *change(void *arg)
{
	uint64_t base = (uintptr_t)arg;
	static uint32_t value = 0xbeef; /* an owner outlives the lookups */

	for (int i = 0; i < 500; i++) {
		for (uint64_t j = 0; j < 20; j++)
			bus_add(&bus, base + j * 16, 16, &fixed_ops, &value);
		for (uint64_t j = 0; j < 20; j++)
			bus_del(&bus, base + j * 16);
	}
	return NULL;
}

static void test_threads(void **state)
{
	static uint32_t fixed = 0xcafe;
	pthread_t readers[2], writers[2];
	void *wrong;

	atomic_store(&stop, false);
	assert_int_equal(bus_add(&bus, 0x8000, 16, &fixed_ops, &fixed), 0);
	for (uintptr_t i = 0; i < 2; i++) {
		assert_int_equal(pthread_create(&writers[i], NULL, change,
						(void *)(0x4000 + i * 0x8000)), 0);
		assert_int_equal(pthread_create(&readers[i], NULL, look_up, NULL), 0);
	}
	for (int i = 0; i < 2; i++)
		pthread_join(writers[i], NULL);
	atomic_store(&stop, true);
	for (int i = 0; i < 2; i++) {
		pthread_join(readers[i], &wrong);
		assert_null(wrong);
	}
	assert_int_equal(bus.count, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_empty),
		TEST(test_dispatch),
		TEST(test_crossing),
		TEST(test_overlap),
		TEST(test_whole_space),
		TEST(test_last_range),
		TEST(test_del),
		TEST(test_random),
		TEST(test_callback_moves),
		TEST(test_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
