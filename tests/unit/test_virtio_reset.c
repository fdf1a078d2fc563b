/* SPDX-License-Identifier: MIT */
/*
 * Activation, reset and stop between vCPU threads and the loop, in every order. For the thread
 * sanitizer too (-Db_sanitize=thread).
 */
#include "tests/unit/fake_virtio.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static struct toy *toy;

static int setup(void **state)
{
	toy = toy_create();
	if (!toy)
		return -1;
	driver_enable();
	return 0;
}

static int teardown(void **state)
{
	toy_finish(toy);
	return 0;
}

/* Keep the loop from getting on, so that what is posted meanwhile comes as one. */
struct gate {
	struct loop_call call;
	atomic_bool reached, open;
};

static void wait_at_gate(struct loop_call *call)
{
	struct gate *gate = CONTAINER_OF(call, struct gate, call);

	gate->reached = true;
	while (!gate->open)
		sched_yield();
}

static void close_gate(struct gate *gate)
{
	*gate = (struct gate){.call.fn = wait_at_gate};
	loop_post(toy_loop, &gate->call);
	while (!gate->reached)
		sched_yield();
}

static void open_gate(struct gate *gate)
{
	gate->open = true;
	loop_settle();
}

static void a_device_not_started_resets_at_once(void **state)
{
	struct gate gate;

	close_gate(&gate);
	driver_setup(0);
	status_out(0);
	assert_int_equal(status_in(), 0); /* without the loop */
	open_gate(&gate);
	assert_int_equal(toy->quiesces, 0);
}

static void reset_overtakes_activation(void **state)
{
	struct gate gate;

	close_gate(&gate);
	driver_setup(0);
	status_out(DRIVER_OK);
	status_out(0);
	status_out(0);
	assert_int_equal(status_in(), DRIVER_OK); /* not drained yet */
	open_gate(&gate);
	assert_int_equal(status_in(), 0);
	assert_int_equal(toy->activations, 0);
	assert_int_equal(toy->quiesces, 0);
}

static void writes_during_reset_are_ignored(void **state)
{
	driver_setup(0);
	status_out(DRIVER_OK);
	loop_settle();
	toy->hold_quiesce = true;
	status_out(0);
	loop_settle();
	assert_int_equal(status_in(), DRIVER_OK);
	status_out(0);
	status_out(ACK);
	status_out(DRIVER_OK | VIRTIO_CONFIG_S_FAILED);
	features_out(~0ull);
	queue_out(0);
	mmio_out(DEVICE_CONFIG, 1, 0x99);
	driver_kick(0);
	loop_settle();
	assert_int_equal(status_in(), DRIVER_OK);
	assert_int_equal(toy->quiesces, 1);
	loop_call_wait(toy_loop, toy_release, toy);
	assert_int_equal(status_in(), 0);
	assert_int_equal(mmio_in(DEVICE_CONFIG, 1), 0x11);
	loop_settle();
	assert_int_equal(toy->quiesces, 1);
	assert_int_equal(toy->activations, 1);
}

static void a_device_comes_back_after_reset(void **state)
{
	for (uint16_t round = 1; round <= 3; round++) {
		driver_setup(0);
		driver_add(0, 0, 1);
		status_out(DRIVER_OK);
		loop_settle();
		assert_int_equal(toy->chains, round);
		assert_int_equal(fake_delivered[0xC1], round);
		driver_reset();
		/* nobody listens to the doorbell of a device that is not live */
		driver_kick(0);
		loop_settle();
		assert_int_equal(toy->chains, round);
	}
	assert_int_equal(toy->quiesces, 3);
}

/* What the driver wrote is no queue: NEEDS_RESET, an interrupt, and a reset mends it. */
static void bad_queues_need_a_reset(void **state)
{
	static const struct {
		unsigned int reg, len;
		uint64_t value;
	} rows[] = {
		{VIRTIO_PCI_COMMON_Q_SIZE, 2, 0},
		{VIRTIO_PCI_COMMON_Q_SIZE, 2, 3},
		{VIRTIO_PCI_COMMON_Q_SIZE, 2, 2 * TOY_QUEUE_SIZE}, /* a queue, but not of ours */
		{VIRTIO_PCI_COMMON_Q_DESCLO, 8, RING(0) + 1},
		{VIRTIO_PCI_COMMON_Q_DESCLO, 8, 0x100000},
		{VIRTIO_PCI_COMMON_Q_AVAILLO, 8, 0xffffffffffffff00},
		{VIRTIO_PCI_COMMON_Q_USEDLO, 8, 0x100000 - 4},
	};

	for (unsigned int i = 0; i < ARRAY_LEN(rows); i++) {
		status_out(DRIVER);
		features_out(1ull << VIRTIO_F_VERSION_1);
		status_out(FEATURES_OK);
		common_out(VIRTIO_PCI_COMMON_MSIX, 2, 0);
		common_out(VIRTIO_PCI_COMMON_Q_SELECT, 2, 1);
		common_out(rows[i].reg, rows[i].len, rows[i].value);
		if (rows[i].reg != VIRTIO_PCI_COMMON_Q_SIZE) {
			/* the other two are fine */
			for (unsigned int reg = 32; reg < 56; reg += 8)
				if (reg != rows[i].reg)
					common_out(reg, 8, RING(1) + (reg - 32) / 8 * 0x1000);
		}
		common_out(VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
		queue_out(0);
		status_out(DRIVER_OK);
		loop_settle();
		assert_int_equal(status_in(), DRIVER_OK | NEEDS_RESET);
		assert_int_equal(fake_delivered[0xC0], i + 1);
		driver_kick(0);
		loop_settle();
		driver_reset();
	}
	assert_int_equal(toy->activations, 0);
	driver_setup(0);
	status_out(DRIVER_OK);
	loop_settle();
	assert_int_equal(toy->activations, 1);
}

static void a_broken_ring_needs_a_reset(void **state)
{
	driver_setup(0);
	status_out(DRIVER_OK);
	loop_settle();
	driver_add(0, 0, 1);
	driver_add(0, 1, 0x7777); /* no such descriptor */
	driver_kick(0);
	loop_settle();
	assert_int_equal(status_in(), DRIVER_OK | NEEDS_RESET);
	assert_int_equal(fake_delivered[0xC0], 1);
	/* deaf until the reset, on all queues; the bit is not the driver's to clear */
	status_out(DRIVER_OK);
	driver_add(1, 0, 1);
	driver_kick(1);
	loop_settle();
	assert_int_equal(toy->chains, 1);
	assert_int_equal(toy->kicks[1], 1);
	assert_int_equal(status_in(), DRIVER_OK | NEEDS_RESET);
	driver_reset();
	assert_int_equal(toy->quiesces, 1);
	driver_setup(0);
	status_out(DRIVER_OK);
	loop_settle();
	assert_int_equal(status_in(), DRIVER_OK);
	assert_int_equal(toy->activations, 2);
}

static void ring_features_reach_the_queues(void **state)
{
	const uint64_t both = 1ull << VIRTIO_RING_F_EVENT_IDX |
			      1ull << VIRTIO_RING_F_INDIRECT_DESC;
	struct vring_used *used = mem_at(&fake_vm.mem, USED(0), 0x1000);

	driver_setup(both);
	status_out(DRIVER_OK);
	loop_settle();
	assert_int_equal(toy->live_features, both | 1ull << VIRTIO_F_VERSION_1);
	driver_add(0, 0, 0);
	driver_kick(0);
	loop_settle();
	assert_int_equal(used->idx, 1);
	assert_int_equal(fake_delivered[0xC1], 1); /* used_event 0 is crossed */
	driver_add(0, 1, 0);
	driver_kick(0);
	loop_settle();
	assert_int_equal(used->idx, 2);
	assert_int_equal(fake_delivered[0xC1], 1); /* and now it is not */
}

/* An indirect table breaks a queue whose driver did not ask for them (2.7.5.3.1). */
static void indirect_only_where_negotiated(void **state)
{
	static const struct vring_desc inner = {.addr = TOY_BUFFER + 16, .len = 4};
	static const struct vring_desc outer = {
		.addr = TOY_BUFFER, .len = sizeof(inner), .flags = VRING_DESC_F_INDIRECT,
	};

	for (unsigned int round = 0; round < 2; round++) {
		driver_setup(round ? 1ull << VIRTIO_RING_F_INDIRECT_DESC : 0);
		mem_write(&fake_vm.mem, TOY_BUFFER, &inner, sizeof(inner));
		driver_add_desc(0, 0, 0, outer);
		status_out(DRIVER_OK);
		loop_settle();
		assert_int_equal(toy->chains, round);
		assert_int_equal(status_in(), round ? DRIVER_OK : DRIVER_OK | NEEDS_RESET);
		driver_reset();
	}
}

static void stop_finds_an_activation_posted(void **state)
{
	driver_setup(0);
	for (unsigned int i = 0; i < TOY_QUEUES; i++)
		driver_kick(i);
	status_out(DRIVER_OK);
	virtio_dev_stop(&toy->dev);
	assert_false(toy->live);
	assert_int_equal(toy->quiesces, toy->activations);
	assert_int_equal(status_in(), 0);
	virtio_dev_stop(&toy->dev); /* again is fine */
}

static void stop_waits_for_the_drain(void **state)
{
	toy->drain_turns = 50;
	driver_setup(0);
	status_out(DRIVER_OK);
	loop_settle();
	virtio_dev_stop(&toy->dev);
	assert_false(toy->live);
	assert_int_equal(toy->quiesces, 1);
	/* and for the callback in which it ended: the device may be freed then */
	toy->slow_tail = true;
	driver_setup(0);
	status_out(DRIVER_OK);
	loop_settle();
	virtio_dev_stop(&toy->dev);
	assert_true(toy->tail_done);
	toy->slow_tail = false;
}

static void stop_joins_a_reset(void **state)
{
	toy->drain_turns = 50;
	driver_setup(0);
	status_out(DRIVER_OK);
	loop_settle();
	status_out(0);
	virtio_dev_stop(&toy->dev);
	assert_false(toy->live);
	assert_int_equal(toy->quiesces, 1);
}

/* One vCPU drives, kicks and resets; the other reads and writes whatever it likes. */
static atomic_bool racing;

static void *disturb(void *arg)
{
	for (unsigned int i = 0; racing; i++) {
		mmio_in(COMMON + i % 56, 4);
		mmio_in(DEVICE_CONFIG + i % 8, 2);
		driver_kick(i % TOY_QUEUES);
		mmio_out(MSIX_TABLE + 12 + 16 * (i % 4), 4, i >> 2 & 1);
		mmio_in(MSIX_PBA, 8);
		mmio_in(ISR, 1);
		if (i % 64 == 0)
			virtio_config_changed(&toy->dev);
		if (i % 97 == 0)
			status_out(0);
	}
	return NULL;
}

static void start_and_reset(unsigned int round)
{
	uint16_t idx = 0;

	toy->drain_turns = round % 4; /* the loop's, but it is idle: the status reads 0 */
	driver_setup(round % 2 ? 1ull << VIRTIO_RING_F_EVENT_IDX : 0);
	status_out(DRIVER_OK);
	for (unsigned int i = 0; i < round % 8; i++) {
		driver_add(i % TOY_QUEUES, idx, idx); /* none is used twice */
		idx += i % TOY_QUEUES == TOY_QUEUES - 1;
		driver_kick(i % TOY_QUEUES);
	}
	if (round % 3 == 0)
		loop_settle();
	driver_reset();
	if (round % 5 == 0)
		status_out(0);
}

static void resets_race(bool disturbed, unsigned int rounds)
{
	pthread_t thread;

	racing = disturbed;
	if (disturbed)
		assert_int_equal(pthread_create(&thread, NULL, disturb, NULL), 0);
	for (unsigned int round = 0; round < rounds; round++)
		start_and_reset(round);
	racing = false;
	if (disturbed)
		pthread_join(thread, NULL);
	virtio_dev_stop(&toy->dev);
	assert_false(toy->live);
	assert_int_equal(toy->activations, toy->quiesces);
	assert_true(toy->activations > 0 && toy->activations <= rounds);
}

static void resets_race_with_the_loop(void **state)
{
	resets_race(false, 500);
	assert_true(toy->chains > 0);
}

static void resets_race_with_another_vcpu(void **state)
{
	resets_race(true, 500);
}

static void too_many_queues(void **state)
{
	struct virtio_dev *dev = calloc(1, sizeof(*dev));

	assert_non_null(dev);
	assert_int_equal(virtio_dev_init(dev, &toy_ops, "toy1", toy_loop, &fake_vm.mem, 0,
					 VIRTIO_QUEUES_MAX + 1), -EINVAL);
	free(dev);
	virtio_dev_destroy(NULL);
	virtio_pci_destroy(NULL);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_device_not_started_resets_at_once),
		TEST(reset_overtakes_activation),
		TEST(writes_during_reset_are_ignored),
		TEST(a_device_comes_back_after_reset),
		TEST(bad_queues_need_a_reset),
		TEST(a_broken_ring_needs_a_reset),
		TEST(ring_features_reach_the_queues),
		TEST(indirect_only_where_negotiated),
		TEST(stop_finds_an_activation_posted),
		TEST(stop_waits_for_the_drain),
		TEST(stop_joins_a_reset),
		TEST(resets_race_with_the_loop),
		TEST(resets_race_with_another_vcpu),
		TEST(too_many_queues),
	};
	struct loop *probe;

	if (loop_create("probe", &probe) < 0)
		return 77; /* no io_uring here, which loop_create said */
	loop_destroy(probe);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
