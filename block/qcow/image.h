/* SPDX-License-Identifier: MIT */
/* What libqcow may be given to read: images that it is known to read right. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bio;

#define QCOW1_HEADER_BYTES 48u

struct qcow_image {
	uint32_t version;      /* 1: QCOW; 2, 3: qcow2 */
	uint64_t size_bytes;   /* of the disk, exactly */
	uint32_t cluster_bits;
	bool encrypted;        /* by AES */
};

struct qcow_check {
	const char *name;  /* for messages */
	bool has_password;
	bool compare;      /* wrong data is what is looked for: let it read what it can open */
};

/*
 * Read the header and tables of the image in `bio` and check them: all limits, and that libqcow
 * reads such an image right. 0 or -errno; logs.
 */
int qcow_image_check(struct bio *bio, const struct qcow_check *check, struct qcow_image *out);

/* The header of version 1, in tables and limits as QEMU knows it. */
struct qcow1_header {
	uint64_t backing_offset;
	uint64_t size_bytes;
	uint32_t cluster_bits;
	uint32_t l2_bits; /* log2 of entries per L2 table */
	uint32_t crypt;   /* 0, or 1: AES */
	uint64_t l1_offset;
	uint64_t l1_entries; /* from the size */
};

/* `head`: the file's first `len` bytes. 0 or -EINVAL; logs as `name`. */
int qcow1_parse_header(const unsigned char *head, size_t len, uint64_t file_bytes,
		       const char *name, struct qcow1_header *out);
