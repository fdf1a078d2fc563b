/* SPDX-License-Identifier: MIT */
/* Two reports of a machine, a NUL between them: what `minivmm top` makes of the difference. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "cmd/top.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *end = memchr(data, 0, size);
	size_t first = end ? (size_t)(end - data) : size;
	json_t *before = json_loadb((const char *)data, first, 0, NULL);
	json_t *after = end ? json_loadb((const char *)end + 1, size - first - 1, 0, NULL) : NULL;

	if (!freopen("/dev/null", "w", stdout))
		return 0;
	top_show(before, after, 0.1);
	top_show(after, before, 1000);
	json_decref(before);
	json_decref(after);
	return 0;
}
