/* SPDX-License-Identifier: MIT */
/* The qcow2 header: everything in it is checked here, before anything else is read. */
#include <endian.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "block/decompress.h"
#include "block/qcow2/format.h"
#include "util/log.h"
#include "util/util.h"

struct reader {
	const unsigned char *head;
	size_t len;
	uint64_t file_bytes;
	const char *name;
	bool readonly;
	struct q2_refusal *why;
};

/* The image's own names of features. */
struct feature_names {
	const unsigned char *table;
	size_t len;
};

static uint32_t get32(const struct reader *r, size_t at)
{
	uint32_t value;

	memcpy(&value, r->head + at, sizeof(value));
	return be32toh(value);
}

static uint64_t get64(const struct reader *r, size_t at)
{
	uint64_t value;

	memcpy(&value, r->head + at, sizeof(value));
	return be64toh(value);
}

static int refuse(const struct reader *r, int err, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static int refuse(const struct reader *r, int err, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(r->why->text, sizeof(r->why->text), fmt, args);
	va_end(args);
	return err;
}

static int damaged(const struct reader *r, const char *what, uint64_t value)
{
	return refuse(r, -EINVAL, "damaged qcow2 image: %s (%llu) (try: qemu-img check -r all %s)",
		      what, (unsigned long long)value, r->name);
}

static int not_supported(const struct reader *r, const char *what)
{
	return refuse(r, -ENOTSUP, "%s is not supported (convert it: qemu-img convert -O qcow2 %s "
		      "new.qcow2)", what, r->name);
}

static void read_fields(const struct reader *r, struct q2_header *h)
{
	h->version = get32(r, 4);
	h->backing_offset = get64(r, 8);
	h->backing_len = get32(r, 16);
	h->cluster_bits = get32(r, 20);
	h->size_bytes = get64(r, 24);
	h->crypt = get32(r, 32);
	h->l1_entries = get32(r, 36);
	h->l1_offset = get64(r, 40);
	h->reftable_offset = get64(r, QCOW2_AT_REFTABLE);
	h->reftable_clusters = get32(r, 56);
	h->snapshots = get32(r, 60);
	h->snapshots_offset = get64(r, 64);
	h->refcount_order = 4;
	h->header_bytes = QCOW2_HEADER_V2_BYTES;
}

static int read_v3_fields(const struct reader *r, struct q2_header *h)
{
	if (r->len < QCOW2_HEADER_V3_BYTES)
		return damaged(r, "the header ends early", r->len);
	h->incompatible = get64(r, QCOW2_AT_INCOMPAT);
	h->compatible = get64(r, 80);
	h->autoclear = get64(r, QCOW2_AT_AUTOCLEAR);
	h->refcount_order = get32(r, 96);
	h->header_bytes = get32(r, 100);
	if (h->header_bytes < QCOW2_HEADER_V3_BYTES || h->header_bytes % 8 ||
	    h->header_bytes > 1u << h->cluster_bits || h->header_bytes > r->len)
		return damaged(r, "bad header length", h->header_bytes);
	if (h->refcount_order > 6)
		return damaged(r, "bad refcount width", h->refcount_order);
	if (h->header_bytes > QCOW2_HEADER_V3_BYTES)
		h->compression = r->head[QCOW2_HEADER_V3_BYTES];
	return 0;
}

/* The name that the image itself gives to feature `bit`; found in `table` of `len` bytes. */
static void feature_name(const unsigned char *table, size_t len, unsigned int bit, char *out,
			 size_t out_len)
{
	snprintf(out, out_len, "feature bit %u of this image", bit);
	for (; len >= QCOW2_FEATURE_NAME_BYTES; len -= QCOW2_FEATURE_NAME_BYTES) {
		if (table[0] == 0 && table[1] == bit && table[2]) {
			snprintf(out, out_len, "feature \"%.46s\"", (const char *)table + 2);
			break;
		}
		table += QCOW2_FEATURE_NAME_BYTES;
	}
	for (char *c = out; *c; c++) {
		if (*c < ' ' || *c > '~')
			*c = '?';
	}
}

/* What the format does not know either may put anything anywhere. */
static int check_unknown(const struct reader *r, const struct q2_header *h,
			 const struct feature_names *names)
{
	uint64_t unknown = h->incompatible & ~QCOW2_INCOMPAT_KNOWN;
	char name[80];

	if (!unknown)
		return 0;
	feature_name(names->table, names->len, (unsigned int)__builtin_ctzll(unknown), name,
		     sizeof(name));
	return not_supported(r, name);
}

/* What the format knows and we do not. */
static int check_features(const struct reader *r, const struct q2_header *h)
{
	if (h->incompatible & QCOW2_INCOMPAT_EXTENDED_L2)
		return not_supported(r, "extended_l2 (subclusters)");
	if ((h->incompatible & QCOW2_INCOMPAT_COMPRESSION) && h->compression != DECOMPRESS_ZSTD)
		return not_supported(r, "this kind of compression");
	if (h->compression && !(h->incompatible & QCOW2_INCOMPAT_COMPRESSION))
		return damaged(r, "a compression type without its feature bit", h->compression);
	if ((h->incompatible & QCOW2_INCOMPAT_DIRTY) && !r->readonly)
		return refuse(r, -EINVAL, "not closed properly, its refcounts are out of date "
			      "(repair it first: minivmm disk check --repair all %s)", r->name);
	if ((h->incompatible & QCOW2_INCOMPAT_CORRUPT) && !r->readonly)
		return refuse(r, -EINVAL, "marked as corrupt (repair it first: minivmm disk check "
			      "--repair all %s; or use readonly)", r->name);
	if (h->refcount_order != 4 && !r->readonly)
		return not_supported(r, "writing with refcounts other than 16 bits wide");
	return 0;
}

/* Bytes of a name, cut where there is no room. */
static void take_text(const struct reader *r, size_t at, size_t len, char *out, size_t out_len)
{
	size_t n = MIN(len, out_len - 1);

	memcpy(out, r->head + at, n);
	out[n] = 0;
}

/* One extension's data: `len` bytes at `at`. */
static void take_extension(const struct reader *r, struct q2_header *h, uint32_t type, size_t at,
			   uint32_t len, struct feature_names *names)
{
	if (type == QCOW2_EXT_FEATURE_NAMES) {
		names->table = r->head + at;
		names->len = len;
	} else if (type == QCOW2_EXT_BACKING_FORMAT) {
		take_text(r, at, len, h->backing_format, sizeof(h->backing_format));
	} else if (type == QCOW2_EXT_DATA_FILE) {
		take_text(r, at, len, h->data_file, sizeof(h->data_file));
		h->data_file_len = len;
	} else if (type == QCOW2_EXT_CRYPT && len >= 16) {
		h->crypt_area = (struct q2_area){get64(r, at), get64(r, at + 8)};
	} else if (type == QCOW2_EXT_BITMAPS && len >= 24) {
		h->bitmaps = get32(r, at);
		h->bitmap_area = (struct q2_area){get64(r, at + 16), get64(r, at + 8)};
	}
}

/* Header extensions end with the header's cluster, or where the backing file's name is. */
static int walk_extensions(const struct reader *r, struct q2_header *h,
			   struct feature_names *names)
{
	size_t at = h->header_bytes, end = MIN(r->len, (size_t)1 << h->cluster_bits);

	if (h->backing_offset && h->backing_offset < end)
		end = h->backing_offset;
	while (range_fits(at, 8, end)) {
		uint32_t type = get32(r, at), len = get32(r, at + 4);

		at += 8;
		if (type == QCOW2_EXT_END)
			break;
		if (!range_fits(at, len, end))
			return damaged(r, "a header extension exceeds its cluster", len);
		take_extension(r, h, type, at, len, names);
		at += align_up(len, 8);
	}
	return 0;
}

static int read_backing(const struct reader *r, struct q2_header *h)
{
	if (!h->backing_offset)
		return 0;
	if (!h->backing_len || h->backing_len > QCOW2_BACKING_NAME_MAX ||
	    !range_fits(h->backing_offset, h->backing_len, MIN(r->len, 1u << h->cluster_bits)))
		return damaged(r, "the backing file's name is not in the first cluster",
			       h->backing_len);
	take_text(r, h->backing_offset, h->backing_len, h->backing, sizeof(h->backing));
	return 0;
}

/* What the format excludes beside an external data file. */
static int check_data_file(const struct reader *r, const struct q2_header *h)
{
	if (!(h->incompatible & QCOW2_INCOMPAT_DATA_FILE))
		return 0;
	if (strlen(h->data_file) != h->data_file_len)
		return damaged(r, "bad name of the data file", h->data_file_len);
	if (h->snapshots)
		return damaged(r, "internal snapshots beside a data file", h->snapshots);
	if ((h->autoclear & QCOW2_AUTOCLEAR_DATA_RAW) && h->backing_offset)
		return damaged(r, "a backing file below a raw data file", h->backing_offset);
	return 0;
}

static int check_crypt(const struct reader *r, const struct q2_header *h)
{
	if (h->crypt != QCOW2_CRYPT_LUKS)
		return h->crypt > QCOW2_CRYPT_LUKS ? damaged(r, "unknown encryption", h->crypt) : 0;
	return refuse(r, -ENOTSUP, "LUKS encryption is not supported (convert it: qemu-img convert "
		      "--object secret,id=s,file=PASSWORD-FILE --image-opts driver=qcow2,"
		      "file.filename=%s,encrypt.key-secret=s -O qcow2 new.qcow2)", r->name);
}

static bool overlap(uint64_t a, uint64_t a_len, uint64_t b, uint64_t b_len)
{
	return a < b + b_len && b < a + a_len;
}

/* Where the tables are: aligned, inside the file, apart from each other and the header. */
static int check_tables(const struct reader *r, const struct q2_header *h)
{
	uint64_t cluster = 1ull << h->cluster_bits;
	uint64_t l1_bytes = (uint64_t)h->l1_entries * 8;
	uint64_t table_bytes = (uint64_t)h->reftable_clusters << h->cluster_bits;
	uint64_t per_l1 = cluster * (cluster / q2_l2_entry_bytes(h));

	if (h->size_bytes > QCOW2_DISK_MAX)
		return damaged(r, "the disk is larger than 64 TiB", h->size_bytes);
	if (l1_bytes > QCOW2_L1_BYTES_MAX)
		return damaged(r, "the L1 table is too large", h->l1_entries);
	if (h->l1_entries < (h->size_bytes + per_l1 - 1) / per_l1)
		return damaged(r, "the L1 table is too short for the disk", h->l1_entries);
	if (!table_bytes || table_bytes > QCOW2_REFTABLE_BYTES_MAX)
		return damaged(r, "bad size of the refcount table", h->reftable_clusters);
	if (h->l1_entries && (h->l1_offset % cluster || h->l1_offset < cluster ||
			      !range_fits(h->l1_offset, l1_bytes, r->file_bytes)))
		return damaged(r, "bad offset of the L1 table", h->l1_offset);
	if (h->reftable_offset % cluster || h->reftable_offset < cluster ||
	    !range_fits(h->reftable_offset, 8, r->file_bytes) ||
	    h->reftable_offset > QCOW2_OFFSET)
		return damaged(r, "bad offset of the refcount table", h->reftable_offset);
	if (h->l1_entries && overlap(h->l1_offset, align_up(l1_bytes, cluster),
				     h->reftable_offset, table_bytes))
		return damaged(r, "the L1 and refcount tables overlap", h->l1_offset);
	return 0;
}

static int check_snapshots(const struct reader *r, const struct q2_header *h)
{
	uint64_t cluster = 1ull << h->cluster_bits;

	if (h->snapshots > QCOW2_SNAPSHOTS_MAX)
		return damaged(r, "too many snapshots", h->snapshots);
	if (h->snapshots && (h->snapshots_offset % cluster || h->snapshots_offset < cluster ||
			     h->snapshots_offset >= r->file_bytes))
		return damaged(r, "bad offset of the snapshot table", h->snapshots_offset);
	return 0;
}

static int read_all(const struct reader *r, struct q2_header *h)
{
	struct feature_names names = {0};
	int err;

	if (r->len < QCOW2_HEADER_V2_BYTES || get32(r, 0) != QCOW2_MAGIC)
		return damaged(r, "no qcow2 header", r->len);
	read_fields(r, h);
	if (h->version != 2 && h->version != 3)
		return not_supported(r, h->version == 1 ? "version 1 (qcow)" : "this version");
	if (h->cluster_bits < 9 || h->cluster_bits > 21)
		return damaged(r, "bad cluster size, as a power of two", h->cluster_bits);
	err = h->version == 3 ? read_v3_fields(r, h) : 0;
	if (!err)
		err = walk_extensions(r, h, &names);
	if (!err)
		err = read_backing(r, h);
	h->complete = !err;
	if (!err)
		err = check_unknown(r, h, &names);
	if (!err)
		err = check_tables(r, h);
	h->sound = !err;
	if (!err)
		err = check_snapshots(r, h);
	if (!err)
		err = check_features(r, h);
	if (!err)
		err = check_crypt(r, h);
	if (!err)
		err = check_data_file(r, h);
	return err;
}

int q2_read_header(const unsigned char *head, size_t len, uint64_t file_bytes, const char *name,
		   bool readonly, struct q2_header *out, struct q2_refusal *why)
{
	struct reader r = {head, len, file_bytes, name, readonly, why};

	*out = (struct q2_header){0};
	return read_all(&r, out);
}

int q2_parse_header(const unsigned char *head, size_t len, uint64_t file_bytes, const char *name,
		    bool readonly, struct q2_header *out)
{
	struct q2_refusal why;
	int r = q2_read_header(head, len, file_bytes, name, readonly, out, &why);

	if (r < 0)
		log_error("disk %s: %s", name, why.text);
	return r;
}
