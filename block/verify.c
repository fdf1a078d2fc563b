/* SPDX-License-Identifier: MIT */
/*
 * The second opinion. The two engines have no code in common but the kernel's: where they agree
 * on what a disk holds, it holds that.
 *
 * What the image leaves to its backing file is not asked for: libqcow gets two files mixed up, and
 * is not given that one. Of a stretch of the disk for which there is no L2
 * table only the first cluster is read: a disk may be 64 TiB.
 */
#include "block/verify.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/block.h"
#include "block/qcow/client.h"
#include "block/qcow2/impl.h"
#include "block/xfer.h"
#include "util/util.h"

#define CHUNK_BYTES MIB(1)
#define DEATHS_MAX 16

struct verify {
	const struct verify_options *opts;
	struct verify_report *report;
	struct blk *ours, *theirs;
	struct qcow2 *q;     /* ours */
	uint64_t *l2;        /* the table of... */
	uint64_t l2_index;   /* ...this entry of L1 */
	bool has_l2;
	void *ours_buf, *theirs_buf;
	unsigned int deaths;
};

const char *verify_kind_name(enum verify_kind kind)
{
	static const char *const names[] = {
		[VERIFY_UNALLOCATED] = "unallocated",
		[VERIFY_DATA] = "data",
		[VERIFY_ZERO] = "zero",
		[VERIFY_COMPRESSED] = "compressed",
	};

	return names[kind];
}

const char *verify_known(enum verify_kind kind)
{
	return kind == VERIFY_ZERO ? "libqcow does not know zero clusters: it reads what lies at "
				     "the cluster's old place, or the header" : "";
}

/* --- what we say of a cluster --- */

static int load_l2(struct verify *v, uint64_t index)
{
	uint64_t offset = q2_l1_entry(v->q, index) & QCOW2_OFFSET;
	int r = 0;

	if (index == v->l2_index)
		return 0;
	v->l2_index = index;
	v->has_l2 = offset;
	if (offset)
		r = bio_read_sync(v->q->blk.bio, v->l2, v->q->cluster_bytes, offset);
	if (r < 0)
		log_error("disk %s: cannot read its tables: %s", v->opts->path, strerror(-r));
	return r;
}

static enum verify_kind kind_of(const struct verify *v, uint64_t guest)
{
	uint64_t entry = 0;

	if (v->has_l2)
		entry = be64toh(v->l2[guest & ((1ull << v->q->l2_bits) - 1)]);
	if (entry & QCOW2_COMPRESSED)
		return VERIFY_COMPRESSED;
	if ((entry & QCOW2_ZERO) && v->q->header.version >= 3)
		return VERIFY_ZERO;
	return entry & QCOW2_OFFSET ? VERIFY_DATA : VERIFY_UNALLOCATED;
}

/* --- reading and comparing --- */

static uint64_t cluster_start(const struct verify *v, uint64_t guest)
{
	return guest << v->q->cluster_bits;
}

/* Of `count` clusters from `guest` on. */
static uint64_t bytes_of(const struct verify *v, uint64_t guest, uint64_t count)
{
	return MIN(cluster_start(v, count),
		   blk_info(v->ours)->size_bytes - cluster_start(v, guest));
}

static int open_theirs(struct verify *v)
{
	struct blk_options opts = {.path = v->opts->path, .format = BLK_FORMAT_QCOW2,
				   .readonly = true, .reader = BLK_READER_LIBQCOW_ANYHOW,
				   .reader_program = v->opts->reader_program};

	return blk_open(v->opts->loop, &opts, &v->theirs);
}

/* Begin anew where it died. */
static int revive(struct verify *v)
{
	blk_close(v->theirs);
	v->theirs = NULL;
	if (++v->deaths == DEATHS_MAX) {
		log_error("disk %s: libqcow died %d times: that is enough", v->opts->path,
			  DEATHS_MAX);
		return -EIO;
	}
	return open_theirs(v);
}

static void report(struct verify *v, uint64_t guest, enum verify_what what)
{
	struct verify_finding finding = {
		.offset_bytes = cluster_start(v, guest),
		.len_bytes = bytes_of(v, guest, 1),
		.kind = kind_of(v, guest),
		.what = what,
	};
	const char *ours = v->ours_buf, *theirs = v->theirs_buf;

	if (what == VERIFY_DIFFERENT) {
		while (ours[finding.first_bytes] == theirs[finding.first_bytes])
			finding.first_bytes++;
	}
	finding.known = finding.kind == VERIFY_ZERO &&
			(what == VERIFY_DIFFERENT || what == VERIFY_THEIRS_FAILS);
	if (finding.known)
		v->report->known++;
	else
		v->report->unexplained++;
	v->opts->found(v->opts->arg, &finding);
}

/* Clusters that are the same; where not, cluster by cluster. 0 or -errno. */
static int compare(struct verify *v, uint64_t guest, uint64_t count)
{
	uint64_t start = cluster_start(v, guest), len = bytes_of(v, guest, count);
	int ours = blk_read_sync(v->ours, v->ours_buf, len, start);
	int theirs = blk_read_sync(v->theirs, v->theirs_buf, len, start);
	bool died = qcow_client_died(v->theirs);
	int r = 0;

	if (!ours && !theirs && memcmp(v->ours_buf, v->theirs_buf, len) == 0)
		v->report->same += count;
	else if (count == 1)
		report(v, guest, ours && theirs ? VERIFY_BOTH_FAIL : ours ? VERIFY_OURS_FAILS
		       : died ? VERIFY_THEIRS_DIES : theirs ? VERIFY_THEIRS_FAILS
		       : VERIFY_DIFFERENT);
	if (died)
		r = revive(v);
	if (count > 1 && (ours || theirs || memcmp(v->ours_buf, v->theirs_buf, len) != 0)) {
		for (uint64_t i = 0; i < count && !r; i++)
			r = compare(v, guest + i, 1);
	}
	return r;
}

/* How many from `guest` on can be read at once, `left` at most: of one kind and table. */
static uint64_t run_length(const struct verify *v, uint64_t guest, uint64_t left)
{
	uint64_t max = MIN(MAX(CHUNK_BYTES >> v->q->cluster_bits, 1), left), count = 1;

	while (count < max && kind_of(v, guest + count) == kind_of(v, guest))
		count++;
	return count;
}

static bool has_below(const struct verify *v)
{
	return v->q->header.backing_offset;
}

/* What L1's entry `index` covers. */
static int verify_table(struct verify *v, uint64_t index)
{
	uint64_t guest = index << v->q->l2_bits, end = guest + (1ull << v->q->l2_bits), count;
	int r = load_l2(v, index);

	end = MIN(end, v->report->clusters);
	for (; guest < end && !r; guest += count) {
		count = v->has_l2 ? run_length(v, guest, end - guest) : 1;
		if (kind_of(v, guest) == VERIFY_UNALLOCATED && has_below(v))
			v->report->below += count;
		else
			r = compare(v, guest, count);
		if (!v->has_l2) {
			*(has_below(v) ? &v->report->below : &v->report->same) += end - guest - 1;
			break;
		}
	}
	return r;
}

static int verify_all(struct verify *v)
{
	uint64_t cluster = v->q->cluster_bytes, tables;
	int r = 0;

	*v->report = (struct verify_report){.cluster_bytes = cluster};
	v->report->clusters = (blk_info(v->ours)->size_bytes + cluster - 1) >> v->q->cluster_bits;
	tables = (v->report->clusters + (1ull << v->q->l2_bits) - 1) >> v->q->l2_bits;
	v->l2_index = UINT64_MAX;
	v->l2 = aligned_alloc(4096, align_up(cluster, 4096));
	v->ours_buf = aligned_alloc(4096, MAX(cluster, CHUNK_BYTES));
	v->theirs_buf = aligned_alloc(4096, MAX(cluster, CHUNK_BYTES));
	if (!v->l2 || !v->ours_buf || !v->theirs_buf)
		r = -ENOMEM;
	for (uint64_t i = 0; i < tables && !r; i++)
		r = verify_table(v, i);
	free(v->l2);
	free(v->ours_buf);
	free(v->theirs_buf);
	return r;
}

int verify_image(const struct verify_options *opts, struct verify_report *out)
{
	struct blk_options own = {.path = opts->path, .format = BLK_FORMAT_QCOW2, .readonly = true,
				  .backing = BLK_BACKING_UNREAD};
	struct verify v = {.opts = opts, .report = out};
	int r = blk_open(opts->loop, &own, &v.ours);

	if (r < 0)
		return r;
	v.q = CONTAINER_OF(v.ours, struct qcow2, blk);
	r = open_theirs(&v);
	if (!r)
		r = verify_all(&v);
	blk_close(v.theirs);
	blk_close(v.ours);
	return r;
}
