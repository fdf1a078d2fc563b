/* SPDX-License-Identifier: MIT */
/* An entry of the run directory, which may be any user's: what is taken can be said again. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "util/run_dir.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static char text[RUN_TEXT_BYTES];
	static struct run_entry entry, again;
	int n;

	if (run_entry_parse((const char *)data, len, &entry) < 0)
		return 0;
	n = run_entry_format(&entry, text, sizeof(text));
	if (n < 0 || entry.nic_count > RUN_NICS_MAX ||
	    run_entry_parse(text, (size_t)n, &again) < 0 ||
	    memcmp(&entry, &again, sizeof(entry)) != 0)
		abort();
	return 0;
}
