/* SPDX-License-Identifier: MIT */
/*
 * Checking a qcow2 image, and repairing it: what was repaired must be sound afterwards. The first
 * byte says which repair, the rest is the file; it may end in a hole up to 1 MiB.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "block/image.h"
#include "block/qcow2/check.h"
#include "util/util.h"

#define DATA_MAX KIB(64)
#define HOLES_BIT 4

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static int file(const uint8_t *data, size_t len, bool holes)
{
	static int fd = -1;

	if (fd < 0)
		fd = memfd_create("fuzz", MFD_CLOEXEC);
	if (fd < 0 || ftruncate(fd, 0) < 0 || pwrite(fd, data, len, 0) != (ssize_t)len ||
	    (holes && ftruncate(fd, (off_t)MIB(1)) < 0))
		abort();
	return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct check_options opts = {.found = NULL};
	struct check_report report;
	struct image img;
	int fd;

	if (len < 1 || len > DATA_MAX)
		return 0;
	opts.repair = (enum check_repair)(data[0] % 3);
	fd = file(data + 1, len - 1, data[0] & HOLES_BIT);
	if (image_from_fd(fd, "fuzz", &img) < 0 || !img.header.sound)
		return 0;
	if (check_image(&img, &opts, &report) < 0 || !opts.repair || report.corruptions ||
	    report.leaks || report.errors)
		return 0;
	/* So it says. */
	opts.repair = CHECK_REPAIR_NONE;
	if (image_from_fd(fd, "fuzz", &img) < 0 || !img.header.sound ||
	    check_image(&img, &opts, &report) < 0 || report.corruptions || report.leaks ||
	    report.errors)
		abort();
	return 0;
}
