/* SPDX-License-Identifier: MIT */
/* KVM's counters: whatever the file says, names end and nothing is read beside it. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "util/util.h"
#include "vmm/kvm_stats.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void see(void *arg, const char *name, uint64_t value)
{
	if (strlen(name) >= 256 || !value)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	int fd = memfd_create("kvm-stats", MFD_CLOEXEC);

	if (fd < 0)
		abort();
	if (pwrite_full(fd, data, len, 0) == 0)
		kvm_stats_read(fd, see, NULL);
	close(fd);
	return 0;
}
