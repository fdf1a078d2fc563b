/* SPDX-License-Identifier: MIT */
#include "boot/table.h"

#include <string.h>

/* ACPI 6.5, 5.2.6 */
struct header {
	char signature[4];
	uint32_t len_bytes;
	uint8_t revision;
	uint8_t checksum;
	char oem_id[6];
	char oem_table_id[8];
	uint32_t oem_revision;
	char creator_id[4];
	uint32_t creator_revision;
} __attribute__((packed));

uint8_t table_checksum(const void *data, size_t len)
{
	const uint8_t *bytes = data;
	uint8_t sum = 0;

	while (len--)
		sum += *bytes++;
	return (uint8_t)-sum;
}

size_t table_align(struct aml *area, size_t align)
{
	while (area->len % align && !area->overflow)
		aml_byte(area, 0);
	return area->len;
}

size_t table_begin(struct aml *area, const char *signature, uint8_t revision)
{
	struct header header = {
		.revision = revision,
		.oem_id = TABLE_OEM_ID,
		.oem_table_id = "MINIVMM ",
		.oem_revision = 1,
		.creator_id = "MVMM",
		.creator_revision = 1,
	};
	size_t start = table_align(area, 16);

	memcpy(header.signature, signature, sizeof(header.signature));
	aml_append(area, &header, sizeof(header));
	return start;
}

void table_end(struct aml *area, size_t start)
{
	uint32_t len = (uint32_t)(area->len - start);
	uint8_t *table = area->buf + start;

	if (area->overflow)
		return;
	memcpy(table + offsetof(struct header, len_bytes), &len, sizeof(len));
	table[offsetof(struct header, checksum)] = table_checksum(table, len);
}
