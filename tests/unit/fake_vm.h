/* SPDX-License-Identifier: MIT */
/*
 * A VM without KVM, for tests of chips: port accesses go straight to what the chip claimed,
 * interrupt lines and the VM's end are recorded. It stands in for vmm/ at link time, so it is
 * included once per test.
 */
#pragma once

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <string.h>

#include <cmocka.h>

#include "util/util.h"
#include "vmm/bus.h"
#include "vmm/irq.h"
#include "vmm/vm.h"

static struct bus_range fake_ranges[8];
static unsigned int fake_count;
static unsigned int fake_add_fails_at = UINT32_MAX; /* the bus_add that fails, from 0 */
static bool fake_lines[24];
static unsigned int fake_line_changes;
static enum vm_end fake_end;
static struct vm fake_vm;

int bus_add(struct bus *bus, uint64_t base, uint64_t len_bytes, const struct bus_ops *ops,
	    void *owner)
{
	if (fake_count == fake_add_fails_at)
		return -EEXIST;
	assert_true(fake_count < ARRAY_LEN(fake_ranges));
	fake_ranges[fake_count++] = (struct bus_range){ base, len_bytes, ops, owner };
	return 0;
}

void bus_del(struct bus *bus, uint64_t base)
{
	for (unsigned int i = 0; i < fake_count; i++) {
		if (fake_ranges[i].base != base)
			continue;
		fake_ranges[i] = fake_ranges[--fake_count];
		return;
	}
	fail_msg("nothing at 0x%llx", (unsigned long long)base);
}

void irq_set_line(struct irq *irq, uint32_t gsi, bool level)
{
	assert_true(gsi < ARRAY_LEN(fake_lines));
	/* Chips report changes, not levels. */
	assert_int_not_equal(fake_lines[gsi], level);
	fake_lines[gsi] = level;
	fake_line_changes++;
}

void vm_end(struct vm *vm, enum vm_end how)
{
	if (fake_end == VM_RUNNING)
		fake_end = how;
}

static inline void fake_reset(void)
{
	assert_int_equal(fake_count, 0);
	memset(fake_lines, 0, sizeof(fake_lines));
	memset(&fake_vm, 0, sizeof(fake_vm));
	fake_line_changes = 0;
	fake_add_fails_at = UINT32_MAX;
	fake_end = VM_RUNNING;
}

static inline const struct bus_range *fake_find(uint16_t port, unsigned int len)
{
	for (unsigned int i = 0; i < fake_count; i++) {
		const struct bus_range *range = &fake_ranges[i];

		if (port >= range->base && port + len <= range->base + range->len_bytes)
			return range;
	}
	fail_msg("no port 0x%x", port);
	return NULL;
}

static inline uint32_t in(uint16_t port, unsigned int len)
{
	const struct bus_range *range = fake_find(port, len);
	uint32_t value = 0;

	range->ops->read(range->owner, port - range->base, &value, len);
	return value;
}

static inline void out(uint16_t port, unsigned int len, uint32_t value)
{
	const struct bus_range *range = fake_find(port, len);

	range->ops->write(range->owner, port - range->base, &value, len);
}
