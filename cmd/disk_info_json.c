/* SPDX-License-Identifier: MIT */
/* As JSON, by the names of qemu-img info --output=json; "minivmm" is ours. */
#include <stdio.h>
#include <string.h>

#include "block/qcow2/tables.h"
#include "cmd/disk_info.h"
#include "cmd/json.h"
#include "util/log.h"

#define NS_PER_S 1000000000ull

static int add_snapshot(void *arg, const struct q2_snapshot *s)
{
	json_t *item = json_object();

	json_put_text(item, "id", s->id);
	json_put_text(item, "name", s->name);
	json_put_number(item, "vm-state-size", s->vm_state_bytes);
	json_put_number(item, "date-sec", s->date_s);
	json_put_number(item, "date-nsec", s->date_ns);
	json_put_number(item, "vm-clock-sec", s->vm_clock_ns / NS_PER_S);
	json_put_number(item, "vm-clock-nsec", s->vm_clock_ns % NS_PER_S);
	if (s->icount != UINT64_MAX)
		json_put_number(item, "icount", s->icount);
	json_array_append_new(arg, item);
	return 0;
}

static int add_bitmap(void *arg, const struct q2_bitmap *b)
{
	json_t *item = json_object(), *flags = json_array();

	if (b->flags & Q2_BITMAP_IN_USE)
		json_array_append_new(flags, json_text("in-use"));
	if (b->flags & Q2_BITMAP_AUTO)
		json_array_append_new(flags, json_text("auto"));
	json_put_text(item, "name", b->name);
	json_put_number(item, "granularity", 1ull << b->granularity_bits);
	json_put(item, "flags", flags);
	json_array_append_new(arg, item);
	return 0;
}

static int damaged(const struct info *info, const char *what)
{
	log_error("disk %s: its %s cannot be read (try: minivmm disk check %s)", info->img.name,
		  what, info->img.name);
	return -1;
}

static int put_bitmaps(json_t *data, const struct info *info)
{
	const struct q2_header *h = &info->img.header;
	json_t *bitmaps;

	if (!h->bitmaps || !(h->autoclear & QCOW2_AUTOCLEAR_BITMAPS))
		return 0;
	bitmaps = json_array();
	json_put(data, "bitmaps", bitmaps);
	return q2_each_bitmap(&info->img, add_bitmap, bitmaps) < 0 ? damaged(info, "bitmaps") : 0;
}

/* Of version 3 alone. */
static int put_v3(json_t *data, const struct info *info)
{
	const struct q2_header *h = &info->img.header;

	json_put(data, "lazy-refcounts", json_boolean(h->compatible & QCOW2_COMPAT_LAZY));
	json_put(data, "corrupt", json_boolean(h->incompatible & QCOW2_INCOMPAT_CORRUPT));
	json_put(data, "extended-l2", json_boolean(h->incompatible & QCOW2_INCOMPAT_EXTENDED_L2));
	if (h->incompatible & QCOW2_INCOMPAT_DATA_FILE) {
		json_put_text(data, "data-file", h->data_file);
		json_put(data, "data-file-raw", json_boolean(h->autoclear &
							     QCOW2_AUTOCLEAR_DATA_RAW));
	}
	return put_bitmaps(data, info);
}

static int put_qcow2(json_t *root, const struct info *info)
{
	const struct q2_header *h = &info->img.header;
	json_t *specific = json_object(), *data = json_object(), *crypt;

	json_put(root, "format-specific", specific);
	json_put_text(specific, "type", "qcow2");
	json_put(specific, "data", data);
	json_put_text(data, "compat", h->version < 3 ? "0.10" : "1.1");
	json_put_text(data, "compression-type", info_compression(info));
	json_put_number(data, "refcount-bits", 1u << h->refcount_order);
	if (h->crypt) {
		crypt = json_object();
		json_put_text(crypt, "format", h->crypt == QCOW2_CRYPT_AES ? "aes" : "luks");
		json_put(data, "encrypt", crypt);
	}
	return h->version < 3 ? 0 : put_v3(data, info);
}

static int put_snapshots(json_t *root, const struct info *info)
{
	json_t *snapshots;
	uint64_t bytes;

	if (!info->img.header.snapshots)
		return 0;
	snapshots = json_array();
	json_put(root, "snapshots", snapshots);
	if (q2_each_snapshot(&info->img, add_snapshot, snapshots, &bytes) < 0)
		return damaged(info, "snapshots");
	return 0;
}

static void put_backing(json_t *root, const struct info *info)
{
	const struct q2_header *h = &info->img.header;

	if (!h->backing[0])
		return;
	json_put_text(root, "backing-filename", h->backing);
	json_put_text(root, "full-backing-filename", info->backing[0] ? info->backing : h->backing);
	if (h->backing_format[0])
		json_put_text(root, "backing-filename-format", h->backing_format);
}

static void put_ours(json_t *root, const struct info *info)
{
	static const char *const opens[] = {"no", "readonly", "yes"};
	json_t *ours = json_object();

	json_put_text(ours, "opens", opens[info->opens]);
	if (info->why.text[0])
		json_put_text(ours, "why", info->why.text);
	if (info->option[0])
		json_put_text(ours, "disk", info->option);
	json_put_text(ours, "in-use", info_use_name(info->use));
	json_put(root, "minivmm", ours);
}

int info_print_json(const struct info *info)
{
	json_t *root = json_object();
	int r = 0;

	json_put_text(root, "filename", info->img.name);
	json_put_text(root, "format", info->format);
	if (info->has_virtual_bytes)
		json_put_number(root, "virtual-size", info->virtual_bytes);
	json_put_number(root, "actual-size", info->img.disk_bytes);
	if (info->cluster_bytes)
		json_put_number(root, "cluster-size", info->cluster_bytes);
	if (info->encrypted)
		json_put(root, "encrypted", json_true());
	json_put(root, "dirty-flag", json_boolean(info->img.header.incompatible &
						  QCOW2_INCOMPAT_DIRTY));
	put_backing(root, info);
	put_ours(root, info);
	if (info_is_qcow2(info)) {
		r = put_snapshots(root, info);
		if (!r)
			r = put_qcow2(root, info);
	}
	if (r < 0) {
		json_decref(root);
		return r;
	}
	json_print(root);
	return 0;
}
