/* SPDX-License-Identifier: MIT */
/*
 * What minivmm-qcow believes of what it is asked. The input is the size of a disk (8 bytes), then
 * packets, a byte of length before each; the first good OPEN opens the disk.
 */
#include <stdlib.h>

#include "block/qcow/proto.h"
#include "script.h"
#include "util/util.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void check(const struct qcow_request *req, uint64_t disk_bytes)
{
	if (req->op == QCOW_OPEN && !disk_bytes)
		return;
	if (req->op != QCOW_READ || !req->len_bytes || req->len_bytes > QCOW_SLOT_BYTES ||
	    !range_fits(req->offset_bytes, req->len_bytes, disk_bytes))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct script script = {data, len};
	uint64_t size, disk_bytes = 0;

	script_bytes(&script, &size, sizeof(size));
	while (script.left) {
		size_t packet_len = script_u8(&script);
		unsigned char *packet = malloc(packet_len + !packet_len); /* its end is watched */
		struct qcow_request req;

		if (!packet)
			abort();
		script_bytes(&script, packet, packet_len);
		if (qcow_request_parse(packet, packet_len, disk_bytes, &req) == 0) {
			check(&req, disk_bytes);
			disk_bytes = disk_bytes ? disk_bytes : size;
		}
		free(packet);
	}
	return 0;
}
