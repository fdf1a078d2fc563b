/* SPDX-License-Identifier: MIT */
/*
 * Partition tables, as strict as Linux reads them: a GPT (UEFI 2.10, chapter 5) counts if its
 * protective MBR, header and entries are all valid; else the MBR's primary and logical
 * partitions count.
 */
#include "boot/disk.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/util.h"

#define MBR_ENTRIES 446
#define MBR_DISK_ID 440
#define MBR_SIGNATURE 510
#define MBR_TYPE_LINUX 0x83
#define MBR_TYPE_GPT 0xEE
/* Logical partitions: the chain of extended boot records is followed no further than this. */
#define LOGICAL_MAX 60

#define GPT_ENTRY_BYTES 128 /* the only size Linux takes */
#define GPT_ENTRIES_MAX 8192

struct mbr_entry {
	uint8_t status;
	uint8_t chs_first[3];
	uint8_t type;
	uint8_t chs_last[3];
	uint32_t start;
	uint32_t count;
} __attribute__((packed));

struct gpt_header {
	char signature[8];
	uint32_t revision;
	uint32_t header_bytes;
	uint32_t header_crc;
	uint32_t reserved;
	uint64_t my_lba;
	uint64_t alternate_lba;
	uint64_t first_usable_lba;
	uint64_t last_usable_lba;
	uint8_t disk_guid[16];
	uint64_t entries_lba;
	uint32_t entry_count;
	uint32_t entry_bytes;
	uint32_t entries_crc;
} __attribute__((packed));

struct gpt_entry {
	uint8_t type[16];
	uint8_t guid[16];
	uint64_t first_lba;
	uint64_t last_lba;
	uint64_t attributes;
	uint8_t name[72];
} __attribute__((packed));

_Static_assert(sizeof(struct gpt_entry) == GPT_ENTRY_BYTES, "UEFI 2.10, table 5.6");

/* 4f68bce3-e8cd-4db1-96e7-fbcaf984b709 and 44479540-f297-41b2-9af7-d131d5f0458a (x86 roots),
 * 0fc63daf-8483-4772-8e79-3d69d8477de4 (Linux file system), as they lie on disk. */
static const uint8_t guid_root_x86_64[16] = {0xE3, 0xBC, 0x68, 0x4F, 0xCD, 0xE8, 0xB1, 0x4D,
					     0x96, 0xE7, 0xFB, 0xCA, 0xF9, 0x84, 0xB7, 0x09};
static const uint8_t guid_root_x86[16] = {0x40, 0x95, 0x47, 0x44, 0x97, 0xF2, 0xB2, 0x41,
					  0x9A, 0xF7, 0xD1, 0x31, 0xD5, 0xF0, 0x45, 0x8A};
static const uint8_t guid_linux[16] = {0xAF, 0x3D, 0xC6, 0x0F, 0x83, 0x84, 0x72, 0x47,
				       0x8E, 0x79, 0x3D, 0x69, 0xD8, 0x47, 0x7D, 0xE4};

int disk_read(const struct disk *disk, void *buf, uint64_t len_bytes, uint64_t offset_bytes)
{
	if (!range_fits(offset_bytes, len_bytes, disk->size_bytes))
		return -ERANGE;
	return disk->ops->read(disk->owner, buf, len_bytes, offset_bytes);
}

static uint32_t crc32_of(const void *data, size_t len)
{
	const uint8_t *bytes = data;
	uint32_t crc = ~0u;

	while (len--) {
		crc ^= *bytes++;
		for (int bit = 0; bit < 8; bit++)
			crc = (crc >> 1) ^ (0xEDB88320 & -(crc & 1));
	}
	return ~crc;
}

/* The first three groups are little endian on disk, the rest is bytes in order. */
static void guid_text(const uint8_t *g, char *out, size_t size)
{
	snprintf(out, size,
		 "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x",
		 g[3], g[2], g[1], g[0], g[5], g[4], g[7], g[6], g[8], g[9], g[10], g[11], g[12],
		 g[13], g[14], g[15]);
}

static enum partition_use gpt_use(const uint8_t *type)
{
	if (!memcmp(type, guid_root_x86_64, 16) || !memcmp(type, guid_root_x86, 16))
		return PARTITION_LINUX_ROOT;
	return memcmp(type, guid_linux, 16) ? PARTITION_OTHER : PARTITION_LINUX;
}

static bool gpt_header_valid(const uint8_t *sector, const struct gpt_header *hdr,
			     uint64_t sectors)
{
	uint8_t copy[DISK_SECTOR];

	if (memcmp(hdr->signature, "EFI PART", 8) != 0 || hdr->my_lba != 1)
		return false;
	if (hdr->header_bytes < sizeof(*hdr) || hdr->header_bytes > DISK_SECTOR)
		return false;
	memcpy(copy, sector, sizeof(copy));
	memset(copy + offsetof(struct gpt_header, header_crc), 0, sizeof(hdr->header_crc));
	if (crc32_of(copy, hdr->header_bytes) != hdr->header_crc)
		return false;
	return hdr->entry_bytes == GPT_ENTRY_BYTES && hdr->entry_count <= GPT_ENTRIES_MAX &&
	       hdr->last_usable_lba < sectors && hdr->first_usable_lba <= hdr->last_usable_lba;
}

static unsigned int gpt_collect(const struct gpt_header *hdr, const struct gpt_entry *entries,
				struct partition *out)
{
	static const uint8_t unused[16];
	unsigned int count = 0;

	for (uint32_t i = 0; i < hdr->entry_count && count < PARTITIONS_MAX; i++) {
		const struct gpt_entry *e = &entries[i];
		struct partition *part = &out[count];

		if (!memcmp(e->type, unused, 16) || e->first_lba > e->last_lba ||
		    e->first_lba < hdr->first_usable_lba || e->last_lba > hdr->last_usable_lba)
			continue;
		part->number = i + 1;
		part->use = gpt_use(e->type);
		part->start_bytes = e->first_lba * DISK_SECTOR;
		part->len_bytes = (e->last_lba - e->first_lba + 1) * DISK_SECTOR;
		guid_text(e->guid, part->partuuid, sizeof(part->partuuid));
		count++;
	}
	return count;
}

/* The number of partitions, 0 where the GPT is not valid, or -errno. */
static int gpt_read(const struct disk *disk, struct partition *out)
{
	uint8_t sector[DISK_SECTOR];
	struct gpt_header hdr;
	uint64_t sectors = disk->size_bytes / DISK_SECTOR;
	uint64_t bytes;
	void *entries;
	int ret;

	if (sectors < 2)
		return 0;
	ret = disk_read(disk, sector, sizeof(sector), DISK_SECTOR);
	if (ret < 0)
		return ret;
	memcpy(&hdr, sector, sizeof(hdr));
	if (!gpt_header_valid(sector, &hdr, sectors))
		return 0;
	bytes = (uint64_t)hdr.entry_count * GPT_ENTRY_BYTES;
	if (!bytes || !range_fits(hdr.entries_lba, bytes / DISK_SECTOR + 1, sectors))
		return 0;
	entries = malloc(align_up(bytes, DISK_SECTOR));
	if (!entries)
		return -ENOMEM;
	ret = disk_read(disk, entries, align_up(bytes, DISK_SECTOR),
			hdr.entries_lba * DISK_SECTOR);
	if (ret == 0 && crc32_of(entries, bytes) == hdr.entries_crc)
		ret = (int)gpt_collect(&hdr, entries, out);
	free(entries);
	return ret;
}

static bool is_extended(uint8_t type)
{
	return type == 0x05 || type == 0x0F || type == 0x85;
}

static bool mbr_signed(const uint8_t *sector)
{
	return sector[MBR_SIGNATURE] == 0x55 && sector[MBR_SIGNATURE + 1] == 0xAA;
}

/* Add one MBR partition if it lies inside the disk. */
static void mbr_add(const struct disk *disk, struct partition *out, unsigned int *count,
		    unsigned int number, const struct mbr_entry *entry, uint64_t base,
		    uint32_t disk_id)
{
	uint64_t start = (base + entry->start) * DISK_SECTOR;
	uint64_t len = (uint64_t)entry->count * DISK_SECTOR;
	struct partition *part = &out[*count];

	if (!len || !start || !range_fits(start, len, disk->size_bytes) ||
	    *count == PARTITIONS_MAX)
		return;
	part->number = number;
	part->use = entry->type == MBR_TYPE_LINUX ? PARTITION_LINUX : PARTITION_OTHER;
	part->start_bytes = start;
	part->len_bytes = len;
	part->partuuid[0] = '\0';
	if (disk_id)
		snprintf(part->partuuid, sizeof(part->partuuid), "%08x-%02x", disk_id, number);
	(*count)++;
}

/*
 * Logical partitions: each extended boot record holds one, and a link to the next record
 * relative to the extended partition. Records may point anywhere, so the walk is bounded.
 */
static int mbr_logical(const struct disk *disk, struct partition *out, unsigned int *count,
		       uint64_t extended, uint32_t disk_id)
{
	uint64_t at = extended;

	for (unsigned int number = 5; number < 5 + LOGICAL_MAX; number++) {
		uint8_t sector[DISK_SECTOR];
		struct mbr_entry entries[2];
		int ret = disk_read(disk, sector, sizeof(sector), at * DISK_SECTOR);

		if (ret == -ERANGE || (ret == 0 && !mbr_signed(sector)))
			return 0;
		if (ret < 0)
			return ret;
		memcpy(entries, sector + MBR_ENTRIES, sizeof(entries));
		mbr_add(disk, out, count, number, &entries[0], at, disk_id);
		if (!is_extended(entries[1].type) || !entries[1].start)
			return 0;
		at = extended + entries[1].start;
	}
	return 0;
}

static int mbr_read(const struct disk *disk, const uint8_t *sector, struct partition *out)
{
	struct mbr_entry entries[4];
	unsigned int count = 0;
	uint32_t disk_id;
	int ret = 0;

	memcpy(entries, sector + MBR_ENTRIES, sizeof(entries));
	memcpy(&disk_id, sector + MBR_DISK_ID, sizeof(disk_id));
	/* A boot sector that is no partition table has anything here. */
	for (int i = 0; i < 4; i++)
		if (entries[i].status & 0x7F)
			return 0;
	for (unsigned int i = 0; i < 4 && ret == 0; i++) {
		if (!entries[i].type)
			continue;
		if (is_extended(entries[i].type))
			ret = mbr_logical(disk, out, &count, entries[i].start, disk_id);
		else
			mbr_add(disk, out, &count, i + 1, &entries[i], 0, disk_id);
	}
	return ret < 0 ? ret : (int)count;
}

int disk_partitions(const struct disk *disk, struct partition *out)
{
	uint8_t sector[DISK_SECTOR];
	int ret;

	if (disk->size_bytes < DISK_SECTOR)
		return 0;
	ret = disk_read(disk, sector, sizeof(sector), 0);
	if (ret < 0)
		return ret;
	if (!mbr_signed(sector))
		return 0;
	for (int i = 0; i < 4; i++)
		if (sector[MBR_ENTRIES + i * 16 + offsetof(struct mbr_entry, type)] ==
		    MBR_TYPE_GPT) {
			ret = gpt_read(disk, out);
			if (ret != 0)
				return ret;
		}
	return mbr_read(disk, sector, out);
}
