/* SPDX-License-Identifier: MIT */
/* An image from anywhere that libqcow is to read: our look at it before. Flags first. */
#include <stdlib.h>

#include "block/qcow/image.h"
#include "block/qcow/proto.h"
#include "qcow2_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct qcow_check check = {.name = "fuzz"};
	struct qcow_image image;

	if (len < 1 || len - 1 > FUZZ_FILE_MAX)
		return 0;
	check.has_password = data[0] & 1;
	check.compare = data[0] & 2;
	fuzz_file_load(data + 1, len - 1, FUZZ_READONLY);
	if (qcow_image_check(fuzz_bio(FUZZ_READONLY), &check, &image) < 0)
		return 0;
	if (image.version < 1 || image.version > 3 || !image.size_bytes ||
	    image.size_bytes > QCOW_DISK_MAX || image.encrypted != check.has_password ||
	    image.cluster_bits < 9 || 1u << image.cluster_bits > QCOW_SLOT_BYTES)
		abort();
	return 0;
}
