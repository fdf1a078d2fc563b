/* SPDX-License-Identifier: MIT */
/* As text, with the labels of qemu-img info. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "block/qcow2/tables.h"
#include "cmd/disk_info.h"
#include "cmd/print.h"
#include "util/util.h"

static void print_text(const char *label, const char *text)
{
	printf("%s", label);
	print_clean(text);
	putchar('\n');
}

static int print_snapshot(void *arg, const struct q2_snapshot *s)
{
	char size[32], date[32] = "", clock[32];
	uint64_t ms = s->vm_clock_ns / 1000000;
	time_t when = (time_t)s->date_s;
	struct tm tm;

	if (localtime_r(&when, &tm))
		strftime(date, sizeof(date), "%Y-%m-%d %H:%M:%S", &tm);
	snprintf(clock, sizeof(clock), "%02" PRIu64 ":%02u:%02u.%03u", ms / 3600000,
		 (unsigned int)(ms / 60000 % 60), (unsigned int)(ms / 1000 % 60),
		 (unsigned int)(ms % 1000));
	printf("  ");
	print_padded(s->id, 6);
	printf("  %10s  %19s  %13s",
	       size_text(s->vm_state_bytes, size, sizeof(size)), date, clock);
	print_text("  ", s->name);
	return 0;
}

static void print_snapshots(const struct info *info)
{
	uint64_t bytes;

	if (!info->img.header.snapshots)
		return;
	printf("snapshots:\n  %-6s  %10s  %19s  %13s  %s\n", "id", "VM size", "date", "VM clock",
	       "name");
	if (q2_each_snapshot(&info->img, print_snapshot, NULL, &bytes) < 0)
		puts("  (the rest cannot be read)");
}

static int print_bitmap(void *arg, const struct q2_bitmap *b)
{
	printf("  bitmap: granularity %" PRIu64 "%s%s", (uint64_t)1 << b->granularity_bits,
	       b->flags & Q2_BITMAP_AUTO ? ", active" : "",
	       b->flags & Q2_BITMAP_IN_USE ? ", not saved" : "");
	print_text(", ", b->name);
	return 0;
}

static const char *yes_no(uint64_t bit)
{
	return bit ? "yes" : "no";
}

static void print_v3(const struct info *info)
{
	const struct q2_header *h = &info->img.header;

	printf("lazy refcounts: %s\n", yes_no(h->compatible & QCOW2_COMPAT_LAZY));
	printf("dirty: %s\n", yes_no(h->incompatible & QCOW2_INCOMPAT_DIRTY));
	printf("corrupt: %s\n", yes_no(h->incompatible & QCOW2_INCOMPAT_CORRUPT));
	printf("extended l2: %s\n", yes_no(h->incompatible & QCOW2_INCOMPAT_EXTENDED_L2));
	if (h->incompatible & QCOW2_INCOMPAT_DATA_FILE)
		print_text("data file: ", h->data_file);
	if (!h->bitmaps || !(h->autoclear & QCOW2_AUTOCLEAR_BITMAPS))
		return;
	puts("bitmaps:");
	if (q2_each_bitmap(&info->img, print_bitmap, NULL) < 0)
		puts("  (the rest cannot be read)");
}

static void print_qcow2(const struct info *info)
{
	const struct q2_header *h = &info->img.header;

	if (h->backing[0])
		print_text("backing file: ", h->backing);
	if (info->backing[0] && strcmp(info->backing, h->backing) != 0)
		print_text("actual path: ", info->backing);
	if (h->backing_format[0])
		print_text("backing file format: ", h->backing_format);
	printf("compat: %s\n", h->version < 3 ? "0.10" : "1.1");
	printf("compression type: %s\n", info_compression(info));
	printf("refcount bits: %u\n", 1u << h->refcount_order);
	if (h->version >= 3)
		print_v3(info);
	print_snapshots(info);
}

static void print_ours(const struct info *info)
{
	if (info->use != IMAGE_UNUSED)
		printf("in use: %s by another process\n", info_use_name(info->use));
	if (info->opens == INFO_OPENS_NOT)
		print_text("minivmm: does not open it: ", info->why.text);
	else if (info->opens == INFO_OPENS_READONLY)
		print_text("minivmm: only reads it: ", info->why.text);
	if (info->option[0])
		print_text("minivmm: --disk ", info->option);
}

int info_print_text(const struct info *info)
{
	char size[32];

	print_text("image: ", info->img.name);
	printf("file format: %s\n", info->format);
	if (info->has_virtual_bytes)
		printf("virtual size: %s (%" PRIu64 " bytes)\n",
		       size_text(info->virtual_bytes, size, sizeof(size)), info->virtual_bytes);
	printf("disk size: %s\n", size_text(info->img.disk_bytes, size, sizeof(size)));
	if (info->encrypted)
		puts("encrypted: yes");
	if (info->cluster_bytes)
		printf("cluster size: %" PRIu64 "\n", info->cluster_bytes);
	if (info_is_qcow2(info))
		print_qcow2(info);
	print_ours(info);
	return 0;
}
