/* SPDX-License-Identifier: MIT */
#include "snapshot_scene.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "harness.h"
#include "util/util.h"

struct loop *loop;
const char *disk, *copy, *left;

int try_open(const char *path, enum blk_snapshot snapshot, struct blk **out)
{
	struct blk_options opts = {.path = path, .snapshot = snapshot, .backing = BLK_BACKING_ON};

	return blk_open(loop, &opts, out);
}

void refused(const char *path, enum blk_snapshot snapshot, const char *says)
{
	struct blk *blk;
	const char *log;
	int r;

	capture_log_start();
	r = try_open(path, snapshot, &blk);
	log = capture_log_end();
	if (r >= 0)
		fail_msg("%s: opened, not \"%s\"", path, says);
	if (!strstr(log, says) || strchr(log, '\n') != strrchr(log, '\n'))
		fail_msg("\"%s\" expected in: %s", says, log);
}

bool exists(const char *path)
{
	return access(path, F_OK) == 0;
}

struct work *filled_work(uint64_t seed)
{
	struct work *work = work_create(NULL, 0, SECTORS, seed);

	work_assume(work, 1, SECTORS / 2);
	work->idle_discards = true;
	return work;
}

/* --- kinds of disks --- */

static void make_raw(struct work *work)
{
	work_save(work, disk, DISK_BYTES);
}

static void make_qcow2(struct work *work)
{
	const char *raw = temp_path("filling.raw");

	work_save(work, raw, DISK_BYTES);
	assert_int_equal(shell("qemu-img convert -f raw -O qcow2 -o cluster_size=4k %s %s", raw,
			       disk), 0);
}

static void make_packed(struct work *work)
{
	const char *raw = temp_path("filling.raw");

	work_save(work, raw, DISK_BYTES);
	assert_int_equal(shell("qemu-img convert -c -f raw -O qcow2 -o compat=0.10 %s %s", raw,
			       disk), 0);
}

static void make_backed(struct work *work)
{
	const char *raw = temp_path("filling.raw");

	work_save(work, raw, DISK_BYTES);
	assert_int_equal(shell("qemu-img create -f qcow2 -b %s -F raw %s", raw, disk), 0);
	assert_int_equal(shell("(sha256sum %s >%s)", raw, temp_path("filling.sum")), 0);
}

const struct kind kinds[] = {
	{"raw", "disk.img", "raw", make_raw},
	{"qcow2", "disk.qcow2", "qcow2", make_qcow2},
	{"compressed", "packed.qcow2", "qcow2", make_packed},
	{"backed", "backed.qcow2", "qcow2", make_backed},
};
const unsigned int kind_count = ARRAY_LEN(kinds);

void make(const struct kind *kind, struct work *work)
{
	char name[64];

	disk = temp_path(kind->file);
	copy = temp_path("copy");
	snprintf(name, sizeof(name), "%s.snapshot-1.qcow2", kind->file);
	left = temp_path(name);
	kind->make(work);
	assert_int_equal(shell("cp %s %s", disk, copy), 0);
}

/* The disk holds what was written, for QEMU, which finds nothing wrong. */
void holds(const struct kind *kind, struct work *work)
{
	const char *raw = temp_path("result.raw");

	if (strcmp(kind->format, "qcow2") == 0)
		assert_int_equal(shell("qemu-img check -f qcow2 %s", disk), 0);
	assert_int_equal(shell("qemu-img convert -f %s -O raw %s %s", kind->format, disk, raw), 0);
	work_closed(work);
	assert_int_equal(work_compare_file(work, raw), 0);
}
