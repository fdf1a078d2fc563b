/* SPDX-License-Identifier: MIT */
/*
 * The start of a disk whose rest is zeroes. If it begins with "fix!", the checksums of a GPT
 * in it are made right first, so that what they guard is reached too.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "boot/disk.h"
#include "util/util.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#define DISK_BYTES GIB(1)
#define GPT 512
#define GPT_HEADER_BYTES 92

struct input {
	uint8_t *bytes;
	size_t len;
};

static int read_input(void *owner, void *buf, uint64_t len_bytes, uint64_t offset_bytes)
{
	const struct input *input = owner;

	if (!range_fits(offset_bytes, len_bytes, DISK_BYTES))
		abort();
	memset(buf, 0, len_bytes);
	if (offset_bytes < input->len)
		memcpy(buf, input->bytes + offset_bytes,
		       MIN(len_bytes, input->len - offset_bytes));
	return 0;
}

static const struct disk_ops ops = {.read = read_input};

static uint32_t crc32_of(const uint8_t *data, size_t len)
{
	uint32_t crc = ~0u;

	for (size_t i = 0; i < len; i++)
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ ((crc ^ data[i] >> bit) & 1 ? 0xEDB88320 : 0);
	return ~crc;
}

static void fix_checksums(struct input *input)
{
	uint8_t *header = input->bytes + GPT;
	uint64_t lba;
	uint32_t count, crc;

	if (input->len < GPT + 512)
		return;
	memcpy(&lba, header + 72, sizeof(lba));
	memcpy(&count, header + 80, sizeof(count));
	if (lba < 3 && range_fits(lba * 512, (uint64_t)count * 128, input->len)) {
		crc = crc32_of(input->bytes + lba * 512, (size_t)count * 128);
		memcpy(header + 88, &crc, sizeof(crc));
	}
	memset(header + 16, 0, 4);
	crc = crc32_of(header, GPT_HEADER_BYTES);
	memcpy(header + 16, &crc, sizeof(crc));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct partition *parts = calloc(PARTITIONS_MAX, sizeof(*parts));
	struct input input = {malloc(len + 1), len};
	const struct disk disk = {&ops, &input, DISK_BYTES};
	struct disk_root root;
	int count;

	if (!parts || !input.bytes)
		abort();
	memcpy(input.bytes, data, len);
	if (len >= 4 && memcmp(data, "fix!", 4) == 0)
		fix_checksums(&input);
	count = disk_partitions(&disk, parts);
	if (count > PARTITIONS_MAX)
		abort();
	for (int i = 0; i < count; i++)
		if (!parts[i].number || !parts[i].len_bytes ||
		    !range_fits(parts[i].start_bytes, parts[i].len_bytes, DISK_BYTES))
			abort();
	if (disk_find_root(&disk, &root) == 0 &&
	    (!root.device[0] || strnlen(root.device, sizeof(root.device)) == sizeof(root.device)))
		abort();
	free(input.bytes);
	free(parts);
	return 0;
}
