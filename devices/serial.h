/* SPDX-License-Identifier: MIT */
/* A 16550A UART on I/O ports. What the guest sends goes to `out`, at once. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "util/moment.h"

struct serial;
struct vm;

/* What the guest sent first. */
struct serial_seen {
	struct moment byte, line; /* the line's end */
};

struct serial_ops {
	/* Mandatory. Bytes the guest sent; vCPU thread; must not block for long. */
	void (*output)(void *owner, const uint8_t *data, size_t len);
	/* Optional. The receive FIFO has room again after serial_input took less than given. */
	void (*input_ready)(void *owner);
};

/* At port `base`, ISA interrupt `irq`. 0 or -errno. */
int serial_create(struct vm *vm, uint16_t base, uint32_t irq, const struct serial_ops *ops,
		  void *owner, struct serial **out);
void serial_destroy(struct serial *serial);

/* Bytes for the guest. Any thread. How many were taken. */
size_t serial_input(struct serial *serial, const uint8_t *data, size_t len);

/* Any thread. */
const struct serial_seen *serial_seen(const struct serial *serial);
