/* SPDX-License-Identifier: MIT */
#include "tests/fuzz/fuzz_boot.h"

#include "boot/pvh.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct fuzz_kernel kernel;
	struct boot_payload payload = {&kernel.file, &kernel.no_initrd, "", 0};
	struct vcpu_entry entry = {0};
	struct elf elf;

	if (fuzz_kernel_open(&kernel, data, len) < 0)
		return 0;
	if (elf_open(&elf, &kernel.file) == 0 &&
	    elf_load(&elf, &payload, fuzz_mem(), &entry) == 0)
		fuzz_check_entry(&entry);
	fuzz_kernel_close(&kernel);
	return 0;
}
