/* SPDX-License-Identifier: MIT */
#include "judge.h"

#include <endian.h>
#include <libdeflate.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#define HOST 0x00fffffffffffe00ull
#define COPIED (1ull << 63)
#define PACKED (1ull << 62)
#define DATA_FILE 4

/* What the header says. */
struct head {
	uint32_t version, bits, l1_entries, snapshots;
	uint64_t size, l1, table, table_clusters, snapshot_table;
	bool zstd;
};

static bool damaged(struct judge *judge, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

static bool damaged(struct judge *judge, const char *fmt, ...)
{
	va_list args;

	if (judge->why[0])
		return false;
	va_start(args, fmt);
	vsnprintf(judge->why, sizeof(judge->why), fmt, args);
	va_end(args);
	return false;
}

/* Big-endian, of 1 to 8 bytes; 0 past the end. */
static uint64_t field(const struct judge *judge, uint64_t at, unsigned int len)
{
	uint64_t value = 0;

	for (unsigned int i = 0; i < len; i++)
		value = value << 8 | (at + i < judge->size ? judge->bytes[at + i] : 0);
	return value;
}

static uint64_t entry_at(const struct judge *judge, uint64_t table, uint64_t index)
{
	uint64_t at = table + 8 * index, value;

	if (at + 8 > judge->size)
		return field(judge, at, 8);
	memcpy(&value, judge->bytes + at, 8);
	return be64toh(value);
}

static bool read_head(struct judge *judge, struct head *head)
{
	*head = (struct head){
		.version = (uint32_t)field(judge, 4, 4),
		.bits = (uint32_t)field(judge, 20, 4),
		.size = field(judge, 24, 8),
		.l1_entries = (uint32_t)field(judge, 36, 4),
		.l1 = field(judge, 40, 8),
		.table = field(judge, 48, 8),
		.table_clusters = field(judge, 56, 4),
		.snapshots = (uint32_t)field(judge, 60, 4),
		.snapshot_table = field(judge, 64, 8),
	};
	if (field(judge, 0, 4) != 0x514649fb || head->bits < 9 || head->bits > 21)
		return damaged(judge, "no header");
	if (head->version < 3)
		return true;
	head->zstd = field(judge, 72, 8) & 8 && field(judge, 104, 1) == 1;
	if (!(field(judge, 72, 8) & DATA_FILE) != !judge->data)
		return damaged(judge, "a data file, or none");
	if (field(judge, 72, 8) & ~(8ull | DATA_FILE))
		return damaged(judge, "incompatible features 0x%llx",
			       (unsigned long long)field(judge, 72, 8));
	return field(judge, 96, 4) == 4 || damaged(judge, "refcounts of other than 16 bits");
}

/* --- counting --- */

struct count {
	struct judge *judge;
	struct head head;
	uint64_t clusters; /* of the file, the last one in part maybe */
	uint32_t *refs;
	uint32_t *data;    /* of these, from L2 */
	bool in_use;       /* not a snapshot's tables */
};

static uint64_t refcount(const struct count *count, uint64_t cluster)
{
	uint32_t bits = count->head.bits;
	uint64_t per_block = 1ull << (bits - 1), block = cluster / per_block;

	if (block >= count->head.table_clusters << bits >> 3)
		return 0;
	block = entry_at(count->judge, count->head.table, block) & ~511ull;
	return block ? field(count->judge, block + 2 * (cluster % per_block), 2) : 0;
}

static bool refer(struct count *count, uint64_t at, uint64_t len, const char *what)
{
	uint64_t first = at >> count->head.bits, last = (at + len - 1) >> count->head.bits;

	if (!len)
		return true;
	if (last >= count->clusters || last < first)
		return damaged(count->judge, "%s outside of the file, at 0x%llx", what,
			       (unsigned long long)at);
	for (; first <= last; first++)
		count->refs[first]++;
	return true;
}

static void note_data(struct count *count, uint64_t at, uint64_t len)
{
	for (uint64_t i = at >> count->head.bits; i <= (at + len - 1) >> count->head.bits; i++)
		count->data[i]++;
}

static bool refer_cluster(struct count *count, uint64_t at, const char *what)
{
	if (at & ((1ull << count->head.bits) - 1))
		return damaged(count->judge, "%s not aligned, at 0x%llx", what,
			       (unsigned long long)at);
	if (!refer(count, at, 1ull << count->head.bits, what))
		return false;
	count->judge->odd |= count->in_use && count->refs[at >> count->head.bits] > 1;
	return true;
}

/* Of tables in use, the flag says whether the count is 1. */
static bool check_flag(struct count *count, uint64_t entry, const char *what)
{
	uint64_t refs = refcount(count, (entry & HOST) >> count->head.bits);

	return (refs == 1) == !!(entry & COPIED) ||
	       damaged(count->judge, "%s has the copied flag wrong: entry %llx, count %llu", what,
		       (unsigned long long)entry, (unsigned long long)refs);
}

/* Offset and length of compressed data, which ends with a sector. */
static uint64_t packed_at(uint32_t bits, uint64_t entry, uint64_t *len)
{
	uint32_t shift = 62 - (bits - 8);
	uint64_t at = entry & ((1ull << shift) - 1);

	*len = (((entry & ~(COPIED | PACKED)) >> shift) + 1) * 512 - (at & 511);
	return at;
}

/* In a data file everything has its place, and nothing is counted. */
static bool check_place(struct count *count, uint64_t guest, uint64_t entry)
{
	uint64_t host = entry & HOST;

	return (!(entry & PACKED) && (!host || host == guest << count->head.bits) &&
		(host || !(entry & COPIED) || !guest)) ||
	       damaged(count->judge, "out of its place: %llx", (unsigned long long)entry);
}

static bool count_entry(struct count *count, uint64_t guest, uint64_t entry)
{
	uint64_t at, len;

	if (count->judge->data)
		return check_place(count, guest, entry);
	if (!(entry & PACKED)) {
		at = entry & HOST;
		len = 1;
		if (!at)
			return true;
		if (!refer_cluster(count, at, "a cluster") ||
		    (count->in_use && !check_flag(count, entry, "a cluster")))
			return false;
	} else {
		at = packed_at(count->head.bits, entry, &len);
		len += at & 511;
		at &= ~511ull;
		if (entry & COPIED)
			return damaged(count->judge, "compressed with the copied flag");
		if (!refer(count, at, len, "compressed data"))
			return false;
	}
	note_data(count, at, len);
	return true;
}

static bool count_tables(struct count *count, uint64_t l1, uint64_t entries)
{
	uint64_t per_table = 1ull << (count->head.bits - 3);

	if (!refer(count, l1, entries * 8, "an L1 table"))
		return false;
	for (uint64_t i = 0; i < entries; i++) {
		uint64_t l2 = entry_at(count->judge, l1, i);

		if (!(l2 & HOST))
			continue;
		if (!refer_cluster(count, l2 & HOST, "an L2 table") ||
		    (count->in_use && !check_flag(count, l2, "an L2 table")))
			return false;
		for (uint64_t k = 0; k < per_table; k++) {
			if (!count_entry(count, i * per_table + k,
					 entry_at(count->judge, l2 & HOST, k)))
				return false;
		}
	}
	return true;
}

static bool count_snapshots(struct count *count)
{
	uint64_t start = count->head.snapshot_table, at = start;

	count->in_use = false;
	for (uint32_t i = 0; i < count->head.snapshots; i++) {
		if (!count_tables(count, field(count->judge, at, 8),
				  field(count->judge, at + 8, 4)))
			return false;
		at += 40 + field(count->judge, at + 12, 2) + field(count->judge, at + 14, 2) +
		      field(count->judge, at + 36, 4);
		at = (at + 7) & ~7ull;
	}
	return refer(count, start, at - start, "the snapshot table");
}

static bool count_refblocks(struct count *count)
{
	uint64_t bytes = count->head.table_clusters << count->head.bits;

	if (!refer(count, count->head.table, bytes, "the refcount table"))
		return false;
	for (uint64_t i = 0; i < bytes / 8; i++) {
		uint64_t block = entry_at(count->judge, count->head.table, i);

		if (block && !refer_cluster(count, block, "a refcount block"))
			return false;
	}
	return true;
}

static bool compare(struct count *count)
{
	uint64_t grown = count->judge->grown_size >> count->head.bits;

	count->judge->leaks = 0;
	for (uint64_t i = count->clusters; i < grown; i++)
		count->judge->leaks += refcount(count, i) != 0;
	for (uint64_t i = 0; i < count->clusters; i++) {
		uint64_t said = refcount(count, i);

		if (said < count->refs[i])
			return damaged(count->judge, "cluster %llu is used %u times and counted %llu",
				       (unsigned long long)i, count->refs[i],
				       (unsigned long long)said);
		count->judge->leaks += said > count->refs[i];
		count->judge->odd |= count->data[i] && count->data[i] < count->refs[i];
	}
	return true;
}

bool judge_check(struct judge *judge)
{
	struct count count = {.judge = judge, .in_use = true};
	bool good;

	judge->why[0] = 0;
	judge->odd = false;
	if (!read_head(judge, &count.head))
		return false;
	count.clusters = (judge->size + (1ull << count.head.bits) - 1) >> count.head.bits;
	count.refs = calloc(count.clusters, sizeof(*count.refs));
	count.data = calloc(count.clusters, sizeof(*count.data));
	good = count.refs && count.data && refer(&count, 0, 1, "the header") && count_refblocks(&count) &&
	       count_tables(&count, count.head.l1, count.head.l1_entries) &&
	       count_snapshots(&count) && compare(&count);
	free(count.refs);
	free(count.data);
	return good;
}

/* --- reading --- */

/* The decoders are kept: making one takes longer than using it. */
static bool inflate(const unsigned char *in, uint64_t len, unsigned char *out, uint64_t out_len)
{
	static struct libdeflate_decompressor *decoder;
	size_t used;

	if (!decoder)
		decoder = libdeflate_alloc_decompressor();
	return libdeflate_deflate_decompress_ex(decoder, in, len, out, out_len, &used, NULL) == 0;
}

static bool unpack_zstd(const unsigned char *in, uint64_t len, unsigned char *out,
			uint64_t out_len)
{
	static ZSTD_DStream *decoder;
	ZSTD_inBuffer from = {in, len, 0};
	ZSTD_outBuffer to = {out, out_len, 0};

	if (!decoder)
		decoder = ZSTD_createDStream();
	ZSTD_initDStream(decoder);
	while (to.pos < to.size && from.pos < from.size &&
	       !ZSTD_isError(ZSTD_decompressStream(decoder, &to, &from)))
		;
	return to.pos == to.size;
}

static bool unpack(struct judge *judge, const struct head *head, uint64_t entry,
		   unsigned char *out)
{
	uint64_t len, at = packed_at(head->bits, entry, &len);

	len = at < judge->size ? (len < judge->size - at ? len : judge->size - at) : 0;
	return (head->zstd ? unpack_zstd : inflate)(judge->bytes + at, len, out,
						    1ull << head->bits) ||
	       damaged(judge, "compressed data at 0x%llx", (unsigned long long)at);
}

static void copy(const unsigned char *from, uint64_t from_size, uint64_t at, uint64_t len,
		 unsigned char *out)
{
	uint64_t there = from && at < from_size ? from_size - at : 0;

	there = there < len ? there : len;
	if (there)
		memcpy(out, from + at, there);
	memset(out + there, 0, len - there);
}

/* Part of one cluster of the disk. */
static bool read_part(struct judge *judge, const struct head *head, uint64_t l1, uint64_t at,
		      uint64_t len, unsigned char *out)
{
	uint64_t cluster = at >> head->bits, skip = at & ((1ull << head->bits) - 1);
	uint64_t l2 = entry_at(judge, l1, cluster >> (head->bits - 3)) & HOST;
	uint64_t entry = l2 ? entry_at(judge, l2, cluster & ((1ull << (head->bits - 3)) - 1)) : 0;
	unsigned char *all;
	bool good = true;

	if (entry & PACKED) {
		all = malloc(1ull << head->bits);
		good = all && unpack(judge, head, entry, all);
		if (good)
			memcpy(out, all + skip, len);
		free(all);
	} else if (head->version >= 3 && (entry & 1)) {
		memset(out, 0, len);
	} else if (judge->data && (entry & (HOST | COPIED))) {
		copy(judge->data, judge->data_size, at, len, out);
	} else if (entry & HOST) {
		copy(judge->bytes, judge->size, (entry & HOST) + skip, len, out);
	} else {
		copy(judge->below, judge->below_size, at, len, out);
	}
	return good;
}

bool judge_read(struct judge *judge, bool snapshot, uint64_t first, uint64_t count,
		unsigned char *out)
{
	uint64_t at = first * 512, end = at + count * 512, l1;
	struct head head;

	if (!read_head(judge, &head))
		return false;
	l1 = snapshot ? field(judge, head.snapshot_table, 8) : head.l1;
	while (at < end) {
		uint64_t len = (1ull << head.bits) - (at & ((1ull << head.bits) - 1));

		len = len < end - at ? len : end - at;
		if (!read_part(judge, &head, l1, at, len, out))
			return false;
		at += len;
		out += len;
	}
	return true;
}
