/* SPDX-License-Identifier: MIT */
#include "boot/boot.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "boot/acpi.h"
#include "boot/bzimage.h"
#include "boot/cache.h"
#include "boot/cmdline.h"
#include "boot/pvh.h"
#include "boot/lowmem.h"
#include "boot/payload.h"
#include "util/log.h"
#include "util/util.h"
#include "vmm/layout.h"
#include "vmm/mem.h"
#include "vmm/vm.h"

/* The longest command line Linux keeps of PVH's (COMMAND_LINE_SIZE on x86, with its 0). */
#define LINUX_CMDLINE_MAX 2047

/* Less than this holds no kernel; it keeps the tables below 1 MiB inside RAM. */
#define RAM_MIN MIB(2)

/* Flat segments (Intel SDM 3A, 3.4.5): base 0, limit 4 GiB, accessed. */
#define GDT_CODE32 0x00CF9B000000FFFFull
#define GDT_CODE64 0x00AF9B000000FFFFull
#define GDT_DATA 0x00CF93000000FFFFull

/* Page table bits: present, writable, user, accessed; dirty and 2 MiB page in a leaf. */
#define PTE_TABLE 0x27ull
#define PTE_LEAF 0xE7ull
#define PTES 512

struct boot {
	struct boot_info info;
	struct boot_file kernel;
	struct boot_file initrd; /* fd -1: none */
	char *cmdline;
	struct kernel_cache *cache; /* or NULL */
	bool no_kaslr;
	union {
		struct bzimage bzimage;
		struct elf elf;
	};
};

/* Name what people give by mistake. */
static const char *guess_format(const struct boot_file *kernel)
{
	static const struct {
		const char *name;
		unsigned int len;
		const char *bytes;
	} formats[] = {
		{"gzip data, unpack it first", 2, "\x1F\x8B"},
		{"xz data, unpack it first", 5, "\xFD" "7zXZ"},
		{"zstd data, unpack it first", 4, "\x28\xB5\x2F\xFD"},
		{"a qcow2 image, that is --disk", 4, "QFI\xFB"},
	};
	uint8_t head[8] = {0};

	if (boot_file_read(kernel, 0, head, MIN(kernel->size_bytes, sizeof(head))) < 0)
		return NULL;
	for (size_t i = 0; i < ARRAY_LEN(formats); i++)
		if (!memcmp(head, formats[i].bytes, formats[i].len))
			return formats[i].name;
	return NULL;
}

static int refuse_format(const struct boot_file *kernel)
{
	const char *guess = guess_format(kernel);

	log_error("kernel %s: neither a bzImage nor an ELF file%s%s%s (use a Linux bzImage such as "
		  "/boot/vmlinuz-*, or a vmlinux)", kernel->path, guess ? " (it is " : "",
		  guess ? guess : "", guess ? ")" : "");
	return -ENOEXEC;
}

static int open_kernel(struct boot *boot)
{
	int ret = bzimage_open(&boot->bzimage, &boot->kernel);

	if (ret == 0) {
		boot->info.kind = BOOT_BZIMAGE;
		boot->info.is_linux = true;
		return 0;
	}
	if (ret != -ENOEXEC)
		return ret;
	ret = elf_open(&boot->elf, &boot->kernel);
	if (ret == 0) {
		boot->info.kind = BOOT_ELF_PVH;
		boot->info.is_linux = boot->elf.is_linux;
		return 0;
	}
	return ret == -ENOEXEC ? refuse_format(&boot->kernel) : ret;
}

static int open_cmdline(struct boot *boot, const struct boot_options *opts)
{
	size_t max = BOOT_CMDLINE_MAX - 1;
	int ret = 0;

	if (opts->cmdline) {
		boot->cmdline = strdup(opts->cmdline);
		if (!boot->cmdline)
			return -ENOMEM;
	} else {
		/* Only Linux looks for root=, or misses it. */
		ret = cmdline_make(boot->info.is_linux ? opts->root_disk : NULL,
				   opts->root_readonly, &boot->cmdline);
		if (ret < 0)
			return ret;
	}
	boot->info.cmdline = boot->cmdline;
	if (boot->info.kind == BOOT_BZIMAGE)
		max = MIN(max, bzimage_cmdline_max(&boot->bzimage));
	else if (boot->info.is_linux)
		max = MIN(max, (size_t)LINUX_CMDLINE_MAX);
	if (strlen(boot->cmdline) > max) {
		log_error("command line: %zu bytes, kernel %s takes %zu at most (shorten it)",
			  strlen(boot->cmdline), boot->kernel.path, max);
		return -E2BIG;
	}
	return 0;
}

int boot_open(const struct boot_options *opts, struct boot **out)
{
	struct boot *boot = calloc(1, sizeof(*boot));
	int ret;

	if (!boot)
		return -ENOMEM;
	boot->initrd.fd = -1;
	ret = boot_file_open(&boot->kernel, "kernel", opts->kernel);
	if (ret == 0)
		ret = open_kernel(boot);
	if (ret == 0 && opts->initrd)
		ret = boot_file_open(&boot->initrd, "initrd", opts->initrd);
	if (ret == 0)
		ret = open_cmdline(boot, opts);
	if (ret < 0) {
		boot_close(boot);
		return ret;
	}
	boot->no_kaslr = opts->no_kaslr;
	if (opts->kernel_cache && boot->info.kind == BOOT_BZIMAGE)
		boot->cache = kernel_cache_open();
	*out = boot;
	return 0;
}

void boot_close(struct boot *boot)
{
	if (!boot)
		return;
	kernel_cache_close(boot->cache);
	boot_file_close(&boot->kernel);
	boot_file_close(&boot->initrd);
	free(boot->cmdline);
	free(boot);
}

const struct boot_info *boot_info(const struct boot *boot)
{
	return &boot->info;
}

/* Selectors 0x10 and 0x18, as the Linux boot protocol wants them. */
static int write_gdt(const struct mem *mem, struct vcpu_entry *entry)
{
	const uint64_t gdt[] = {
		0, 0, entry->mode == VCPU_LONG_64 ? GDT_CODE64 : GDT_CODE32, GDT_DATA,
	};

	entry->gdt_gpa = BOOT_GDT;
	entry->gdt_len_bytes = sizeof(gdt);
	return mem_write(mem, BOOT_GDT, gdt, sizeof(gdt));
}

/*
 * The first 4 GiB mapped to themselves in 2 MiB pages. The user bit is set at every level
 * because KVM's PVM back end runs the guest's kernel in user mode.
 */
static int write_page_tables(const struct mem *mem, struct vcpu_entry *entry)
{
	uint64_t pdpt = BOOT_PAGE_TABLES + 4096;
	uint64_t *table = mem_at(mem, BOOT_PAGE_TABLES, 6 * 4096);

	if (!table)
		return -EFAULT;
	memset(table, 0, 6 * 4096);
	table[0] = pdpt | PTE_TABLE;
	for (uint64_t i = 0; i < 4; i++)
		table[PTES + i] = (pdpt + (i + 1) * 4096) | PTE_TABLE;
	for (uint64_t i = 0; i < 4 * PTES; i++)
		table[2 * PTES + i] = MIB(2) * i | PTE_LEAF;
	entry->cr3 = BOOT_PAGE_TABLES;
	return 0;
}

static int check_memory(const struct mem *mem)
{
	if (mem_low_end(mem) >= RAM_MIN)
		return 0;
	log_error("memory: %llu KiB are too little to boot from (use --mem 128M or more)",
		  (unsigned long long)(mem_total(mem) >> 10));
	return -ENOMEM;
}

int boot_load(struct boot *boot, struct vm *vm, struct vcpu_entry *entry)
{
	struct boot_payload payload = {
		.kernel = &boot->kernel,
		.initrd = &boot->initrd,
		.cmdline = boot->cmdline,
		.cache = boot->cache,
		.no_kaslr = boot->no_kaslr,
	};
	int ret = check_memory(&vm->mem);

	if (ret < 0)
		return ret;
	*entry = (struct vcpu_entry){.rsp = BOOT_STACK_TOP};
	ret = acpi_write(&vm->mem, &vm->topology, &payload.rsdp_gpa);
	if (ret < 0)
		return ret;
	ret = mem_write(&vm->mem, BOOT_CMDLINE, boot->cmdline, strlen(boot->cmdline) + 1);
	if (ret < 0)
		return ret;
	if (boot->info.kind == BOOT_BZIMAGE)
		ret = bzimage_load(&boot->bzimage, &payload, &vm->mem, entry);
	else
		ret = elf_load(&boot->elf, &payload, &vm->mem, entry);
	if (ret < 0)
		return ret;
	ret = write_gdt(&vm->mem, entry);
	if (ret == 0 && entry->mode == VCPU_LONG_64)
		ret = write_page_tables(&vm->mem, entry);
	return ret;
}
