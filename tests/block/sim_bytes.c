/* SPDX-License-Identifier: MIT */
#include "sim_bytes.h"

#include <string.h>
#include <sys/mman.h>

#include "harness.h"
#include "sim.h"
#include "util/util.h"

/* Of simulations that ended, all zero: fresh pages cost more than clearing used ones. */
static unsigned char *spare[4];

unsigned char *sim_bytes_take(void)
{
	int prot = PROT_READ | PROT_WRITE, flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
	unsigned char *bytes = NULL;

	for (unsigned int i = 0; i < ARRAY_LEN(spare) && !bytes; i++) {
		bytes = spare[i];
		spare[i] = NULL;
	}
	if (!bytes)
		bytes = mmap(NULL, SIM_BYTES_MAX, prot, flags, -1, 0);
	assert_true(bytes != MAP_FAILED);
	return bytes;
}

void sim_bytes_leave(unsigned char *bytes, uint64_t used)
{
	uint64_t len = align_up(used, 4096), kept = MIN(len, MIB(16));
	unsigned int i = 0;

	memset(bytes, 0, kept);
	madvise(bytes + kept, len - kept, MADV_DONTNEED);
	while (i < ARRAY_LEN(spare) && spare[i])
		i++;
	if (i < ARRAY_LEN(spare))
		spare[i] = bytes;
	else
		munmap(bytes, SIM_BYTES_MAX);
}
