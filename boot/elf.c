/* SPDX-License-Identifier: MIT */
/* Reading an ELF kernel's headers and notes; boot/pvh.c loads it. */
#include "boot/pvh.h"

#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "boot/lowmem.h"
#include "util/log.h"
#include "util/util.h"
#include "vmm/layout.h"

#define PHNUM_MAX 128
#define NOTES_BYTES_MAX KIB(64)
/* How much of the segments is searched for Linux's banner. */
#define SCAN_BYTES_MAX MIB(128)
#define SCAN_CHUNK MIB(1)

#define XEN_ELFNOTE_GUEST_OS 6
#define XEN_ELFNOTE_PHYS32_ENTRY 18

struct header {
	bool is64;
	uint64_t phoff;
	unsigned int phnum;
};

struct phdr {
	uint32_t type;
	uint64_t offset;
	uint64_t paddr;
	uint64_t filesz;
	uint64_t memsz;
	uint64_t align;
};

static int refuse(const struct boot_file *kernel, const char *reason)
{
	log_error("kernel %s: %s", kernel->path, reason);
	return -EINVAL;
}

static int check_ident(const struct boot_file *kernel, const unsigned char *ident,
		       unsigned int machine, unsigned int type)
{
	if (ident[EI_DATA] != ELFDATA2LSB || (machine != EM_X86_64 && machine != EM_386))
		return refuse(kernel, "an ELF file, but not for x86 (use an x86-64 kernel)");
	if (type != ET_EXEC && type != ET_DYN)
		return refuse(kernel, "an ELF file, but not an executable (use a bzImage or a "
				      "linked vmlinux)");
	return 0;
}

static int read_header(struct header *hdr, const struct boot_file *kernel)
{
	union {
		unsigned char ident[EI_NIDENT];
		Elf64_Ehdr e64;
		Elf32_Ehdr e32;
	} u = {0};
	size_t len = MIN(kernel->size_bytes, sizeof(u));
	unsigned int phentsize, want;
	int ret = boot_file_read(kernel, 0, &u, len);

	if (ret < 0)
		return ret;
	if (memcmp(u.ident, ELFMAG, SELFMAG) != 0)
		return -ENOEXEC;
	hdr->is64 = u.ident[EI_CLASS] == ELFCLASS64;
	if (len < (hdr->is64 ? sizeof(u.e64) : sizeof(u.e32)))
		return refuse(kernel, "truncated in its ELF header (copy or build it again)");
	if (hdr->is64) {
		ret = check_ident(kernel, u.ident, u.e64.e_machine, u.e64.e_type);
		hdr->phoff = u.e64.e_phoff;
		hdr->phnum = u.e64.e_phnum;
		phentsize = u.e64.e_phentsize;
		want = sizeof(Elf64_Phdr);
	} else {
		ret = check_ident(kernel, u.ident, u.e32.e_machine, u.e32.e_type);
		hdr->phoff = u.e32.e_phoff;
		hdr->phnum = u.e32.e_phnum;
		phentsize = u.e32.e_phentsize;
		want = sizeof(Elf32_Phdr);
	}
	if (ret < 0)
		return ret;
	if (!hdr->phnum || hdr->phnum > PHNUM_MAX || phentsize != want)
		return refuse(kernel, "an ELF file without usable program headers (use a linked "
				      "vmlinux)");
	if (!range_fits(hdr->phoff, (uint64_t)hdr->phnum * want, kernel->size_bytes))
		return refuse(kernel, "truncated: its program headers lie past its end (copy or "
				      "build it again)");
	return 0;
}

static int read_phdr(const struct header *hdr, const struct boot_file *kernel,
		     unsigned int index, struct phdr *out)
{
	Elf64_Phdr p64;
	Elf32_Phdr p32;
	int ret;

	if (hdr->is64) {
		ret = boot_file_read(kernel, hdr->phoff + index * sizeof(p64), &p64, sizeof(p64));
		if (ret == 0)
			*out = (struct phdr){p64.p_type, p64.p_offset, p64.p_paddr, p64.p_filesz,
					     p64.p_memsz, p64.p_align};
	} else {
		ret = boot_file_read(kernel, hdr->phoff + index * sizeof(p32), &p32, sizeof(p32));
		if (ret == 0)
			*out = (struct phdr){p32.p_type, p32.p_offset, p32.p_paddr, p32.p_filesz,
					     p32.p_memsz, p32.p_align};
	}
	return ret;
}

static int add_segment(struct elf *elf, const struct boot_file *kernel, const struct phdr *ph)
{
	if (!ph->memsz)
		return 0;
	if (elf->count == ELF_SEGMENTS_MAX)
		return refuse(kernel, "has more than 32 loadable segments (link it with fewer)");
	if (!range_fits(ph->offset, ph->filesz, kernel->size_bytes))
		return refuse(kernel, "truncated: a segment lies past its end (copy or build it "
				      "again)");
	if (ph->filesz > ph->memsz || !range_fits(ph->paddr, ph->memsz, LAYOUT_LOW_RAM_MAX))
		return refuse(kernel, "a segment does not fit below 3 GiB (link it lower)");
	if (ph->paddr < BOOT_KERNEL_MIN)
		return refuse(kernel, "a segment lies below 1 MiB, where boot tables are (link "
				      "it at 1 MiB or higher)");
	elf->segments[elf->count++] = (struct elf_segment){ph->offset, ph->filesz, ph->paddr,
							   ph->memsz};
	elf->end_gpa = MAX(elf->end_gpa, ph->paddr + ph->memsz);
	return 0;
}

/* Notes that matter: the PVH entry, and those that tell Linux. `desc` has `len` bytes. */
static void take_note(struct elf *elf, uint32_t type, const char *name, size_t name_len,
		      const uint8_t *desc, size_t len)
{
	bool xen = name_len == 4 && memcmp(name, "Xen", 4) == 0;

	if (xen && type == XEN_ELFNOTE_PHYS32_ENTRY && (len == 4 || len == 8)) {
		elf->entry_gpa = 0;
		memcpy(&elf->entry_gpa, desc, len);
	}
	if (xen && type == XEN_ELFNOTE_GUEST_OS && len >= 5 && memcmp(desc, "linux", 5) == 0)
		elf->is_linux = true;
	if (name_len == 6 && memcmp(name, "Linux", 6) == 0)
		elf->is_linux = true;
}

static void walk_notes(struct elf *elf, const uint8_t *notes, uint64_t len, uint64_t align)
{
	uint64_t pos = 0;

	while (range_fits(pos, sizeof(Elf64_Nhdr), len)) {
		Elf64_Nhdr note; /* the same in both classes */
		uint64_t name, desc;

		memcpy(&note, notes + pos, sizeof(note));
		name = pos + sizeof(note);
		desc = align_up(name + note.n_namesz, align);
		if (!range_fits(name, note.n_namesz, len) || !range_fits(desc, note.n_descsz, len))
			return;
		take_note(elf, note.n_type, (const char *)notes + name, note.n_namesz,
			  notes + desc, note.n_descsz);
		pos = align_up(desc + note.n_descsz, align);
	}
}

static int read_notes(struct elf *elf, const struct boot_file *kernel, const struct phdr *ph)
{
	uint8_t *notes;
	int ret;

	if (ph->filesz > NOTES_BYTES_MAX ||
	    !range_fits(ph->offset, ph->filesz, kernel->size_bytes))
		return refuse(kernel, "its ELF notes lie past its end or are too large (copy or "
				      "build it again)");
	if (!ph->filesz)
		return 0;
	notes = malloc(ph->filesz);
	if (!notes)
		return -ENOMEM;
	ret = boot_file_read(kernel, ph->offset, notes, ph->filesz);
	if (ret == 0)
		walk_notes(elf, notes, ph->filesz, ph->align == 8 ? 8 : 4);
	free(notes);
	return ret;
}

static bool entry_is_loaded(const struct elf *elf)
{
	for (unsigned int i = 0; i < elf->count; i++) {
		const struct elf_segment *seg = &elf->segments[i];

		if (elf->entry_gpa >= seg->gpa && elf->entry_gpa - seg->gpa < seg->mem_bytes)
			return true;
	}
	return false;
}

/* Search [offset, offset + len) of the file for Linux's banner. 1, 0 or -errno. */
static int scan_range(const struct boot_file *kernel, char *buf, uint64_t offset, uint64_t len)
{
	static const char banner[] = "Linux version ";
	const size_t overlap = sizeof(banner) - 2;

	while (len >= sizeof(banner) - 1) {
		size_t chunk = MIN(len, SCAN_CHUNK);
		int ret = boot_file_read(kernel, offset, buf, chunk);

		if (ret < 0)
			return ret;
		if (memmem(buf, chunk, banner, sizeof(banner) - 1))
			return 1;
		if (chunk == len)
			break;
		offset += chunk - overlap;
		len -= chunk - overlap;
	}
	return 0;
}

static int scan_for_linux(struct elf *elf, const struct boot_file *kernel)
{
	uint64_t budget = SCAN_BYTES_MAX;
	char *buf = malloc(SCAN_CHUNK);
	int ret = 0;

	if (!buf)
		return -ENOMEM;
	for (unsigned int i = 0; i < elf->count && budget && ret == 0; i++) {
		uint64_t len = MIN(elf->segments[i].file_bytes, budget);

		ret = scan_range(kernel, buf, elf->segments[i].offset, len);
		budget -= len;
	}
	free(buf);
	elf->is_linux = ret > 0;
	return MIN(ret, 0);
}

int elf_open(struct elf *elf, const struct boot_file *kernel)
{
	struct header hdr;
	int ret;

	*elf = (struct elf){.entry_gpa = UINT64_MAX};
	ret = read_header(&hdr, kernel);
	for (unsigned int i = 0; ret == 0 && i < hdr.phnum; i++) {
		struct phdr ph;

		ret = read_phdr(&hdr, kernel, i, &ph);
		if (ret == 0 && ph.type == PT_LOAD)
			ret = add_segment(elf, kernel, &ph);
		else if (ret == 0 && ph.type == PT_NOTE)
			ret = read_notes(elf, kernel, &ph);
	}
	if (ret < 0)
		return ret;
	if (elf->entry_gpa == UINT64_MAX)
		return refuse(kernel, "an ELF file without a PVH entry note (build Linux with "
				      "CONFIG_PVH=y, or use its bzImage)");
	if (!entry_is_loaded(elf))
		return refuse(kernel, "its PVH entry lies outside its segments (build it again)");
	if (!elf->is_linux)
		ret = scan_for_linux(elf, kernel);
	return ret;
}
