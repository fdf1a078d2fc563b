/* SPDX-License-Identifier: MIT */
/* MSIs in numbers: all there are, used again, in random order, and by threads at once. */
#include "vmm/irq.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "tests/unit/irq_vm.h"
#include "util/util.h"
#include "vmm/layout.h"

static unsigned int open_fds(void)
{
	unsigned int count = 0;

	for (int fd = 0; fd < 8192; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

static void test_exhaustion(void **state)
{
	enum { MANY = 2048 };
	struct irq_msi *msis = calloc(MANY + 1, sizeof(*msis)), again;
	bool *used = calloc(65536, 1);
	unsigned int fds;

	for (int i = 0; i < MANY; i++) {
		assert_int_equal(irq_msi_init(&irq, &msis[i]), 0);
		assert_true(msis[i].gsi >= LAYOUT_IOAPIC_PINS && msis[i].gsi < 65536);
		assert_false(used[msis[i].gsi]);
		used[msis[i].gsi] = true;
	}
	fds = open_fds();
	assert_int_equal(irq_msi_init(&irq, &msis[MANY]), -ENOSPC);
	assert_int_equal(open_fds(), fds);
	/* The last one works, and what is given back can be had again. */
	assert_int_equal(irq_msi_unmask(&msis[MANY - 1], MSI_ADDR, 0x91), 0);
	irq_msi_raise(&msis[MANY - 1]);
	assert_arrives(0, 0x91);
	irq_msi_finish(&msis[777]);
	assert_int_equal(irq_msi_init(&irq, &again), 0);
	assert_int_equal(again.gsi, msis[777].gsi);
	msis[777] = again;
	for (int i = 0; i < MANY; i++)
		irq_msi_finish(&msis[i]);
	free(used);
	free(msis);
}

/* A GSI used again must not bring its last owner's route along. */
static void test_reuse(void **state)
{
	unsigned int routes = irq.table->nr;
	struct irq_msi msis[8];

	for (uint32_t round = 0; round < 4; round++) {
		for (uint32_t i = 0; i < 8; i++) {
			assert_int_equal(irq_msi_init(&irq, &msis[i]), 0);
			if (i % 2 == round % 2)
				assert_int_equal(irq_msi_unmask(&msis[i], MSI_ADDR,
								0x40 + round * 8 + i), 0);
		}
		for (uint32_t i = 0; i < 8; i++)
			irq_msi_raise(&msis[i]);
		for (uint32_t i = 0; i < 8; i++) {
			assert_int_equal(irq_msi_pending(&msis[i]), i % 2 != round % 2);
			if (i % 2 == round % 2)
				assert_arrives(0, 0x40 + round * 8 + i);
		}
		assert_int_equal(vectors_set(0), 4);
		forget();
		for (uint32_t i = 0; i < 8; i++)
			irq_msi_finish(&msis[i]);
		assert_int_equal(irq.table->nr, routes);
	}
}

/* Against a plain account: a raise arrives exactly once, at the vector of its unmasking. */
static void test_random(void **state)
{
	enum { N = 6 };
	struct irq_msi msis[N];
	bool masked[N], pending[N] = {0};
	uint32_t vector[N];

	srandom(3);
	for (int i = 0; i < N; i++) {
		assert_int_equal(irq_msi_init(&irq, &msis[i]), 0);
		masked[i] = true;
	}
	for (int step = 0; step < 400; step++) {
		long i = random() % N;
		bool arrives = false;

		switch (random() % 3) {
		case 0:
			irq_msi_mask(&msis[i]);
			masked[i] = true;
			break;
		case 1:
			vector[i] = (uint32_t)(0x40 + i * 16 + random() % 16);
			assert_int_equal(irq_msi_unmask(&msis[i], MSI_ADDR, vector[i]), 0);
			arrives = pending[i];
			masked[i] = pending[i] = false;
			break;
		default:
			irq_msi_raise(&msis[i]);
			arrives = !masked[i];
			pending[i] = masked[i];
		}
		if (arrives)
			assert_arrives(0, vector[i]);
		assert_int_equal(vectors_set(0), arrives);
		if (arrives)
			forget();
		for (int j = 0; j < N; j++)
			assert_int_equal(irq_msi_pending(&msis[j]), pending[j]);
	}
	for (int i = 0; i < N; i++)
		irq_msi_finish(&msis[i]);
}

static void *toggle(void *arg)
{
	uint32_t number = *(uint32_t *)arg;
	uintptr_t wrong = 0;

	for (uint32_t i = 0; i < 20; i++) {
		struct irq_msi msi;

		wrong += irq_msi_init(&irq, &msi) != 0;
		wrong += irq_msi_unmask(&msi, MSI_ADDR, 0x40 + number) != 0;
		irq_msi_raise(&msi);
		irq_msi_mask(&msi);
		wrong += irq_msi_unmask(&msi, MSI_ADDR, 0x50 + number) != 0;
		irq_msi_finish(&msi);
	}
	return (void *)wrong;
}

/* Devices set up their vectors at the same time, each on its own vCPU. */
static void test_threads(void **state)
{
	uint32_t numbers[4], routes = irq.table->nr;
	pthread_t threads[4];
	void *wrong;

	for (uint32_t i = 0; i < 4; i++) {
		numbers[i] = i;
		assert_int_equal(pthread_create(&threads[i], NULL, toggle, &numbers[i]), 0);
	}
	for (uint32_t i = 0; i < 4; i++) {
		pthread_join(threads[i], &wrong);
		assert_null(wrong);
		assert_arrives(0, 0x40 + i);
	}
	assert_int_equal(irq.table->nr, routes);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, irq_vm_setup, irq_vm_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_exhaustion),
		TEST(test_reuse),
		TEST(test_random),
		TEST(test_threads),
	};
	struct rlimit files;

	if (!irq_vm_possible())
		return 77;
	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = MIN(files.rlim_max, 8192);
	setrlimit(RLIMIT_NOFILE, &files);
	if (files.rlim_cur < 4096) {
		printf("skipped: at most %lu open files\n", (unsigned long)files.rlim_cur);
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
