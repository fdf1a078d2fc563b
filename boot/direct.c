/* SPDX-License-Identifier: MIT */
#include "boot/direct.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>

#include "boot/bzimage.h"
#include "boot/cache.h"
#include "boot/unpack.h"
#include "boot/vmlinux.h"
#include "util/log.h"
#include "util/util.h"
#include "vmm/mem.h"

/* Those of the distributions take 50 to 70 MiB. */
#define UNPACKED_MAX MIB(512)
/* KERNEL_IMAGE_SIZE: the kernel's part of its virtual addresses, if it can move. */
#define VIRTUAL_BYTES MIB(1024)

/* Between words, as Linux has it; and the end. */
static bool is_space(char c)
{
	return (unsigned char)c <= ' ';
}

/* That word; of one with a value, "NAME=", its beginning. */
static bool has_word(const char *cmdline, const char *word)
{
	size_t len = strlen(word);
	bool has_value = word[len - 1] == '=';

	for (const char *at = cmdline; (at = strstr(at, word)); at++)
		if ((at == cmdline || is_space(at[-1])) && (has_value || is_space(at[len])))
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

/* In huge pages, where it can be: there is less to fault in. NULL: no memory. */
static uint8_t *make_room(size_t len)
{
	void *room = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (room == MAP_FAILED)
		return NULL;
	madvise(room, len, MADV_HUGEPAGE);
	return room;
}

/* The guest would have needed as much memory for it: a file that lies takes no more here. */
static uint64_t unpacked_max(const struct bzimage *image, uint64_t top)
{
	uint64_t start = image->hdr.pref_address;

	return top > start ? MIN(top - start, UNPACKED_MAX) : 0;
}

/* -ENOTSUP: nothing known; -EFBIG: more than `max` bytes unpacked. What was allocated is the
 * caller's, in any case. */
static int read_packed(struct kernel_bytes *bytes, const struct boot_file *kernel,
		       const struct bzimage *image, uint64_t max)
{
	uint32_t len;
	int ret;

	bytes->packed_len = image->payload_bytes;
	bytes->packed = make_room(bytes->packed_len);
	if (!bytes->packed)
		return -ENOMEM;
	ret = boot_file_read(kernel, image->payload_offset, bytes->packed, bytes->packed_len);
	if (ret < 0)
		return ret;
	/* Its last word is the unpacked length. */
	memcpy(&len, bytes->packed + bytes->packed_len - sizeof(len), sizeof(len));
	if (!len)
		return -ENOTSUP;
	if (len > max)
		return -EFBIG;
	bytes->len = len;
	bytes->bytes = make_room(len);
	return bytes->bytes ? 0 : -ENOMEM;
}

/* `*keep`: it took long, and should be kept. */
static int get_kernel(struct kernel_bytes *bytes, bool *keep, const struct bzimage *image,
		      const struct boot_payload *payload, uint64_t max)
{
	int ret = read_packed(bytes, payload->kernel, image, max);

	if (ret < 0)
		return ret;
	*keep = !unpack_is_quick(bytes->packed) && kernel_cache_get(payload->cache, bytes) < 0;
	if (*keep || unpack_is_quick(bytes->packed))
		return unpack(bytes->packed, bytes->packed_len, bytes->bytes, bytes->len);
	log_debug("kernel %s: unpacked before, from the cache", payload->kernel->path);
	return 0;
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

static int load_bytes(struct direct *direct, const struct kernel_bytes *bytes,
		      const struct bzimage *image, const struct boot_payload *payload,
		      const struct mem *mem, uint64_t top)
{
	struct vmlinux kernel;

	if (vmlinux_open(&kernel, bytes->bytes, bytes->len, image->hdr.pref_address) < 0)
		return not_direct(payload, "not the ELF file that was expected");
	return load(direct, image, &kernel, payload, mem, top);
}

/* NULL: it is not that there is no kernel to be had. */
static const char *why_no_kernel(int error)
{
	switch (error) {
	case -EINVAL:
		return "what is packed is damaged";
	case -ENOTSUP:
		return "packed in an unknown way";
	case -EFBIG:
		return "too large when unpacked";
	case -ENOMEM:
		return "out of memory";
	default:
		return NULL;
	}
}

int direct_load(struct direct *direct, const struct bzimage *image,
		const struct boot_payload *payload, const struct mem *mem, uint64_t top)
{
	struct kernel_bytes bytes = {0};
	bool keep = false;
	int ret;

	*direct = (struct direct){0};
	if (!image->payload_bytes || !image->entry64 || !image->hdr.kernel_alignment)
		return not_direct(payload, "its header does not say enough");
	ret = get_kernel(&bytes, &keep, image, payload, unpacked_max(image, top));
	if (ret == 0)
		ret = load_bytes(direct, &bytes, image, payload, mem, top);
	else if (why_no_kernel(ret))
		ret = not_direct(payload, why_no_kernel(ret));
	if (direct->loaded && keep)
		kernel_cache_put(payload->cache, &bytes);
	else
		kernel_bytes_free(&bytes);
	return ret;
}
