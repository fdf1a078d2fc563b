/* SPDX-License-Identifier: MIT */
/* A payload, unpacked: how long it should be is its last word, as in a bzImage. */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "boot/unpack.h"
#include "util/util.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	uint32_t out_len;
	uint8_t *out;
	int ret;

	if (len < sizeof(out_len))
		return 0;
	memcpy(&out_len, data + len - sizeof(out_len), sizeof(out_len));
	out_len %= KIB(64);
	out = malloc(out_len);
	if (!out && out_len)
		abort();
	ret = unpack(data, len, out, out_len);
	if (ret != 0 && ret != -EINVAL && ret != -ENOTSUP && ret != -ENOMEM)
		abort();
	free(out);
	return 0;
}
