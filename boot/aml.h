/* SPDX-License-Identifier: MIT */
/*
 * Appending ACPI tables and AML (ACPI 6.5, chapters 20 and 6.4) to a buffer. Whatever has a
 * length is opened by a _begin, which returns its place, and closed by aml_end or its own
 * _end, which writes the length. What does not fit is dropped and sets `overflow`.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct aml {
	uint8_t *buf;
	size_t cap;
	size_t len;
	bool overflow;
};

void aml_init(struct aml *aml, void *buf, size_t cap);
void aml_append(struct aml *aml, const void *data, size_t len);
void aml_byte(struct aml *aml, uint8_t value);

/*
 * Names are one segment, up to four characters, with a leading \ for the root where wanted.
 * aml_name is Name(segment, ...): the object follows.
 */
size_t aml_scope_begin(struct aml *aml, const char *name);
size_t aml_device_begin(struct aml *aml, const char *name);
size_t aml_method_begin(struct aml *aml, const char *name, uint8_t flags);
size_t aml_package_begin(struct aml *aml, uint8_t elements);
size_t aml_if_begin(struct aml *aml);
void aml_end(struct aml *aml, size_t start);
void aml_name(struct aml *aml, const char *name);
void aml_name_string(struct aml *aml, const char *name);

/* Objects. An EISA id is seven characters, such as PNP0501. */
void aml_int(struct aml *aml, uint64_t value);
void aml_eisa_id(struct aml *aml, const char *id);
void aml_buffer(struct aml *aml, const void *data, uint8_t len);

/* Name(_CRS, ResourceTemplate() { ... }), and what may stand in it. */
size_t aml_resources_begin(struct aml *aml);
void aml_resources_end(struct aml *aml, size_t start);
void aml_res_io(struct aml *aml, uint16_t base, uint8_t len);
void aml_res_irq(struct aml *aml, unsigned int line); /* edge, active high */
void aml_res_memory32(struct aml *aml, uint32_t base, uint32_t len);
/* What a bridge passes on: bus numbers, I/O ports, memory. Bounds are inclusive. */
void aml_res_window_bus(struct aml *aml, uint16_t first, uint16_t last);
void aml_res_window_io(struct aml *aml, uint16_t first, uint16_t last);
void aml_res_window_memory32(struct aml *aml, uint32_t first, uint32_t last);
