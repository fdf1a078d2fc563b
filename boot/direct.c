/* SPDX-License-Identifier: MIT */
#include "boot/direct.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>

#include "boot/bzimage.h"
#include "boot/unpack.h"
#include "boot/vmlinux.h"
#include "util/log.h"
#include "util/util.h"
#include "vmm/mem.h"

/* Those of the distributions take 50 to 70 MiB. */
#define UNPACKED_MAX MIB(512)
/* KERNEL_IMAGE_SIZE: the kernel's part of its virtual addresses, if it can move. */
#define VIRTUAL_BYTES MIB(1024)

struct unpacked {
	uint8_t *bytes;
	size_t len;
};

/* The word of that name, or one that begins so. */
static bool has_word(const char *cmdline, const char *word)
{
	for (const char *at = cmdline; (at = strstr(at, word)); at++)
		if (at == cmdline || at[-1] == ' ')
			return true;
	return false;
}

static int not_direct(const struct boot_payload *payload, const char *why)
{
	log_debug("kernel %s: unpacked by the guest itself: %s", payload->kernel->path, why);
	if (payload->no_kaslr && !has_word(payload->cmdline, "nokaslr"))
		log_warn("kernel %s: --kaslr off: unpacked by the guest itself, which may place it "
			 "at random (add nokaslr to --cmdline)", payload->kernel->path);
	return 0;
}

/* Its length is the payload's last word. -ENOTSUP: nothing known. */
static int unpack_payload(struct unpacked *out, const struct boot_file *kernel, uint64_t offset,
			  size_t len)
{
	uint8_t *packed = malloc(len);
	uint32_t out_len = 0;
	int ret;

	if (!packed)
		return -ENOMEM;
	ret = boot_file_read(kernel, offset, packed, len);
	if (ret < 0)
		goto out;
	memcpy(&out_len, packed + len - sizeof(out_len), sizeof(out_len));
	ret = -ENOTSUP;
	if (!out_len || out_len > UNPACKED_MAX)
		goto out;
	ret = -ENOMEM;
	out->len = out_len;
	out->bytes = mmap(NULL, out->len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			  0);
	if (out->bytes == MAP_FAILED)
		goto out;
	ret = unpack(packed, len, out->bytes, out->len);
	if (ret < 0)
		munmap(out->bytes, out->len);
out:
	free(packed);
	return ret;
}

/* `start` plus a random multiple of `align`, such that `len` bytes end at `end`, or before. */
static uint64_t random_place(uint64_t start, uint64_t end, uint64_t len, uint64_t align)
{
	uint64_t places, random;

	if (start + len > end || getrandom(&random, sizeof(random), GRND_NONBLOCK) != sizeof(random))
		return start;
	places = (end - len - start) / align + 1;
	return start + random % places * align;
}

/* Where the user says what memory there is, only the kernel knows what is left. */
static uint64_t choose_gpa(const struct bzimage *image, const char *cmdline, uint64_t top,
			   uint64_t len)
{
	if (!image->hdr.relocatable_kernel || has_word(cmdline, "mem=") ||
	    has_word(cmdline, "memmap="))
		return image->hdr.pref_address;
	return random_place(image->hdr.pref_address, top, len, image->hdr.kernel_alignment);
}

static int load(struct direct *direct, const struct bzimage *image, const struct vmlinux *kernel,
		const struct boot_payload *payload, const struct mem *mem, uint64_t top)
{
	uint64_t len = MAX(image->hdr.init_size, kernel->span);
	uint64_t link_gpa = image->hdr.pref_address, gpa = link_gpa, shift = 0;
	int ret;

	if (link_gpa + len > top) /* which is in low RAM */
		return not_direct(payload, "no room for it");
	if (kernel->can_move && !payload->no_kaslr && !has_word(payload->cmdline, "nokaslr")) {
		direct->kaslr = true;
		gpa = choose_gpa(image, payload->cmdline, top, len);
		shift = random_place(link_gpa, VIRTUAL_BYTES, len, image->hdr.kernel_alignment) -
			link_gpa;
	}
	ret = vmlinux_load(kernel, mem, gpa, (uint32_t)shift);
	if (ret < 0)
		return ret;
	direct->loaded = true;
	direct->entry_gpa = gpa + kernel->entry;
	return 0;
}

int direct_load(struct direct *direct, const struct bzimage *image,
		const struct boot_payload *payload, const struct mem *mem, uint64_t top)
{
	struct unpacked unpacked;
	struct vmlinux kernel;
	int ret;

	*direct = (struct direct){0};
	if (!image->payload_bytes || !image->entry64 || !image->hdr.kernel_alignment)
		return not_direct(payload, "its header does not say enough");
	ret = unpack_payload(&unpacked, payload->kernel, image->payload_offset,
			     image->payload_bytes);
	if (ret == -EINVAL)
		return not_direct(payload, "what is packed is damaged");
	if (ret == -ENOTSUP)
		return not_direct(payload, "packed in an unknown way");
	if (ret == -ENOMEM)
		return not_direct(payload, "out of memory");
	if (ret < 0)
		return ret;
	ret = vmlinux_open(&kernel, unpacked.bytes, unpacked.len, image->hdr.pref_address);
	if (ret < 0)
		ret = not_direct(payload, "not the ELF file that was expected");
	else
		ret = load(direct, image, &kernel, payload, mem, top);
	munmap(unpacked.bytes, unpacked.len);
	return ret;
}
