/* SPDX-License-Identifier: MIT */
/* What passes between driver and device once both are live: doorbells and interrupts. */
#include "tests/unit/toy_fixture.h"

static void kicks_and_interrupts(void **state)
{
	driver_setup(0);
	driver_add(1, 0, 3); /* before DRIVER_OK: taken when live */
	driver_kick(1);
	loop_settle();
	assert_int_equal(toy->chains, 0);
	status_out(DRIVER_OK);
	loop_settle();
	assert_int_equal(toy->chains, 1);
	assert_int_equal(fake_delivered[0xC2], 1);
	driver_add(1, 1, 4);
	driver_kick(1);
	loop_settle();
	assert_int_equal(toy->chains, 2);
	assert_int_equal(fake_delivered[0xC2], 2);
	assert_int_equal(fake_delivered[0xC1] + fake_delivered[0xC3], 0);
	assert_int_equal(mmio_in(ISR, 1), 0);
}

static int irq_fd(unsigned int queue)
{
	const struct virtio_transport *transport = &toy->dev.transport;

	return transport->queue_irq_fd(transport->owner, queue);
}

/* The device hears of a vector that moves while it is live, and of no other. */
static void vectors_move(void **state)
{
	unsigned int cap = cfg_in(SLOT, PCI_CAPABILITY_LIST, 1);
	int fd;

	driver_setup(0);
	fd = irq_fd(1);
	assert_true(fd >= 0);
	status_out(DRIVER_OK);
	loop_settle();
	assert_int_equal(toy->irq_moves, 0);
	common_out(VIRTIO_PCI_COMMON_Q_SELECT, 2, 1);
	common_out(VIRTIO_PCI_COMMON_Q_MSIX, 2, VIRTIO_MSI_NO_VECTOR);
	assert_int_equal(irq_fd(1), -1);
	loop_settle();
	assert_int_equal(toy->irq_moves, 1);
	common_out(VIRTIO_PCI_COMMON_Q_MSIX, 2, 3); /* as queue 2 */
	assert_int_equal(irq_fd(1), irq_fd(2));
	assert_int_not_equal(irq_fd(1), fd);
	loop_settle();
	assert_int_equal(toy->irq_moves, 2);
	cfg_out(SLOT, cap + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
	loop_settle();
	assert_int_equal(toy->irq_moves, 2);
	assert_true(irq_fd(1) >= 0);
	cfg_out(SLOT, cap + PCI_MSIX_FLAGS, 2, 0);
	assert_int_equal(irq_fd(1), -1);
	loop_settle();
	assert_int_equal(toy->irq_moves, 3);
	driver_reset();
	assert_int_equal(toy->irq_moves, 3);
}

static void lend_doorbell(void *arg)
{
	virtio_lend_doorbell(&toy->dev, 1);
}

static void take_doorbell(void *arg)
{
	virtio_take_doorbell(&toy->dev, 1);
}

static void doorbells_are_lent(void **state)
{
	driver_setup(0);
	status_out(DRIVER_OK);
	loop_settle();
	loop_call_wait(toy_loop, lend_doorbell, NULL);
	driver_add(1, 0, 3);
	for (unsigned int i = 0; i < 3; i++) {
		driver_kick(1);
		loop_settle();
	}
	assert_int_equal(toy->chains, 0);
	loop_call_wait(toy_loop, take_doorbell, NULL); /* the kick is heard yet */
	loop_settle();
	assert_int_equal(toy->chains, 1);
	loop_call_wait(toy_loop, lend_doorbell, NULL);
	driver_reset(); /* with the doorbell away */
	driver_setup(0);
	driver_add(1, 0, 3);
	status_out(DRIVER_OK);
	loop_settle();
	assert_int_equal(toy->chains, 2);
}

/* A doorbell without ioeventfd is slower, not lost. */
static void doorbells_in_user_space(void **state)
{
	cfg_out(SLOT, PCI_COMMAND, 2, 0);
	assert_int_equal(fake_doorbell_count, 0);
	fake_no_doorbells = true;
	driver_enable();
	driver_setup(0);
	status_out(DRIVER_OK);
	driver_add(2, 0, 0);
	driver_kick(2);
	loop_settle();
	assert_int_equal(toy->chains, 1);
}

/* One doorbell per queue, all of them on `bus` from `addr` on. */
static void check_doorbells(const struct bus *bus, uint64_t addr)
{
	assert_int_equal(fake_doorbell_count, TOY_QUEUES);
	for (unsigned int i = 0; i < TOY_QUEUES; i++) {
		assert_ptr_equal(fake_doorbells[i].bus, bus);
		assert_int_equal(fake_doorbells[i].addr, addr + 4 * i);
		assert_int_equal(fake_doorbells[i].fd, toy->dev.queues[i].kick_fd);
	}
}

static void doorbells_move_with_the_bar(void **state)
{
	const uint64_t to = BAR_ADDR + 0x100000;

	assert_int_equal(fake_doorbell_count, 2 * TOY_QUEUES);
	driver_setup(0);
	status_out(DRIVER_OK);
	cfg_out(SLOT, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	assert_int_equal(fake_doorbell_count, TOY_QUEUES);
	cfg_out(SLOT, PCI_BASE_ADDRESS_0, 4, 0xffffffff);
	assert_int_equal(fake_doorbell_count, 0);
	assert_int_equal(cfg_in(SLOT, PCI_BASE_ADDRESS_0, 4), 0xffff8000);
	cfg_out(SLOT, PCI_BASE_ADDRESS_0, 4, (uint32_t)to);
	check_doorbells(&fake_vm.mmio, to + 0x3000);
	driver_add(0, 0, 0);
	mmio_out(to + 0x3000, 2, 0);
	loop_settle();
	assert_int_equal(toy->chains, 1);
	assert_int_equal(mmio_in(to + VIRTIO_PCI_COMMON_STATUS, 1), DRIVER_OK);
}

/* The same doorbells by port. */
static void doorbells_move_with_the_ports(void **state)
{
	const uint16_t to = NOTIFY_PORT + 0x1200;

	driver_setup(0);
	status_out(DRIVER_OK);
	cfg_out(SLOT, PCI_COMMAND, 2, PCI_COMMAND_IO | PCI_COMMAND_MASTER);
	assert_int_equal(fake_doorbell_count, TOY_QUEUES);
	cfg_out(SLOT, PCI_BASE_ADDRESS_1, 4, 0xffffffff);
	assert_int_equal(fake_doorbell_count, 0);
	assert_int_equal(cfg_in(SLOT, PCI_BASE_ADDRESS_1, 4), 0xffffff01);
	cfg_out(SLOT, PCI_BASE_ADDRESS_1, 4, to);
	check_doorbells(&fake_vm.pio, to);
	driver_add(0, 0, 0);
	port_out(to, 2, 0);
	loop_settle();
	assert_int_equal(toy->chains, 1);
	assert_int_equal(port_in(to, 2), 0);
	port_out(to + 0xfc, 4, 0); /* no such queue */
}

static void without_msix_the_isr_tells(void **state)
{
	unsigned int cap = cfg_in(SLOT, PCI_CAPABILITY_LIST, 1);

	assert_int_equal(cfg_in(SLOT, cap, 1), PCI_CAP_ID_MSIX);
	cfg_out(SLOT, cap + PCI_MSIX_FLAGS, 2, 0);
	driver_setup(0);
	status_out(DRIVER_OK);
	driver_add(0, 0, 0);
	driver_kick(0);
	loop_settle();
	assert_int_equal(mmio_in(ISR, 1), 1);
	assert_int_equal(mmio_in(ISR, 1), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(kicks_and_interrupts),
		TEST(vectors_move),
		TEST(doorbells_are_lent),
		TEST(doorbells_in_user_space),
		TEST(doorbells_move_with_the_bar),
		TEST(doorbells_move_with_the_ports),
		TEST(without_msix_the_isr_tells),
	};

	return toy_works() ? cmocka_run_group_tests(tests, NULL, NULL) : 77;
}
