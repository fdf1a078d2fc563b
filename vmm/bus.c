/* SPDX-License-Identifier: MIT */
#include "vmm/bus.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

int bus_init(struct bus *bus)
{
	memset(bus, 0, sizeof(*bus));
	return -pthread_rwlock_init(&bus->lock, NULL);
}

void bus_finish(struct bus *bus)
{
	free(bus->ranges);
	pthread_rwlock_destroy(&bus->lock);
}

/* Index of the first range that ends behind `addr`. */
static unsigned int first_behind_locked(const struct bus *bus, uint64_t addr)
{
	unsigned int low = 0, high = bus->count;

	while (low < high) {
		unsigned int mid = (low + high) / 2;
		const struct bus_range *range = &bus->ranges[mid];

		if (range->base + (range->len_bytes - 1) < addr)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static int grow_locked(struct bus *bus)
{
	unsigned int capacity = bus->capacity ? 2 * bus->capacity : 16;
	struct bus_range *ranges;

	if (bus->count < bus->capacity)
		return 0;
	ranges = realloc(bus->ranges, capacity * sizeof(*ranges));
	if (!ranges)
		return -ENOMEM;
	bus->ranges = ranges;
	bus->capacity = capacity;
	return 0;
}

static int add_locked(struct bus *bus, const struct bus_range *range)
{
	unsigned int at = first_behind_locked(bus, range->base);
	int r;

	if (at < bus->count && bus->ranges[at].base <= range->base + (range->len_bytes - 1))
		return -EEXIST;
	r = grow_locked(bus);
	if (r < 0)
		return r;
	memmove(&bus->ranges[at + 1], &bus->ranges[at], (bus->count - at) * sizeof(*range));
	bus->ranges[at] = *range;
	bus->count++;
	return 0;
}

int bus_add(struct bus *bus, uint64_t base, uint64_t len_bytes, const struct bus_ops *ops,
	    void *owner)
{
	const struct bus_range range = {base, len_bytes, ops, owner};
	int r;

	if (len_bytes == 0 || base + (len_bytes - 1) < base)
		return -EINVAL;
	pthread_rwlock_wrlock(&bus->lock);
	r = add_locked(bus, &range);
	pthread_rwlock_unlock(&bus->lock);
	return r;
}

void bus_del(struct bus *bus, uint64_t base)
{
	unsigned int at;

	pthread_rwlock_wrlock(&bus->lock);
	at = first_behind_locked(bus, base);
	if (at < bus->count && bus->ranges[at].base == base) {
		bus->count--;
		memmove(&bus->ranges[at], &bus->ranges[at + 1],
			(bus->count - at) * sizeof(bus->ranges[0]));
	}
	pthread_rwlock_unlock(&bus->lock);
}

/* A copy: the callback runs without the lock, so that it may move ranges itself. */
static bool find(struct bus *bus, uint64_t addr, unsigned int len, struct bus_range *out)
{
	bool found = false;
	unsigned int at;

	pthread_rwlock_rdlock(&bus->lock);
	at = first_behind_locked(bus, addr);
	if (at < bus->count && bus->ranges[at].base <= addr) {
		*out = bus->ranges[at];
		found = len <= out->len_bytes - (addr - out->base);
	}
	pthread_rwlock_unlock(&bus->lock);
	return found;
}

int bus_read(struct bus *bus, uint64_t addr, void *data, unsigned int len)
{
	struct bus_range range;

	memset(data, 0xff, len);
	if (!find(bus, addr, len, &range))
		return -ENODEV;
	range.ops->read(range.owner, addr - range.base, data, len);
	return 0;
}

int bus_write(struct bus *bus, uint64_t addr, const void *data, unsigned int len)
{
	struct bus_range range;

	if (!find(bus, addr, len, &range))
		return -ENODEV;
	range.ops->write(range.owner, addr - range.base, data, len);
	return 0;
}
