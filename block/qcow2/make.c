/* SPDX-License-Identifier: MIT */
/*
 * A new image is its header, refcount table, refcount blocks and L1 table, in this order, and a
 * count of one for each of their clusters. L1 is all zeroes and therefore a hole. The refcount
 * table has room for the counts of a full disk, so it need not grow; its blocks come with use.
 */
#include "block/qcow2/make.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "block/qcow2/format.h"
#include "util/log.h"
#include "util/util.h"

#define REFCOUNT_ORDER 4u /* 16 bits */
#define HEAD_MAX (QCOW2_HEADER_V3_BYTES + 32u + QCOW2_BACKING_NAME_MAX)

struct layout {
	const struct qcow2_make_options *opts;
	unsigned int bits;
	unsigned int version;
	uint64_t cluster_bytes;
	uint64_t l1_entries;
	uint64_t l1_clusters;
	uint64_t table_clusters;
	uint64_t blocks;
	uint64_t clusters; /* of all */
};

static uint64_t div_up(uint64_t value, uint64_t by)
{
	return (value + by - 1) / by;
}

static uint64_t shift_up(uint64_t value, unsigned int bits)
{
	return div_up(value, 1ull << bits);
}

/* How many clusters of refcount table a full disk needs, or as many as there may be. */
static uint64_t table_for_full_disk(const struct layout *l)
{
	uint64_t data = shift_up(l->opts->size_bytes, l->bits);
	uint64_t in_use = data + l->l1_entries + l->l1_clusters + 1;
	uint64_t per_block = l->cluster_bytes / 2;
	uint64_t blocks = div_up(in_use, per_block - 1) + 1; /* each counts itself as well */
	uint64_t clusters = shift_up(blocks * 8, l->bits);

	return MIN(clusters, QCOW2_REFTABLE_BYTES_MAX >> l->bits);
}

static void lay_out(struct layout *l)
{
	uint64_t per_block = l->cluster_bytes / 2, blocks;

	l->l1_clusters = shift_up(l->l1_entries * 8, l->bits);
	l->table_clusters = table_for_full_disk(l);
	do { /* blocks count themselves */
		blocks = l->blocks;
		l->clusters = 1 + l->table_clusters + blocks + l->l1_clusters;
		l->blocks = div_up(l->clusters, per_block);
	} while (l->blocks != blocks);
}

static int check(const struct layout *l)
{
	const struct qcow2_make_options *opts = l->opts;

	if (opts->size_bytes > QCOW2_DISK_MAX) {
		log_error("disk %s: too large (64T is the most)", opts->name);
		return -EFBIG;
	}
	if (l->l1_entries * 8 > QCOW2_L1_BYTES_MAX) {
		log_error("disk %s: too large for clusters of %llu bytes (take larger ones: "
			  "--cluster-size 64K)", opts->name, (unsigned long long)l->cluster_bytes);
		return -EFBIG;
	}
	return 0;
}

/* --- the header --- */

struct head {
	unsigned char bytes[HEAD_MAX];
	size_t len;
};

static void put(struct head *h, const void *bytes, size_t len)
{
	memcpy(h->bytes + h->len, bytes, len);
	h->len += len;
}

static void put32(struct head *h, uint32_t value)
{
	value = htobe32(value);
	put(h, &value, sizeof(value));
}

static void put64(struct head *h, uint64_t value)
{
	value = htobe64(value);
	put(h, &value, sizeof(value));
}

/* Extensions: the backing file's format, and the end. */
static void put_extensions(struct head *h, const char *backing_format)
{
	size_t len = backing_format ? strlen(backing_format) : 0;

	if (len) {
		put32(h, QCOW2_EXT_BACKING_FORMAT);
		put32(h, (uint32_t)len);
		put(h, backing_format, len);
		h->len = align_up(h->len, 8);
	}
	put64(h, QCOW2_EXT_END);
}

static void put_fields(struct head *h, const struct layout *l, uint64_t backing_at)
{
	const struct qcow2_make_options *opts = l->opts;

	put32(h, QCOW2_MAGIC);
	put32(h, l->version);
	put64(h, backing_at);
	put32(h, opts->backing ? (uint32_t)strlen(opts->backing) : 0);
	put32(h, l->bits);
	put64(h, opts->size_bytes);
	put32(h, 0); /* no encryption */
	put32(h, (uint32_t)l->l1_entries);
	put64(h, (1 + l->table_clusters + l->blocks) << l->bits);
	put64(h, l->cluster_bytes);
	put32(h, (uint32_t)l->table_clusters);
	put32(h, 0); /* snapshots */
	put64(h, 0);
	if (l->version < 3)
		return;
	put64(h, 0); /* features */
	put64(h, 0);
	put64(h, 0);
	put32(h, REFCOUNT_ORDER);
	put32(h, QCOW2_HEADER_V3_BYTES);
}

static int make_head(const struct layout *l, struct head *h)
{
	const struct qcow2_make_options *opts = l->opts;
	const char *format = opts->backing ? opts->backing_format : NULL;
	size_t backing_at = l->version < 3 ? QCOW2_HEADER_V2_BYTES : QCOW2_HEADER_V3_BYTES;
	size_t len = opts->backing ? strlen(opts->backing) : 0;

	backing_at += 8 + (format ? 8 + align_up(strlen(format), 8) : 0);
	if (len > QCOW2_BACKING_NAME_MAX || backing_at + len > l->cluster_bytes) {
		log_error("disk %s: the backing file's name is too long for the header",
			  opts->name);
		return -ENAMETOOLONG;
	}
	put_fields(h, l, len ? backing_at : 0);
	put_extensions(h, format);
	if (len)
		put(h, opts->backing, len);
	return 0;
}

/* --- writing --- */

/* Table and blocks are neighbours, and so are the blocks' counts. */
static int write_refcounts(int fd, const struct layout *l)
{
	uint64_t table_at = l->cluster_bytes, blocks_at = (1 + l->table_clusters) << l->bits;
	uint64_t *table = calloc(l->blocks, sizeof(*table));
	uint16_t *counts = calloc(l->clusters, sizeof(*counts));
	int r = table && counts ? 0 : -ENOMEM;

	for (uint64_t i = 0; !r && i < l->blocks; i++)
		table[i] = htobe64(blocks_at + (i << l->bits));
	for (uint64_t i = 0; !r && i < l->clusters; i++)
		counts[i] = htobe16(1);
	if (!r)
		r = pwrite_full(fd, table, l->blocks * sizeof(*table), table_at);
	if (!r)
		r = pwrite_full(fd, counts, l->clusters * sizeof(*counts), blocks_at);
	free(table);
	free(counts);
	return r;
}

static int sync_file(int fd, const struct layout *l)
{
	return !l->opts->temporary && fsync(fd) < 0 ? -errno : 0;
}

static int write_image(int fd, const struct layout *l, const struct head *head)
{
	int r = 0;

	if (ftruncate(fd, (off_t)(l->clusters << l->bits)) < 0)
		r = -errno;
	if (!r)
		r = write_refcounts(fd, l);
	if (!r)
		r = sync_file(fd, l);
	if (!r)
		r = pwrite_full(fd, head->bytes, head->len, 0);
	return r ? r : sync_file(fd, l);
}

int qcow2_make(int fd, const struct qcow2_make_options *opts)
{
	struct layout l = {.opts = opts, .version = opts->version ? opts->version : 3};
	struct head head = {.len = 0};
	int r;

	l.bits = opts->cluster_bits ? opts->cluster_bits : QCOW2_CLUSTER_BITS_DEFAULT;
	l.cluster_bytes = 1ull << l.bits;
	l.l1_entries = shift_up(opts->size_bytes, 2 * l.bits - 3);
	r = check(&l);
	if (r < 0)
		return r;
	lay_out(&l);
	r = make_head(&l, &head);
	if (r < 0)
		return r;
	r = write_image(fd, &l, &head);
	if (r < 0)
		log_error("disk %s: cannot be written: %s", opts->name, strerror(-r));
	return r;
}
