/* SPDX-License-Identifier: MIT */
/* ACPI tables as stretches of one buffer. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "boot/aml.h"

struct topology;

#define TABLE_OEM_ID "MINIVM"

/* Pad to a multiple of `align` with zeroes; the place reached. */
size_t table_align(struct aml *area, size_t align);

/* Start a table with its header; table_end writes length and checksum. */
size_t table_begin(struct aml *area, const char *signature, uint8_t revision);
void table_end(struct aml *area, size_t start);

/* What makes the sum of all bytes 0. */
uint8_t table_checksum(const void *data, size_t len);

/* The tables that have a file of their own; where they start in `area`. */
size_t madt_add(struct aml *area, const struct topology *topology);
size_t fadt_add(struct aml *area, uint64_t facs_gpa, uint64_t dsdt_gpa);
size_t dsdt_add(struct aml *area);
