/* SPDX-License-Identifier: MIT */
#include "tests/fuzz/fuzz_boot.h"

#include "boot/bzimage.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct fuzz_kernel kernel;
	struct boot_payload payload = {&kernel.file, &kernel.no_initrd, "", 0};
	struct vcpu_entry entry = {0};
	struct bzimage image;

	if (fuzz_kernel_open(&kernel, data, len) < 0)
		return 0;
	if (bzimage_open(&image, &kernel.file) == 0 &&
	    bzimage_load(&image, &payload, fuzz_mem(), &entry) == 0)
		fuzz_check_entry(&entry);
	fuzz_kernel_close(&kernel);
	return 0;
}
