/* SPDX-License-Identifier: MIT */
#include "block/qcow/proto.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "util/util.h"

static bool request_is_good(const struct qcow_request *r, uint64_t disk_bytes)
{
	switch (r->op) {
	case QCOW_OPEN:
		return !disk_bytes && !(r->flags & ~(QCOW_OPEN_KEY | QCOW_OPEN_ALONE));
	case QCOW_READ:
		return r->len_bytes && r->len_bytes <= QCOW_SLOT_BYTES &&
		       range_fits(r->offset_bytes, r->len_bytes, disk_bytes);
	}
	return false;
}

int qcow_request_parse(const void *packet, size_t len, uint64_t disk_bytes,
		       struct qcow_request *out)
{
	if (len != sizeof(*out))
		return -EPROTO;
	memcpy(out, packet, sizeof(*out));
	return request_is_good(out, disk_bytes) ? 0 : -EPROTO;
}

static bool reply_is_good(const struct qcow_reply *r, const struct qcow_request *asked)
{
	if (r->op != asked->op || r->id != asked->id || r->failed > 1)
		return false;
	if (r->failed)
		return r->op != QCOW_READY;
	switch (r->op) {
	case QCOW_READY:
		return true;
	case QCOW_OPEN:
		return r->encrypted <= 1 && r->backed <= 1;
	case QCOW_READ:
		return r->len_bytes == asked->len_bytes;
	}
	return false;
}

int qcow_reply_parse(const void *packet, size_t len, const struct qcow_request *asked,
		     struct qcow_reply *out)
{
	if (len != sizeof(*out))
		return -EPROTO;
	memcpy(out, packet, sizeof(*out));
	return reply_is_good(out, asked) ? 0 : -EPROTO;
}
