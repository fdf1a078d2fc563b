/* SPDX-License-Identifier: MIT */
/* The qcow2 file format, as QEMU's docs/interop/qcow2.txt defines it, and its header. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define QCOW2_MAGIC 0x514649fbu

#define QCOW2_INCOMPAT_DIRTY (1ull << 0)
#define QCOW2_INCOMPAT_CORRUPT (1ull << 1)
#define QCOW2_INCOMPAT_DATA_FILE (1ull << 2)
#define QCOW2_INCOMPAT_COMPRESSION (1ull << 3)
#define QCOW2_INCOMPAT_EXTENDED_L2 (1ull << 4)
#define QCOW2_AUTOCLEAR_DATA_RAW (1ull << 1) /* the data file alone is the disk */

#define QCOW2_INCOMPAT_KNOWN ((1ull << 5) - 1)
#define QCOW2_COMPAT_LAZY (1ull << 0)
#define QCOW2_AUTOCLEAR_BITMAPS (1ull << 0)

#define QCOW2_CRYPT_AES 1u
#define QCOW2_CRYPT_LUKS 2u

#define QCOW2_EXT_END 0u
#define QCOW2_EXT_BACKING_FORMAT 0xe2792acau
#define QCOW2_EXT_FEATURE_NAMES 0x6803f857u
#define QCOW2_EXT_BITMAPS 0x23852875u
#define QCOW2_EXT_CRYPT 0x0537be77u
#define QCOW2_EXT_DATA_FILE 0x44415441u
#define QCOW2_FEATURE_NAME_BYTES 48u

/* L1 and L2 entries */
#define QCOW2_COPIED (1ull << 63)
#define QCOW2_COMPRESSED (1ull << 62)
#define QCOW2_ZERO (1ull << 0) /* version 3; of an entry that is not compressed */
#define QCOW2_OFFSET 0x00fffffffffffe00ull

#define QCOW2_HEADER_V2_BYTES 72u
#define QCOW2_HEADER_V3_BYTES 104u

/* Where fields lie that are written to */
#define QCOW2_AT_REFTABLE 48u /* offset, then clusters */
#define QCOW2_AT_INCOMPAT 72u
#define QCOW2_AT_AUTOCLEAR 88u

/* Limits */
#define QCOW2_DISK_MAX (1ull << 46)
#define QCOW2_L1_BYTES_MAX (32u << 20)
#define QCOW2_REFTABLE_BYTES_MAX (8u << 20)
#define QCOW2_SNAPSHOTS_MAX 65536u
#define QCOW2_SNAPSHOT_TABLE_BYTES_MAX (64u << 20)
#define QCOW2_BACKING_NAME_MAX 1023u
#define QCOW2_FORMAT_NAME_MAX 15u
#define QCOW2_DATA_NAME_MAX 1023u

/* A part of the file, as the header tells it: unchecked. */
struct q2_area {
	uint64_t offset;
	uint64_t len;
};

/* The header in the machine's byte order, and where it leads. */
struct q2_header {
	bool complete; /* all of this could be read, whether or not it makes sense */
	bool sound;    /* and L1 and refcount tables are where they can be, of a known kind */
	uint32_t version;
	uint64_t backing_offset;
	uint32_t backing_len;
	uint32_t cluster_bits;
	uint64_t size_bytes;
	uint32_t crypt; /* 0 or QCOW2_CRYPT_AES */
	uint32_t l1_entries;
	uint64_t l1_offset;
	uint64_t reftable_offset;
	uint32_t reftable_clusters;
	uint32_t snapshots;
	uint64_t snapshots_offset;
	uint64_t incompatible;
	uint64_t compatible;
	uint64_t autoclear;
	uint32_t refcount_order;
	uint32_t header_bytes;
	uint8_t compression; /* enum decompress_type */
	char backing[QCOW2_BACKING_NAME_MAX + 1]; /* "": none */
	char backing_format[QCOW2_FORMAT_NAME_MAX + 1]; /* "": not said */
	char data_file[QCOW2_DATA_NAME_MAX + 1]; /* "": not said */
	uint32_t data_file_len; /* as the image has it */
	struct q2_area crypt_area;
	uint32_t bitmaps;
	struct q2_area bitmap_area; /* their directory */
};

/* With subclusters an entry is followed by their bitmaps. */
static inline uint32_t q2_l2_entry_bytes(const struct q2_header *h)
{
	return h->incompatible & QCOW2_INCOMPAT_EXTENDED_L2 ? 16 : 8;
}

/* Why an image is refused and what helps: what follows "disk NAME: ". */
struct q2_refusal {
	char text[1024];
};

/*
 * Read and check the header in `head`, the file's first `len` bytes (a cluster, or all there
 * is), of a file of `file_bytes`. 0, -EINVAL (damaged) or -ENOTSUP (a feature); logs as `name`.
 */
int q2_parse_header(const unsigned char *head, size_t len, uint64_t file_bytes,
		    const char *name, bool readonly, struct q2_header *out);
/* The same for who wants to know: `out` is filled as far as it goes, nothing is logged. */
int q2_read_header(const unsigned char *head, size_t len, uint64_t file_bytes, const char *name,
		   bool readonly, struct q2_header *out, struct q2_refusal *why);
