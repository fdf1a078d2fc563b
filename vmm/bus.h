/* SPDX-License-Identifier: MIT */
/*
 * An address space of devices (I/O ports or MMIO): sorted, disjoint ranges. Lookups take a
 * read lock; callbacks run outside it, on the vCPU's thread, which is safe because devices
 * outlive all vCPUs. A device does its own locking.
 */
#pragma once

#include <pthread.h>
#include <stdint.h>

struct bus_ops {
	/* Mandatory. `offset` is relative to the range; `len` is 1, 2, 4 or 8; little endian. */
	void (*read)(void *owner, uint64_t offset, void *data, unsigned int len);
	void (*write)(void *owner, uint64_t offset, const void *data, unsigned int len);
};

struct bus_range {
	uint64_t base;
	uint64_t len_bytes;
	const struct bus_ops *ops;
	void *owner;
};

struct bus {
	pthread_rwlock_t lock; /* guards the fields below */
	struct bus_range *ranges;
	unsigned int count;
	unsigned int capacity;
};

int bus_init(struct bus *bus);
void bus_finish(struct bus *bus);

/* 0, -EEXIST where it overlaps, -EINVAL where empty or wrapping, -ENOMEM. Any thread. */
int bus_add(struct bus *bus, uint64_t base, uint64_t len_bytes, const struct bus_ops *ops,
	    void *owner);
/* Remove the range that starts at `base`. Any thread. A callback may still be running. */
void bus_del(struct bus *bus, uint64_t base);

/*
 * Dispatch one access. An access nobody claims, or that crosses a range's end, reads as all
 * ones and writes nothing; then the result is -ENODEV.
 */
int bus_read(struct bus *bus, uint64_t addr, void *data, unsigned int len);
int bus_write(struct bus *bus, uint64_t addr, const void *data, unsigned int len);
