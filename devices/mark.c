/* SPDX-License-Identifier: MIT */
#include "devices/mark.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "util/util.h"
#include "vmm/bus.h"
#include "vmm/layout.h"
#include "vmm/vm.h"

struct mark {
	struct vm *vm;
	atomic_uint taken; /* more than MARKS_MAX if some were lost */
	struct {
		uint8_t byte;
		uint64_t ns;
	} slots[MARKS_MAX];
};

static void port_read(void *owner, uint64_t offset, void *data, unsigned int len)
{
	memset(data, 0xFF, len);
}

static void port_write(void *owner, uint64_t offset, const void *data, unsigned int len)
{
	struct mark *mark = owner;
	unsigned int slot;

	/* A guest that never ends would wrap it around. */
	if (atomic_load(&mark->taken) >= MARKS_MAX)
		return;
	slot = atomic_fetch_add(&mark->taken, 1);
	if (slot >= MARKS_MAX)
		return;
	mark->slots[slot].byte = *(const uint8_t *)data;
	mark->slots[slot].ns = monotonic_ns();
}

static const struct bus_ops port_ops = {
	.read = port_read,
	.write = port_write,
};

int mark_create(struct vm *vm, struct mark **out)
{
	struct mark *mark = calloc(1, sizeof(*mark));
	int r;

	if (!mark)
		return -ENOMEM;
	mark->vm = vm;
	r = bus_add(&vm->pio, LAYOUT_PORT_MARK, 1, &port_ops, mark);
	if (r < 0) {
		free(mark);
		return r;
	}
	*out = mark;
	return 0;
}

void mark_destroy(struct mark *mark)
{
	if (!mark)
		return;
	bus_del(&mark->vm->pio, LAYOUT_PORT_MARK);
	free(mark);
}

unsigned int mark_count(const struct mark *mark)
{
	return MIN(atomic_load(&mark->taken), (unsigned int)MARKS_MAX);
}

uint8_t mark_get(const struct mark *mark, unsigned int index, uint64_t *ns)
{
	*ns = mark->slots[index].ns;
	return mark->slots[index].byte;
}
