/* SPDX-License-Identifier: MIT */
/* A qcow2 image from anywhere is opened, and closed: header, tables, snapshots. Flags first. */
#include "qcow2_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct blk *blk;

	if (len < 1 || len - 1 > FUZZ_FILE_MAX)
		return 0;
	fuzz_file_load(data + 1, len - 1, data[0]);
	if (fuzz_open(data[0], &blk) == 0)
		blk_close(blk);
	return 0;
}
