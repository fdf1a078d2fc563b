/* SPDX-License-Identifier: MIT */
/* A kernel that was unpacked: where it was linked in the first four bytes, its file behind. */
#include "tests/fuzz/fuzz_boot.h"

#include "boot/vmlinux.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct vmlinux kernel;
	uint32_t link_gpa;

	if (len < sizeof(link_gpa))
		return 0;
	memcpy(&link_gpa, data, sizeof(link_gpa));
	if (vmlinux_open(&kernel, data + sizeof(link_gpa), len - sizeof(link_gpa), link_gpa) < 0)
		return 0;
	if (kernel.entry >= kernel.span)
		abort();
	vmlinux_load(&kernel, fuzz_mem(), MIB(1), kernel.can_move ? MIB(64) : 0);
	return 0;
}
