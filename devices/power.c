/* SPDX-License-Identifier: MIT */
/*
 * PM1a event block: a status bit stays until the guest writes a one to it; the SCI is high
 * while a status bit is set whose enable bit is set too. Only the power button sets one.
 * A booting system clears the status before it first enables the button, so a press that came
 * earlier is kept, and shows when the enable bit rises; until the guest clears it, enabled.
 *
 * PM1a control: the machine is always in ACPI mode, so SCI_EN reads as one; S5 ends the VM.
 *
 * There is no i8042, only its reset command. Its status port reads as all ones but for bit 1:
 * "output full" for ever makes a driver that drains the buffer give up and call it absent, as
 * on a floating bus, and "input empty" lets loops end that wait before they send the reset.
 */
#include "devices/power.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "util/util.h"
#include "vmm/bus.h"
#include "vmm/irq.h"
#include "vmm/layout.h"
#include "vmm/vm.h"

/* Bits of PM1 status and enable (ACPI 6.4, tables 4.16 and 4.17). */
#define PM1_TMR 0x0001
#define PM1_GBL 0x0020
#define PM1_PWRBTN 0x0100
#define PM1_SLPBTN 0x0200
#define PM1_RTC 0x0400
#define PM1_ENABLE_BITS (PM1_TMR | PM1_GBL | PM1_PWRBTN | PM1_SLPBTN | PM1_RTC)

/* Bits of PM1 control (table 4.18). */
#define CNT_SCI_EN 0x0001
#define CNT_BM_RLD 0x0002
#define CNT_SLP_TYP 0x1C00
#define CNT_SLP_TYP_SHIFT 10
#define CNT_SLP_EN 0x2000

#define EVT_BYTES 4
#define CNT_BYTES 2

#define I8042_STATUS 0xFD
#define I8042_CMD_RESET 0xFE

struct power {
	struct vm *vm;
	pthread_mutex_t lock; /* guards the fields below */
	uint16_t status, enable, control;
	bool pressed; /* and the guest has not answered with the button enabled */
	bool line;
};

static void update_sci(struct power *power)
{
	bool line = power->status & power->enable;

	if (line == power->line)
		return;
	power->line = line;
	irq_set_line(&power->vm->irq, LAYOUT_IRQ_SCI, line);
}

static void evt_read(void *owner, uint64_t offset, void *data, unsigned int len)
{
	struct power *power = owner;
	uint32_t value;

	pthread_mutex_lock(&power->lock);
	value = power->status | (uint32_t)power->enable << 16;
	pthread_mutex_unlock(&power->lock);
	value >>= offset * 8;
	memcpy(data, &value, len);
}

static void evt_write(void *owner, uint64_t offset, const void *data, unsigned int len)
{
	struct power *power = owner;
	uint32_t value = 0, written = 0;
	uint16_t rises;

	memcpy((uint8_t *)&value + offset, data, len);
	memset((uint8_t *)&written + offset, 0xFF, len);
	pthread_mutex_lock(&power->lock);
	power->status &= ~(uint16_t)value;
	if (value & power->enable & PM1_PWRBTN)
		power->pressed = false;
	rises = value >> 16 & PM1_ENABLE_BITS & ~power->enable;
	power->enable &= ~(written >> 16);
	power->enable |= value >> 16 & PM1_ENABLE_BITS;
	if (power->pressed && rises & PM1_PWRBTN)
		power->status |= PM1_PWRBTN;
	update_sci(power);
	pthread_mutex_unlock(&power->lock);
}

static void cnt_read(void *owner, uint64_t offset, void *data, unsigned int len)
{
	struct power *power = owner;
	uint16_t value;

	pthread_mutex_lock(&power->lock);
	value = power->control | CNT_SCI_EN;
	pthread_mutex_unlock(&power->lock);
	value >>= offset * 8;
	memcpy(data, &value, len);
}

static void cnt_write(void *owner, uint64_t offset, const void *data, unsigned int len)
{
	struct power *power = owner;
	uint16_t value;
	bool sleep;

	pthread_mutex_lock(&power->lock);
	value = power->control;
	memcpy((uint8_t *)&value + offset, data, len);
	power->control = value & (CNT_BM_RLD | CNT_SLP_TYP);
	sleep = value & CNT_SLP_EN;
	pthread_mutex_unlock(&power->lock);
	/* The DSDT names S5 only; any other sleep type goes unanswered. */
	if (sleep && (value & CNT_SLP_TYP) >> CNT_SLP_TYP_SHIFT == LAYOUT_S5_SLP_TYP)
		vm_end(power->vm, VM_POWEROFF);
}

static void i8042_data_read(void *owner, uint64_t offset, void *data, unsigned int len)
{
	memset(data, 0xFF, len);
}

static void i8042_data_write(void *owner, uint64_t offset, const void *data, unsigned int len)
{
}

static void i8042_cmd_read(void *owner, uint64_t offset, void *data, unsigned int len)
{
	memset(data, I8042_STATUS, len);
}

static void i8042_cmd_write(void *owner, uint64_t offset, const void *data, unsigned int len)
{
	struct power *power = owner;

	if (*(const uint8_t *)data == I8042_CMD_RESET)
		vm_end(power->vm, VM_RESET);
}

static const struct bus_ops evt_ops = { .read = evt_read, .write = evt_write };
static const struct bus_ops cnt_ops = { .read = cnt_read, .write = cnt_write };
static const struct bus_ops i8042_data_ops = {
	.read = i8042_data_read,
	.write = i8042_data_write,
};
static const struct bus_ops i8042_cmd_ops = {
	.read = i8042_cmd_read,
	.write = i8042_cmd_write,
};

static const struct {
	uint16_t base, len_bytes;
	const struct bus_ops *ops;
} ports[] = {
	{ LAYOUT_PORT_PM1_EVT, EVT_BYTES, &evt_ops },
	{ LAYOUT_PORT_PM1_CNT, CNT_BYTES, &cnt_ops },
	{ LAYOUT_PORT_I8042_DATA, 1, &i8042_data_ops },
	{ LAYOUT_PORT_I8042_CMD, 1, &i8042_cmd_ops },
};

void power_press_button(struct power *power)
{
	pthread_mutex_lock(&power->lock);
	power->pressed = true;
	power->status |= PM1_PWRBTN;
	update_sci(power);
	pthread_mutex_unlock(&power->lock);
}

int power_create(struct vm *vm, struct power **out)
{
	struct power *power = calloc(1, sizeof(*power));
	unsigned int claimed;
	int ret;

	if (!power)
		return -ENOMEM;
	power->vm = vm;
	pthread_mutex_init(&power->lock, NULL);
	for (claimed = 0; claimed < ARRAY_LEN(ports); claimed++) {
		ret = bus_add(&vm->pio, ports[claimed].base, ports[claimed].len_bytes,
			      ports[claimed].ops, power);
		if (ret < 0)
			goto err_release_ports;
	}
	*out = power;
	return 0;

err_release_ports:
	while (claimed)
		bus_del(&vm->pio, ports[--claimed].base);
	pthread_mutex_destroy(&power->lock);
	free(power);
	return ret;
}

void power_destroy(struct power *power)
{
	if (!power)
		return;
	for (unsigned int i = 0; i < ARRAY_LEN(ports); i++)
		bus_del(&power->vm->pio, ports[i].base);
	pthread_mutex_destroy(&power->lock);
	free(power);
}
