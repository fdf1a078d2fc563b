/* SPDX-License-Identifier: MIT */
/* The header of QCOW, version 1: what is in it is checked here, before libqcow sees it. */
#include <endian.h>
#include <errno.h>
#include <string.h>

#include "block/qcow/image.h"
#include "block/qcow2/format.h"
#include "util/log.h"
#include "util/util.h"

struct wire_header {
	uint32_t magic;
	uint32_t version;
	uint64_t backing_offset;
	uint32_t backing_len;
	uint32_t mtime;
	uint64_t size;
	uint8_t cluster_bits;
	uint8_t l2_bits;
	uint16_t padding;
	uint32_t crypt;
	uint64_t l1_offset;
};
_Static_assert(sizeof(struct wire_header) == QCOW1_HEADER_BYTES, "packed by itself");

static int damaged(const char *name, const char *what, uint64_t value)
{
	log_error("disk %s: damaged qcow image: %s (%llu)", name, what,
		  (unsigned long long)value);
	return -EINVAL;
}

static int check(const struct qcow1_header *h, uint64_t file_bytes, const char *name)
{
	if (h->cluster_bits < 9 || h->cluster_bits > 16)
		return damaged(name, "bad cluster size, as a power of two", h->cluster_bits);
	if (h->l2_bits < 6 || h->l2_bits > 13)
		return damaged(name, "bad size of L2 tables, as a power of two", h->l2_bits);
	if (h->crypt > 1)
		return damaged(name, "unknown encryption", h->crypt);
	if (!h->size_bytes || h->size_bytes > QCOW2_DISK_MAX)
		return damaged(name, "the disk has no size, or more than 64 TiB", h->size_bytes);
	if (h->l1_entries > QCOW2_L1_BYTES_MAX / 8)
		return damaged(name, "the L1 table is too large", h->l1_entries);
	if (h->l1_offset < QCOW1_HEADER_BYTES || h->l1_offset % 8 ||
	    !range_fits(h->l1_offset, 8 * h->l1_entries, file_bytes))
		return damaged(name, "bad offset of the L1 table", h->l1_offset);
	return 0;
}

int qcow1_parse_header(const unsigned char *head, size_t len, uint64_t file_bytes,
		       const char *name, struct qcow1_header *out)
{
	struct wire_header wire;
	struct qcow1_header h;
	uint32_t bits;
	int r;

	if (len < sizeof(wire))
		return damaged(name, "the header ends early", len);
	memcpy(&wire, head, sizeof(wire));
	if (be32toh(wire.magic) != QCOW2_MAGIC || be32toh(wire.version) != 1)
		return damaged(name, "no qcow header of version", be32toh(wire.version));
	h = (struct qcow1_header){
		.backing_offset = be64toh(wire.backing_offset),
		.size_bytes = be64toh(wire.size),
		.cluster_bits = wire.cluster_bits,
		.l2_bits = wire.l2_bits,
		.crypt = be32toh(wire.crypt),
		.l1_offset = be64toh(wire.l1_offset),
	};
	bits = h.cluster_bits + h.l2_bits;
	if (bits < 64)
		h.l1_entries = (h.size_bytes >> bits) +
			       !!(h.size_bytes & ((1ull << bits) - 1));
	r = check(&h, file_bytes, name);
	if (!r)
		*out = h;
	return r;
}
