/* SPDX-License-Identifier: MIT */
/*
 * A bzImage is a real-mode part (a boot sector and setup_sects more sectors), which holds the
 * setup header, and the protected-mode code, which unpacks the kernel. We skip the real-mode
 * part: the code is loaded where the header prefers it, boot_params ("zero page") is made here
 * from the header, and the guest starts in the kernel that we have unpacked (boot/direct.c), or, if
 * we can not, at the code's 64-bit entry, or the 32-bit one where there is no other. Fields are
 * read only where the header's protocol version has them.
 */
#include "boot/bzimage.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/random.h>

#include "boot/direct.h"
#include "boot/e820.h"
#include "boot/lowmem.h"
#include "util/log.h"
#include "util/util.h"
#include "vmm/mem.h"
#include "vmm/vcpu.h"

#define HEADER_OFFSET offsetof(struct boot_params, hdr)
#define HEADER_MAGIC 0x53726448 /* "HdrS" */
/* Bytes of the file that may hold the header: up to 0x202 plus a byte's worth. */
#define HEADER_END_MAX 0x302

#define SECTOR 512
#define ENTRY64_OFFSET 0x200
#define LOADER_UNDEFINED 0xFF
#define SEED_BYTES 32

_Static_assert(sizeof(struct boot_params) == 4096, "boot_params is one page");
_Static_assert(offsetof(struct boot_params, hdr) == 0x1F1, "boot protocol");

static int refuse(const struct boot_file *kernel, const char *reason)
{
	log_error("kernel %s: %s", kernel->path, reason);
	return -EINVAL;
}

/* Copy what the file has of the header; what an old header lacks stays 0. */
static int read_header(struct setup_header *hdr, const struct boot_file *kernel)
{
	uint8_t head[HEADER_END_MAX] = {0};
	size_t len = MIN(kernel->size_bytes, sizeof(head));
	size_t end;
	int ret = boot_file_read(kernel, 0, head, len);

	if (ret < 0)
		return ret;
	memset(hdr, 0, sizeof(*hdr));
	/* The byte after the jump's opcode says where the header ends, from 0x202. */
	end = 0x202u + head[0x201];
	if (end < HEADER_OFFSET + offsetof(struct setup_header, code32_start))
		end = HEADER_OFFSET + offsetof(struct setup_header, code32_start);
	memcpy(hdr, head + HEADER_OFFSET, MIN(end - HEADER_OFFSET, sizeof(*hdr)));
	if (hdr->boot_flag != 0xAA55 || hdr->header != HEADER_MAGIC)
		return -ENOEXEC;
	if (len < end)
		return refuse(kernel, "truncated in its header (copy or download it again)");
	return 0;
}

/* Fields that later protocols added get the value the protocol gives them where missing. */
static void fill_defaults(struct setup_header *hdr)
{
	if (!hdr->setup_sects)
		hdr->setup_sects = 4;
	if (hdr->version < 0x203)
		hdr->initrd_addr_max = 0x37FFFFFF;
	if (hdr->version < 0x204)
		hdr->syssize &= 0xFFFF;
	if (hdr->version < 0x205) {
		hdr->relocatable_kernel = 0;
		hdr->kernel_alignment = 0;
	}
	if (hdr->version < 0x206)
		hdr->cmdline_size = 255;
	if (hdr->version < 0x208)
		hdr->payload_length = 0;
	if (hdr->version < 0x20A) {
		hdr->pref_address = BOOT_KERNEL_MIN;
		hdr->init_size = 0;
	}
	if (hdr->version < 0x20C)
		hdr->xloadflags = 0;
}

static int check_header(const struct setup_header *hdr, const struct boot_file *kernel)
{
	if (hdr->version < 0x202)
		return refuse(kernel, "its boot protocol is older than 2.02 "
				      "(use Linux 2.4 or newer)");
	if (!(hdr->loadflags & LOADED_HIGH))
		return refuse(kernel, "a zImage, which loads low (build a bzImage)");
	if (!hdr->syssize)
		return refuse(kernel, "its header says the kernel is empty (build it again)");
	if (hdr->kernel_alignment & (hdr->kernel_alignment - 1))
		return refuse(kernel, "its header's kernel_alignment is not a power of two "
				      "(build it again)");
	if (hdr->pref_address < BOOT_KERNEL_MIN || hdr->pref_address > UINT32_MAX)
		return refuse(kernel, "its header wants an address outside 1 MiB to 4 GiB "
				      "(build it again)");
	return 0;
}

/*
 * Where the kernel goes, and how far it reaches. It is loaded where it prefers to be. Loading
 * it lower would save nothing: a relocatable kernel moves itself up to pref_address again.
 */
static void place(struct bzimage *image)
{
	const struct setup_header *hdr = &image->hdr;
	uint64_t runtime = hdr->pref_address;

	image->load_gpa = hdr->pref_address;
	if (hdr->relocatable_kernel && hdr->kernel_alignment)
		runtime = align_up(runtime, hdr->kernel_alignment);
	image->end_gpa = MAX(image->load_gpa + image->code_bytes, runtime + hdr->init_size);
	image->initrd_limit = hdr->initrd_addr_max + 1ull;
}

/* The header is no reason to refuse a kernel that unpacks itself. */
static void find_payload(struct bzimage *image)
{
	const struct setup_header *hdr = &image->hdr;

	image->payload_offset = image->code_offset + hdr->payload_offset;
	image->payload_bytes = hdr->payload_length;
	if (hdr->payload_length < sizeof(uint32_t) ||
	    !range_fits(hdr->payload_offset, hdr->payload_length, image->code_bytes))
		image->payload_bytes = 0;
}

int bzimage_open(struct bzimage *image, const struct boot_file *kernel)
{
	int ret = read_header(&image->hdr, kernel);

	if (ret < 0)
		return ret;
	fill_defaults(&image->hdr);
	ret = check_header(&image->hdr, kernel);
	if (ret < 0)
		return ret;
	image->code_offset = (image->hdr.setup_sects + 1) * SECTOR;
	image->code_bytes = image->hdr.syssize * 16ull;
	if (!range_fits(image->code_offset, image->code_bytes, kernel->size_bytes)) {
		log_error("kernel %s: truncated: %llu bytes, its header says %llu "
			  "(copy or download it again)", kernel->path,
			  (unsigned long long)kernel->size_bytes,
			  (unsigned long long)(image->code_offset + image->code_bytes));
		return -EINVAL;
	}
	image->entry64 = image->hdr.xloadflags & XLF_KERNEL_64;
	if (image->entry64 && image->code_bytes <= ENTRY64_OFFSET)
		return refuse(kernel, "too short for its 64-bit entry (build it again)");
	find_payload(image);
	place(image);
	return 0;
}

uint32_t bzimage_cmdline_max(const struct bzimage *image)
{
	return image->hdr.cmdline_size;
}

/* A seed for the kernel's random numbers, so that it need not wait for entropy. */
static uint64_t write_seed(const struct mem *mem)
{
	const struct setup_data head = {.type = SETUP_RNG_SEED, .len = SEED_BYTES};
	uint8_t seed[SEED_BYTES];

	if (getrandom(seed, sizeof(seed), GRND_NONBLOCK) != sizeof(seed))
		return 0;
	if (mem_write(mem, BOOT_SETUP_DATA, &head, sizeof(head)) < 0 ||
	    mem_write(mem, BOOT_SETUP_DATA + sizeof(head), seed, sizeof(seed)) < 0)
		return 0;
	return BOOT_SETUP_DATA;
}

static void write_e820(struct boot_params *params, const struct mem *mem)
{
	struct e820 map;

	e820_build(&map, mem);
	params->e820_entries = (uint8_t)map.count;
	for (unsigned int i = 0; i < map.count; i++)
		params->e820_table[i] = (struct boot_e820_entry){
			map.ranges[i].gpa, map.ranges[i].len_bytes, map.ranges[i].type};
}

/*
 * screen_info stays zero: no screen of any kind, so the kernel probes none. `hdr` is the
 * file's, with what the loader has to fill in.
 */
static int write_params(const struct setup_header *hdr, const struct boot_payload *payload,
			const struct mem *mem)
{
	struct boot_params params = {.hdr = *hdr};

	params.hdr.type_of_loader = LOADER_UNDEFINED;
	params.hdr.cmd_line_ptr = BOOT_CMDLINE;
	if (hdr->version >= 0x209)
		params.hdr.setup_data = write_seed(mem);
	params.acpi_rsdp_addr = payload->rsdp_gpa;
	write_e820(&params, mem);
	return mem_write(mem, BOOT_PARAMS, &params, sizeof(params));
}

/* The unpacking code, to be entered where it has its entry. */
static int load_code(const struct bzimage *image, const struct boot_payload *payload,
		     const struct mem *mem, struct vcpu_entry *entry)
{
	entry->mode = image->entry64 ? VCPU_LONG_64 : VCPU_PROTECTED_32;
	entry->rip = image->load_gpa + (image->entry64 ? ENTRY64_OFFSET : 0);
	return boot_file_load(payload->kernel, image->code_offset, image->code_bytes, mem,
			      image->load_gpa);
}

/* Something to start, below `top`. */
static int load_kernel(const struct bzimage *image, const struct boot_payload *payload,
		       const struct mem *mem, uint64_t top, struct setup_header *hdr,
		       struct vcpu_entry *entry)
{
	struct direct direct;
	int ret = direct_load(&direct, image, payload, mem, top);

	if (ret < 0)
		return ret;
	entry->rsi = BOOT_PARAMS;
	if (!direct.loaded)
		return load_code(image, payload, mem, entry);
	entry->mode = VCPU_LONG_64;
	entry->rip = direct.entry_gpa;
	if (direct.kaslr)
		hdr->loadflags |= KASLR_FLAG;
	return 0;
}

int bzimage_load(const struct bzimage *image, const struct boot_payload *payload,
		 const struct mem *mem, struct vcpu_entry *entry)
{
	struct setup_header hdr = image->hdr;
	uint64_t initrd_gpa = 0;
	int ret;

	if (image->end_gpa > mem_low_end(mem))
		return boot_file_no_room(payload->kernel, mem, image->end_gpa);
	if (payload->initrd->fd >= 0) {
		ret = boot_initrd_load(payload->initrd, mem, image->end_gpa, image->initrd_limit,
				       &initrd_gpa);
		if (ret < 0)
			return ret;
		hdr.ramdisk_image = (uint32_t)initrd_gpa;
		hdr.ramdisk_size = (uint32_t)payload->initrd->size_bytes;
	}
	hdr.code32_start = (uint32_t)image->load_gpa;
	ret = load_kernel(image, payload, mem, initrd_gpa ? initrd_gpa : mem_low_end(mem), &hdr,
			  entry);
	if (ret < 0)
		return ret;
	return write_params(&hdr, payload, mem);
}
