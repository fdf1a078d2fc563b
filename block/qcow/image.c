/* SPDX-License-Identifier: MIT */
/*
 * Before libqcow sees an image, its header and tables are looked at here. What it would refuse is
 * refused with a reason, and so is what it is known to read wrong without a word: LUKS, zero
 * clusters of version 3, backing files, L2 tables of version 1 that are not aligned to their
 * length. As the image is locked against writers, what was found stays so.
 */
#include "block/qcow/image.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/qcow2/format.h"
#include "block/xfer.h"
#include "util/log.h"
#include "util/util.h"

#define SECTOR 512u

struct check {
	struct bio *bio;
	const struct qcow_check *opts;
	struct qcow_image *image;
};

/* --- what is said --- */

static int damaged(const struct check *c, const char *what, uint64_t where)
{
	log_error("disk %s: damaged image: %s (0x%llx)", c->opts->name, what,
		  (unsigned long long)where);
	return -EINVAL;
}

static int cannot_read(const struct check *c, int err)
{
	log_error("disk %s: cannot read its tables: %s", c->opts->name, strerror(-err));
	return err;
}

static int refused(const struct check *c, const char *what)
{
	const char *name = c->opts->name;

	if (c->image->encrypted)
		log_error("disk %s: libqcow does not read images with %s right (convert it: "
			  "qemu-img convert --object secret,id=s,file=PASSWORD-FILE --image-opts "
			  "driver=%s,file.filename=%s,encrypt.format=aes,encrypt.key-secret=s "
			  "-O qcow2 new.qcow2)", name, what,
			  c->image->version == 1 ? "qcow" : "qcow2", name);
	else if (c->opts->compare)
		log_error("disk %s: libqcow does not read images with %s (there is no second "
			  "opinion of it)", name, what);
	else if (c->image->version == 1)
		log_error("disk %s: libqcow does not read images with %s right (convert it: "
			  "qemu-img convert -f qcow -O qcow2 %s new.qcow2)", name, what, name);
	else
		log_error("disk %s: libqcow does not read images with %s right (leave out "
			  "reader=libqcow)", name, what);
	return -ENOTSUP;
}

static int check_password(const struct check *c)
{
	if (c->image->encrypted == c->opts->has_password)
		return 0;
	if (c->image->encrypted)
		log_error("disk %s: is encrypted (say password-file=FILE)", c->opts->name);
	else
		log_error("disk %s: is not encrypted (leave out the password)", c->opts->name);
	return -EINVAL;
}

/* --- reading --- */

/* Bytes of the file, padded to whole sectors. */
static int read_bytes(const struct check *c, uint64_t offset, uint64_t len, void **out)
{
	uint64_t start = align_down(offset, SECTOR), end = align_up(offset + len, SECTOR);
	unsigned char *buf = aligned_alloc(4096, align_up(end - start, 4096));
	int r;

	if (!buf)
		return cannot_read(c, -ENOMEM);
	r = bio_read_sync(c->bio, buf, end - start, start);
	if (r < 0) {
		free(buf);
		return cannot_read(c, r);
	}
	memmove(buf, buf + (offset - start), len);
	*out = buf;
	return 0;
}

/* --- tables --- */

static int check_l2(const struct check *c, const uint64_t *l2, uint64_t count)
{
	for (uint64_t i = 0; i < count; i++) {
		uint64_t entry = be64toh(l2[i]);

		if ((entry & QCOW2_ZERO) && !(entry & QCOW2_COMPRESSED))
			return refused(c, "zero clusters");
	}
	return 0;
}

/* The tables of all of the disk: `mask` leaves of L1's entries the offset. */
static int check_tables(const struct check *c, const uint64_t *l1, uint64_t l1_entries,
			uint64_t mask, uint64_t l2_bytes)
{
	bool look = c->image->version == 3 && !c->opts->compare;
	uint64_t file_bytes = c->bio->size_bytes, total = 0;
	int r = 0;

	for (uint64_t i = 0; i < l1_entries && !r; i++) {
		uint64_t offset = be64toh(l1[i]) & mask;
		void *l2;

		if (!offset)
			continue;
		if (offset >= file_bytes)
			return damaged(c, "an L2 table out of place", offset);
		if (offset % l2_bytes)
			return c->image->version == 1
				       ? refused(c, "L2 tables that are not aligned")
				       : damaged(c, "an L2 table out of place", offset);
		total += l2_bytes;
		if (total > file_bytes + l2_bytes) /* the last may be cut short */
			return damaged(c, "L2 tables overlap", offset);
		if (!look)
			continue;
		r = read_bytes(c, offset, l2_bytes, &l2);
		if (!r) {
			r = check_l2(c, l2, l2_bytes / 8);
			free(l2);
		}
	}
	return r;
}

static int load_tables(const struct check *c, uint64_t l1_offset, uint64_t l1_entries,
		       uint64_t mask, uint64_t l2_bytes)
{
	void *l1;
	int r = read_bytes(c, l1_offset, 8 * l1_entries, &l1);

	if (r < 0)
		return r;
	r = check_tables(c, l1, l1_entries, mask, l2_bytes);
	free(l1);
	return r;
}

/* --- the versions --- */

static int check_qcow1(const struct check *c, const unsigned char *head, size_t len)
{
	struct qcow1_header h;
	int r = qcow1_parse_header(head, len, c->bio->size_bytes, c->opts->name, &h);

	if (r < 0)
		return r;
	*c->image = (struct qcow_image){.version = 1, .size_bytes = h.size_bytes,
					.cluster_bits = h.cluster_bits, .encrypted = h.crypt};
	r = check_password(c);
	if (!r && h.backing_offset)
		r = refused(c, "a backing file");
	if (!r)
		r = load_tables(c, h.l1_offset, h.l1_entries, UINT64_MAX, 8ull << h.l2_bits);
	return r;
}

static int check_features(const struct check *c, const struct q2_header *h)
{
	if (h->incompatible & QCOW2_INCOMPAT_COMPRESSION)
		return refused(c, "zstd compression");
	if (h->incompatible & QCOW2_INCOMPAT_EXTENDED_L2)
		return refused(c, "extended_l2 (subclusters)");
	if (h->incompatible & QCOW2_INCOMPAT_DATA_FILE)
		return refused(c, "an external data file");
	if (h->incompatible & QCOW2_INCOMPAT_CORRUPT)
		return refused(c, "the corrupt bit");
	if (h->incompatible & ~QCOW2_INCOMPAT_DIRTY || h->compatible & ~QCOW2_COMPAT_LAZY)
		return refused(c, "features as new as this one's");
	if (h->version == 3 && h->header_bytes != 104 && h->header_bytes != 112)
		return refused(c, "a header of this length");
	if (h->backing_offset && !c->opts->compare)
		return refused(c, "a backing file");
	return 0;
}

static int check_qcow2(const struct check *c, const unsigned char *head, size_t len)
{
	struct q2_header h;
	uint64_t cluster, per_l1;
	int r = q2_parse_header(head, len, c->bio->size_bytes, c->opts->name, true, &h);

	if (r < 0)
		return r;
	if (!h.size_bytes)
		return damaged(c, "the disk has no size", 0);
	cluster = 1ull << h.cluster_bits;
	per_l1 = cluster * (cluster / 8);
	*c->image = (struct qcow_image){.version = h.version, .size_bytes = h.size_bytes,
					.cluster_bits = h.cluster_bits, .encrypted = h.crypt};
	r = check_password(c);
	if (!r)
		r = check_features(c, &h);
	if (!r)
		r = load_tables(c, h.l1_offset, (h.size_bytes + per_l1 - 1) / per_l1,
				QCOW2_OFFSET, cluster);
	return r;
}

/* Extensions and names lie in the first cluster. */
static uint64_t head_bytes(const struct check *c, const unsigned char *sector)
{
	uint32_t version, bits;

	memcpy(&version, sector + 4, sizeof(version));
	memcpy(&bits, sector + 20, sizeof(bits));
	bits = be32toh(bits);
	if (be32toh(version) == 1 || bits < 9 || bits > 21)
		bits = 9;
	return MIN(1ull << bits, c->bio->size_bytes);
}

int qcow_image_check(struct bio *bio, const struct qcow_check *opts, struct qcow_image *out)
{
	const struct check c = {bio, opts, out};
	uint64_t len;
	void *head;
	int r = read_bytes(&c, 0, SECTOR, &head);

	if (r < 0)
		return r;
	len = head_bytes(&c, head);
	free(head);
	r = read_bytes(&c, 0, MAX(len, 8), &head);
	if (r < 0)
		return r;
	r = ((unsigned char *)head)[7] == 1 ? check_qcow1(&c, head, len)
					    : check_qcow2(&c, head, len);
	free(head);
	return r;
}
