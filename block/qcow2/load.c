/* SPDX-License-Identifier: MIT */
/* Opening: the header, L1 and refcount tables come into memory, and all that can be checked is. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/qcow2/impl.h"
#include "util/util.h"

/* A file larger than this is no image of ours; it bounds what memory a hostile one costs. */
#define FILE_BYTES_MAX (1ull << 49)
/* Of all snapshots together: they are claimed cluster by cluster. */
#define SNAPSHOT_L1S_BYTES_MAX (4ull << 30)

static int damaged(const struct qcow2 *q, const char *what, uint64_t where)
{
	log_error("disk %s: damaged qcow2 image: %s (0x%llx) (try: qemu-img check -r all %s)",
		  q->blk.name, what, (unsigned long long)where, q->blk.name);
	return -EINVAL;
}

static int cannot_read(const struct qcow2 *q, int err)
{
	log_error("disk %s: cannot read its tables: %s", q->blk.name, strerror(-err));
	return err;
}

/* Read `len` bytes of a table into memory of its own, padded to whole sectors. */
static int read_table(struct qcow2 *q, uint64_t offset, uint64_t len, void **out)
{
	uint64_t bytes = align_up(MAX(len, 1), 512);
	void *table = aligned_alloc(4096, align_up(bytes, 4096));
	int r;

	if (!table)
		return cannot_read(q, -ENOMEM);
	r = bio_read_sync(q->blk.bio, table, bytes, offset);
	if (r < 0) {
		free(table);
		return cannot_read(q, r);
	}
	*out = table;
	return 0;
}

static int load_header(struct qcow2 *q, bool readonly)
{
	uint64_t file_bytes = q->blk.bio->size_bytes, bytes;
	uint32_t bits;
	void *head;
	int r;

	r = read_table(q, 0, 512, (void **)&q->sector);
	if (r < 0)
		return r;
	/* Extensions and names lie in the first cluster. */
	memcpy(&bits, q->sector + 20, sizeof(bits));
	bits = be32toh(bits);
	bytes = MIN(file_bytes, bits >= 9 && bits <= 21 ? 1ull << bits : 512);
	r = read_table(q, 0, bytes, &head);
	if (r < 0)
		return r;
	r = q2_parse_header(head, bytes, file_bytes, q->blk.name, readonly, &q->header);
	free(head);
	if (r || !q->header.crypt)
		return r;
	log_error("disk %s: is encrypted by AES (readonly,password-file=FILE reads it)",
		  q->blk.name);
	return -ENOTSUP;
}

static void set_geometry(struct qcow2 *q)
{
	const struct q2_header *h = &q->header;

	q->cluster_bits = h->cluster_bits;
	q->cluster_bytes = 1ull << h->cluster_bits;
	q->l2_bits = h->cluster_bits - 3;
	q->slice_bytes = MIN(4096u, 1u << h->cluster_bits);
	q->slice_bits = (uint32_t)__builtin_ctz(q->slice_bytes) - 3;
	q->rc_slice_bits = (uint32_t)__builtin_ctz(q->slice_bytes) - 1;
	q->refblock_bits = h->cluster_bits + 3 - h->refcount_order;
	q->reftable_entries = ((uint64_t)h->reftable_clusters << h->cluster_bits) / 8;
	q2_set_reach(q);
}

void q2_set_reach(struct qcow2 *q)
{
	uint32_t bits = q->refblock_bits + q->cluster_bits;

	q->reach = q->reftable_entries > (QCOW2_OFFSET >> bits) ? QCOW2_OFFSET
								 : q->reftable_entries << bits;
}

/* Mark clusters as metadata; twice the same is damage. */
static int claim(struct qcow2 *q, uint64_t offset, uint64_t bytes, const char *what)
{
	uint64_t cluster = offset >> q->cluster_bits;
	uint64_t count = (bytes + q->cluster_bytes - 1) >> q->cluster_bits;
	int r;

	if (q2_meta_any(q, cluster, count))
		return damaged(q, what, offset);
	r = q2_meta_set(q, cluster, count);
	if (r == -EFBIG)
		log_error("disk %s: too many tables, too far apart (larger clusters have fewer: "
			  "qemu-img convert -O qcow2 -o cluster_size=2M %s new.qcow2)",
			  q->blk.name, q->blk.name);
	return r == -ENOMEM ? cannot_read(q, r) : r;
}

static int load_refcount_table(struct qcow2 *q)
{
	uint64_t bytes = q->reftable_entries * 8, file_bytes = q->blk.bio->size_bytes;
	int r;

	r = claim(q, q->header.reftable_offset, bytes, "tables overlap");
	if (!r)
		r = read_table(q, q->header.reftable_offset, bytes, (void **)&q->reftable);
	for (uint64_t i = 0; !r && i < q->reftable_entries; i++) {
		uint64_t entry = be64toh(q->reftable[i]);

		if (!entry)
			continue;
		if (entry % q->cluster_bytes || entry >= file_bytes || !q2_host_valid(q, entry, 1))
			r = damaged(q, "a refcount block out of place", entry);
		else
			r = claim(q, entry, q->cluster_bytes, "refcount blocks overlap");
	}
	return r;
}

static int load_l1(struct qcow2 *q)
{
	uint64_t bytes = (uint64_t)q->header.l1_entries * 8, file_bytes = q->blk.bio->size_bytes;
	int r;

	r = claim(q, q->header.l1_offset, bytes, "tables overlap");
	if (!r)
		r = read_table(q, q->header.l1_offset, bytes, (void **)&q->l1);
	for (uint64_t i = 0; !r && i < q->header.l1_entries; i++) {
		uint64_t offset = q2_l1_entry(q, i) & QCOW2_OFFSET;

		if (!offset)
			continue;
		if (offset >= file_bytes || !q2_host_valid(q, offset, q->cluster_bytes))
			r = damaged(q, "an L2 table out of place", offset);
		else
			r = claim(q, offset, q->cluster_bytes, "L2 tables overlap");
	}
	q->l1_dirty = calloc(1, bytes / 512 / 8 + 1);
	return r ? r : q->l1_dirty ? 0 : cannot_read(q, -ENOMEM);
}

/* One entry of the snapshot table at `at`; its length comes back, and that of its L1 table. */
static int check_snapshot(struct qcow2 *q, const unsigned char *at, uint64_t left, uint64_t *len,
			  uint64_t *l1_bytes)
{
	uint64_t l1_offset;
	uint32_t l1_entries, extra;
	uint16_t id, name;

	if (left < 40)
		return damaged(q, "the snapshot table ends early", q->header.snapshots_offset);
	memcpy(&l1_offset, at, 8);
	memcpy(&l1_entries, at + 8, 4);
	memcpy(&id, at + 12, 2);
	memcpy(&name, at + 14, 2);
	memcpy(&extra, at + 36, 4);
	l1_offset = be64toh(l1_offset);
	l1_entries = be32toh(l1_entries);
	*len = align_up(40 + (uint64_t)be32toh(extra) + be16toh(id) + be16toh(name), 8);
	if (*len > align_up(left, 8))
		return damaged(q, "the snapshot table ends early", q->header.snapshots_offset);
	*l1_bytes = (uint64_t)l1_entries * 8;
	if (!l1_entries)
		return 0;
	if (l1_entries > QCOW2_L1_BYTES_MAX / 8 || l1_offset >= q->blk.bio->size_bytes ||
	    !q2_host_valid(q, l1_offset, *l1_bytes))
		return damaged(q, "a snapshot's L1 table out of place", l1_offset);
	return claim(q, l1_offset, *l1_bytes, "a snapshot's L1 table overlaps");
}

/* Snapshots are left alone, but their tables must not be overwritten. */
static int load_snapshots(struct qcow2 *q)
{
	uint64_t offset = q->header.snapshots_offset, at = 0, len = 0, l1_bytes = 0, sum = 0;
	uint64_t max = MIN(q->header.snapshots * 2048ull, QCOW2_SNAPSHOT_TABLE_BYTES_MAX);
	uint64_t file_bytes = q->blk.bio->size_bytes;
	void *table = NULL;
	int r;

	if (!q->header.snapshots)
		return 0;
	if (offset > q->reach || offset > file_bytes)
		return damaged(q, "bad offset of the snapshot table", offset);
	max = MIN(max, file_bytes - offset);
	r = read_table(q, offset, max, &table);
	for (uint32_t i = 0; !r && i < q->header.snapshots; i++) {
		r = check_snapshot(q, (unsigned char *)table + at, max - MIN(at, max), &len,
				   &l1_bytes);
		at += len;
		sum += l1_bytes;
		if (!r && sum > SNAPSHOT_L1S_BYTES_MAX)
			r = damaged(q, "its snapshots' L1 tables are too large", offset);
	}
	if (!r)
		r = claim(q, offset, at, "the snapshot table overlaps");
	free(table);
	return r;
}

int q2_clear_autoclear(struct qcow2 *q)
{
	uint64_t keep = q->data_raw ? QCOW2_AUTOCLEAR_DATA_RAW : 0;
	uint64_t bits = htobe64(q->header.autoclear & keep);
	int r;

	if (q->header.version < 3 || !(q->header.autoclear & ~keep))
		return 0;
	memcpy(q->sector + QCOW2_AT_AUTOCLEAR, &bits, sizeof(bits));
	r = bio_write_sync(q->blk.bio, q->sector, 512, 0);
	if (!r)
		r = bio_flush_sync(q->blk.bio);
	if (r < 0)
		log_error("disk %s: cannot write its header: %s", q->blk.name, strerror(-r));
	return r;
}

int q2_load(struct qcow2 *q, bool readonly)
{
	int r;

	if (q->blk.bio->size_bytes > FILE_BYTES_MAX)
		return damaged(q, "the file is too large", q->blk.bio->size_bytes);
	r = load_header(q, readonly);
	if (r < 0)
		return r;
	set_geometry(q);
	r = claim(q, 0, q->cluster_bytes, "the header overlaps");
	if (!r)
		r = load_refcount_table(q);
	if (!r)
		r = load_l1(q);
	if (!r)
		r = load_snapshots(q);
	return r;
}
