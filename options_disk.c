/* SPDX-License-Identifier: MIT */
/* --disk FILE[,KEY=VALUE]... */
#include "options_impl.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#include "util/log.h"
#include "util/loop.h"
#include "util/util.h"

static int parse_format(const char *value, struct machine_disk *disk)
{
	if (strcmp(value, "raw") == 0)
		disk->blk.format = BLK_FORMAT_RAW;
	else if (strcmp(value, "qcow2") == 0)
		disk->blk.format = BLK_FORMAT_QCOW2;
	else if (strcmp(value, "qcow") == 0)
		disk->blk.format = BLK_FORMAT_QCOW;
	else {
		log_error("--disk: format=%s: raw, qcow2 or qcow is expected (qemu-img convert "
			  "makes one of others)", value);
		return -EINVAL;
	}
	return 0;
}

/* on, off, or the directory that the files below must lie in. */
static int parse_backing(struct machine_disk *disk, const char *value)
{
	bool on = !value || strcmp(value, "on") == 0;
	bool is_dir = value && strchr(value, '/');

	if (!on && !is_dir && strcmp(value, "off") != 0) {
		log_error("--disk: backing=%s: on, off or a directory (with a / in its name) is "
			  "expected", value);
		return -EINVAL;
	}
	disk->blk.backing = on || is_dir ? BLK_BACKING_ON : BLK_BACKING_OFF;
	disk->blk.backing_dir = is_dir ? value : NULL;
	return 0;
}

static int parse_snapshot(struct machine_disk *disk, const char *value)
{
	if (!value || strcmp(value, "on") == 0)
		disk->blk.snapshot = BLK_SNAPSHOT_ON;
	else if (strcmp(value, "commit") == 0)
		disk->blk.snapshot = BLK_SNAPSHOT_COMMIT;
	else if (strcmp(value, "off") == 0)
		disk->blk.snapshot = BLK_SNAPSHOT_OFF;
	else {
		log_error("--disk: snapshot=%s: on, off or commit is expected", value);
		return -EINVAL;
	}
	return 0;
}

static int parse_data_file(const char *value, struct machine_disk *disk)
{
	disk->blk.data_file = value;
	return 0;
}

static int parse_serial(const char *value, struct machine_disk *disk)
{
	if (strlen(value) > 20) {
		log_error("--disk: serial=%s: at most 20 bytes", value);
		return -EINVAL;
	}
	disk->serial = value;
	return 0;
}

static int parse_queues(const char *value, struct machine_disk *disk)
{
	uint64_t queues;

	if (parse_uint(value, 1, MACHINE_DISK_QUEUES_MAX, &queues) < 0) {
		log_error("--disk: queues=%s: a number from 1 to %d is expected", value,
			  MACHINE_DISK_QUEUES_MAX);
		return -EINVAL;
	}
	disk->queues = (unsigned int)queues;
	return 0;
}

static int parse_reader(const char *value, struct machine_disk *disk)
{
	if (strcmp(value, "libqcow") != 0) {
		log_error("--disk: reader=%s: only libqcow can be said here", value);
		return -EINVAL;
	}
	disk->blk.reader = BLK_READER_LIBQCOW;
	return 0;
}

static int parse_password_file(const char *value, struct machine_disk *disk)
{
	disk->blk.password_file = value;
	return 0;
}

static int parse_password_fd(const char *value, struct machine_disk *disk)
{
	disk->blk.has_password_fd = true;
	return options_fd("--disk: password-fd", value, &disk->blk.password_fd);
}

static int parse_rate(const char *key, const char *value, uint64_t min, uint64_t *out)
{
	int r = parse_size(value, out);

	if (r == 0 && *out >= min && *out <= MACHINE_DISK_RATE_MAX)
		return 0;
	log_error("--disk: %s=%s: a number per second from %llu to 1T is expected (without %s= "
		  "there is no limit)", key, value, (unsigned long long)min, key);
	return -EINVAL;
}

static int parse_iops(const char *value, struct machine_disk *disk)
{
	return parse_rate("iops", value, 1, &disk->iops);
}

static int parse_bps(const char *value, struct machine_disk *disk)
{
	return parse_rate("bps", value, MACHINE_DISK_BPS_MIN, &disk->bps);
}

static int parse_poll(const char *value, struct machine_disk *disk)
{
	return options_poll("--disk", value, &disk->poll_us);
}

/* What needs a value. */
static const struct {
	const char *name;
	int (*parse)(const char *value, struct machine_disk *disk);
} disk_keys[] = {
	{"format", parse_format},
	{"data-file", parse_data_file},
	{"serial", parse_serial},
	{"queues", parse_queues},
	{"reader", parse_reader},
	{"password-file", parse_password_file},
	{"password-fd", parse_password_fd},
	{"iops", parse_iops},
	{"bps", parse_bps},
	{"poll", parse_poll},
};

static int parse_disk_key(struct machine_disk *disk, const char *key, const char *value)
{
	if (strcmp(key, "readonly") == 0)
		return options_switch("--disk", key, value, &disk->blk.readonly);
	if (strcmp(key, "direct") == 0)
		return options_switch("--disk", key, value, &disk->blk.direct);
	if (strcmp(key, "backing") == 0)
		return parse_backing(disk, value);
	if (strcmp(key, "snapshot") == 0)
		return parse_snapshot(disk, value);
	for (unsigned int i = 0; i < ARRAY_LEN(disk_keys); i++) {
		if (strcmp(key, disk_keys[i].name) == 0)
			return options_need_value("--disk", key, value) < 0 ? -EINVAL :
			       disk_keys[i].parse(value, disk);
	}
	log_error("--disk: unknown key '%s' (see minivmm --help; a comma in the file's name is "
		  "written ,,)", key);
	return -EINVAL;
}

static bool is_iso(const char *path)
{
	size_t len = strlen(path);

	return len >= 4 && strcasecmp(path + len - 4, ".iso") == 0;
}

int options_disk(char *text, struct machine_config *config)
{
	struct machine_disk *disk = &config->disks[config->disk_count];
	char *item, *list = text;
	bool readonly_said = false;

	if (config->disk_count == MACHINE_DISKS_MAX) {
		log_error("--disk: at most %d disks", MACHINE_DISKS_MAX);
		return -EINVAL;
	}
	disk->poll_us = LOOP_AWAKE_AUTO;
	disk->blk.path = options_next_item(&list);
	if (!*disk->blk.path) {
		log_error("--disk: a file's name is expected first");
		return -EINVAL;
	}
	while ((item = options_next_item(&list))) {
		char *value = options_split_value(item);

		readonly_said |= strcmp(item, "readonly") == 0;
		if (parse_disk_key(disk, item, value) < 0)
			return -EINVAL;
	}
	if (!readonly_said && !disk->blk.snapshot && disk->blk.format == BLK_FORMAT_BY_NAME &&
	    is_iso(disk->blk.path))
		disk->blk.readonly = true;
	if (disk->blk.readonly && disk->blk.snapshot) {
		log_error("--disk: readonly and snapshot do not go together (with snapshot the "
			  "guest can write, and the disk stays as it is)");
		return -EINVAL;
	}
	config->disk_count++;
	return 0;
}
