/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * The payload of a bzImage is what its unpacking code leaves when it is done: segments to be copied
 * to where the kernel shall run, and lists of 32-bit addresses at which to add, or subtract, how
 * far the kernel's virtual address is moved: 64-bit values, 32-bit values that count backwards, and
 * 32-bit values, each list after a zero. Before Linux 3.19, and since 6.15, none count backwards
 * and there are two lists. As no entry is zero, the zeros tell how many there are. Addresses are
 * virtual, as linked, and their upper half is all ones. Where the kernel is in physical memory it
 * finds out by itself.
 */
#include "boot/vmlinux.h"

#include <elf.h>
#include <errno.h>
#include <string.h>

#include "util/util.h"
#include "vmm/mem.h"

/* __START_KERNEL_map, the lower half: physical address 0 as the kernel is linked. */
#define KERNEL_MAP 0x80000000u
#define PHNUM_MAX 128

static int take_segment(struct vmlinux *kernel, size_t len, const Elf64_Phdr *ph)
{
	if (ph->p_type != PT_LOAD || !ph->p_memsz)
		return 0;
	if (kernel->count == ELF_SEGMENTS_MAX || ph->p_filesz > ph->p_memsz ||
	    !range_fits(ph->p_offset, ph->p_filesz, len) || ph->p_paddr < kernel->link_gpa ||
	    !range_fits(ph->p_paddr, ph->p_memsz, KERNEL_MAP))
		return -EINVAL;
	kernel->segments[kernel->count++] = (struct elf_segment){ph->p_offset, ph->p_filesz,
								 ph->p_paddr, ph->p_memsz};
	kernel->span = MAX(kernel->span, ph->p_paddr + ph->p_memsz - kernel->link_gpa);
	return 0;
}

static int take_segments(struct vmlinux *kernel, size_t len, const Elf64_Ehdr *hdr)
{
	if (!hdr->e_phnum || hdr->e_phnum > PHNUM_MAX || hdr->e_phentsize != sizeof(Elf64_Phdr) ||
	    !range_fits(hdr->e_phoff, hdr->e_phnum * sizeof(Elf64_Phdr), len))
		return -EINVAL;
	for (unsigned int i = 0; i < hdr->e_phnum; i++) {
		Elf64_Phdr ph;
		int ret;

		memcpy(&ph, kernel->bytes + hdr->e_phoff + i * sizeof(ph), sizeof(ph));
		ret = take_segment(kernel, len, &ph);
		if (ret < 0)
			return ret;
	}
	kernel->entry = hdr->e_entry - kernel->link_gpa;
	return kernel->count && kernel->entry < kernel->span ? 0 : -EINVAL;
}

static uint32_t word_at(const struct vmlinux *kernel, size_t pos)
{
	uint32_t word;

	memcpy(&word, kernel->bytes + pos, sizeof(word));
	return word;
}

/* Where, from the kernel's start, the relocation at `pos` is about. */
static uint32_t target_of(const struct vmlinux *kernel, size_t pos)
{
	return word_at(kernel, pos) - (KERNEL_MAP + (uint32_t)kernel->link_gpa);
}

static bool is_inside(const struct vmlinux *kernel, size_t pos, unsigned int kind)
{
	return range_fits(target_of(kernel, pos), kind == VMLINUX_ADD64 ? 8 : 4, kernel->span);
}

/* What each of `lists` is. */
static int name_lists(struct vmlinux *kernel, unsigned int lists)
{
	/* Every kernel has 64-bit ones. If none are first, that zero is not of the lists, and the
	 * others are not what their number tells. */
	if (lists < VMLINUX_RELOC_KINDS - 1 || !kernel->relocs[VMLINUX_ADD64].count)
		return -EINVAL;
	if (lists == VMLINUX_RELOC_KINDS - 1) {
		kernel->relocs[VMLINUX_ADD32] = kernel->relocs[VMLINUX_SUB32];
		kernel->relocs[VMLINUX_SUB32].count = 0;
	}
	kernel->can_move = true;
	return 0;
}

/* From the ELF file's end, which its section headers are, to `len`: the lists, or nothing. */
static int take_relocs(struct vmlinux *kernel, size_t len, const Elf64_Ehdr *hdr)
{
	uint64_t pos = hdr->e_shoff + (uint64_t)hdr->e_shnum * sizeof(Elf64_Shdr);
	unsigned int lists = 0;

	if (hdr->e_shentsize != sizeof(Elf64_Shdr) || !range_fits(hdr->e_shoff, 0, len) ||
	    pos > len || (len - pos) % 4)
		return -EINVAL;
	if (pos == len)
		return 0;
	if (word_at(kernel, pos))
		return -EINVAL;
	for (; pos < len; pos += 4) {
		if (word_at(kernel, pos)) {
			if (!is_inside(kernel, pos, lists - 1))
				return -EINVAL;
			kernel->relocs[lists - 1].count++;
			continue;
		}
		if (lists == VMLINUX_RELOC_KINDS)
			return -EINVAL;
		kernel->relocs[lists++].first = pos + 4;
	}
	return name_lists(kernel, lists);
}

int vmlinux_open(struct vmlinux *kernel, const uint8_t *bytes, size_t len, uint64_t link_gpa)
{
	Elf64_Ehdr hdr;
	int ret;

	*kernel = (struct vmlinux){.bytes = bytes, .link_gpa = link_gpa};
	if (len < sizeof(hdr))
		return -EINVAL;
	memcpy(&hdr, bytes, sizeof(hdr));
	if (memcmp(hdr.e_ident, ELFMAG, SELFMAG) != 0 || hdr.e_ident[EI_CLASS] != ELFCLASS64 ||
	    hdr.e_ident[EI_DATA] != ELFDATA2LSB || hdr.e_machine != EM_X86_64)
		return -EINVAL;
	ret = take_segments(kernel, len, &hdr);
	return ret < 0 ? ret : take_relocs(kernel, len, &hdr);
}

/* `bytes`: of each value, a constant wherever this is inlined. */
static inline void add(const struct vmlinux *kernel, uint8_t *image, enum vmlinux_reloc_kind kind,
		       size_t bytes, uint64_t shift)
{
	size_t pos = kernel->relocs[kind].first;

	for (size_t i = 0; i < kernel->relocs[kind].count; i++, pos += 4) {
		uint8_t *at = image + target_of(kernel, pos);
		uint64_t value = 0;

		memcpy(&value, at, bytes);
		value += shift;
		memcpy(at, &value, bytes);
	}
}

int vmlinux_load(const struct vmlinux *kernel, const struct mem *mem, uint64_t gpa,
		 uint32_t shift)
{
	uint8_t *image = mem_at(mem, gpa, kernel->span);

	if (!image)
		return -EFAULT;
	/* Into huge pages, so that there is less to fault in. A mapped file has small ones, and the
	 * kernel patches most of its text when it starts: that made a boot some per cent longer. */
	mem_want_huge(mem, gpa, kernel->span);
	for (unsigned int i = 0; i < kernel->count; i++) {
		const struct elf_segment *seg = &kernel->segments[i];
		uint8_t *to = image + (seg->gpa - kernel->link_gpa);

		memcpy(to, kernel->bytes + seg->offset, seg->file_bytes);
		memset(to + seg->file_bytes, 0, seg->mem_bytes - seg->file_bytes);
	}
	if (!shift)
		return 0;
	add(kernel, image, VMLINUX_ADD64, 8, shift);
	add(kernel, image, VMLINUX_SUB32, 4, 0 - (uint64_t)shift);
	add(kernel, image, VMLINUX_ADD32, 4, shift);
	return 0;
}
