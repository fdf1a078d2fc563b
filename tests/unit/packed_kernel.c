/* SPDX-License-Identifier: MIT */
#include "tests/unit/packed_kernel.h"

#include <elf.h>
#include <libdeflate.h>
#include <lz4.h>
#include <lzma.h>
#include <zstd.h>

uint32_t address(uint32_t offset)
{
	return (uint32_t)(VIRT + SEG1_GPA + offset);
}

struct relocs good_relocs(void)
{
	return (struct relocs){{0, address(AT64), 0, address(AT_SUB), 0, address(AT_ADD)}, 6, true};
}

void kernel_make(struct kernel *kernel, struct relocs relocs)
{
	const Elf64_Phdr segments[] = {
		{.p_type = PT_LOAD, .p_offset = SEG0, .p_paddr = LINK, .p_filesz = 0x1000,
		 .p_memsz = 0x1000},
		{.p_type = PT_NOTE, .p_offset = UINT64_MAX},
		{.p_type = PT_LOAD, .p_offset = SEG1, .p_paddr = SEG1_GPA, .p_filesz = SEG1_BYTES,
		 .p_memsz = SEG1_MEM},
	};
	const Elf64_Ehdr hdr = {
		.e_ident = {0x7F, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
		.e_type = ET_EXEC, .e_machine = EM_X86_64, .e_entry = LINK + ENTRY,
		.e_phoff = sizeof(hdr), .e_phentsize = sizeof(Elf64_Phdr), .e_phnum = 3,
		.e_shoff = SEG1 + SEG1_BYTES, .e_shentsize = sizeof(Elf64_Shdr), .e_shnum = 2,
	};

	for (size_t i = 0; i < sizeof(kernel->bytes); i++)
		kernel->bytes[i] = (uint8_t)(i * 31 >> 3);
	memcpy(kernel->bytes, &hdr, sizeof(hdr));
	memcpy(kernel->bytes + sizeof(hdr), segments, sizeof(segments));
	kernel->len = hdr.e_shoff + hdr.e_shnum * sizeof(Elf64_Shdr);
	kernel->inverse = relocs.inverse;
	memcpy(kernel->bytes + kernel->len, relocs.words, relocs.count * 4);
	kernel->len += relocs.count * 4;
}

/* --- packing, as the kernel's build does it --- */

void end_with_length(struct packed *packed, size_t packed_len, size_t len)
{
	uint32_t word = (uint32_t)len;

	assert_true(packed_len > 0 && packed_len + 4 < sizeof(packed->bytes));
	memcpy(packed->bytes + packed_len, &word, sizeof(word));
	packed->len = packed_len + 4;
}

static void pack_gzip(struct packed *packed, const struct kernel *kernel)
{
	struct libdeflate_compressor *c = libdeflate_alloc_compressor(6);

	/* Its own last word is the length. */
	packed->len = libdeflate_gzip_compress(c, kernel->bytes, kernel->len, packed->bytes,
					       sizeof(packed->bytes));
	libdeflate_free_compressor(c);
	assert_true(packed->len);
}

static size_t lz4_block(uint8_t *out, const uint8_t *in, size_t len)
{
	int n = LZ4_compress_default((const char *)in, (char *)out + 4, (int)len, KIB(128));
	uint32_t word = (uint32_t)n;

	assert_true(n > 0);
	memcpy(out, &word, sizeof(word));
	return word + 4;
}

void pack_lz4(struct packed *packed, const struct kernel *kernel)
{
	size_t first = kernel->len / 3, pos = 4;

	memcpy(packed->bytes, "\x02\x21\x4C\x18", 4);
	pos += lz4_block(packed->bytes + pos, kernel->bytes, first);
	pos += lz4_block(packed->bytes + pos, kernel->bytes + first, kernel->len - first);
	end_with_length(packed, pos, kernel->len);
}

void pack_zstd(struct packed *packed, const struct kernel *kernel)
{
	size_t len = ZSTD_compress(packed->bytes, sizeof(packed->bytes), kernel->bytes,
				   kernel->len, 3);

	assert_false(ZSTD_isError(len));
	end_with_length(packed, len, kernel->len);
}

static void pack_xz(struct packed *packed, const struct kernel *kernel)
{
	size_t pos = 0;

	assert_int_equal(lzma_easy_buffer_encode(6, LZMA_CHECK_CRC32, NULL, kernel->bytes,
						 kernel->len, packed->bytes, &pos,
						 sizeof(packed->bytes)), LZMA_OK);
	end_with_length(packed, pos, kernel->len);
}

static void pack_lzma(struct packed *packed, const struct kernel *kernel)
{
	lzma_stream stream = LZMA_STREAM_INIT;
	lzma_options_lzma options;

	lzma_lzma_preset(&options, 6);
	assert_int_equal(lzma_alone_encoder(&stream, &options), LZMA_OK);
	stream.next_in = kernel->bytes;
	stream.avail_in = kernel->len;
	stream.next_out = packed->bytes;
	stream.avail_out = sizeof(packed->bytes);
	assert_int_equal(lzma_code(&stream, LZMA_FINISH), LZMA_STREAM_END);
	end_with_length(packed, stream.total_out, kernel->len);
	lzma_end(&stream);
}

pack_fn *const packers[PACKERS] = { pack_gzip, pack_lz4, pack_zstd, pack_xz, pack_lzma };

void kernel_load(struct loaded *out, const struct packed *packed, struct boot_options opts)
{
	static uint8_t image[IMAGE_MAX];
	size_t code = align_up(PAYLOAD + packed->len, 16);
	const struct setup_header hdr = {
		.setup_sects = SECTS, .syssize = (uint32_t)code / 16, .boot_flag = 0xAA55,
		.jump = 0x66EB, .header = 0x53726448, .version = 0x20F, .loadflags = LOADED_HIGH,
		.initrd_addr_max = 0x7FFFFFFF, .kernel_alignment = ALIGN, .relocatable_kernel = 1,
		.xloadflags = XLF_KERNEL_64, .cmdline_size = 2047, .pref_address = LINK,
		.init_size = INIT_SIZE, .payload_offset = PAYLOAD,
		.payload_length = (uint32_t)packed->len,
	};
	struct test_file file;
	struct boot *boot;

	memset(image, 0xCC, sizeof(image));
	memcpy(image + 0x1F1, &hdr, sizeof(hdr));
	memcpy(image + CODE_OFFSET + PAYLOAD, packed->bytes, packed->len);
	file = file_make(image, CODE_OFFSET + code);
	opts.kernel = file.path;
	machine_init(&out->vm, RAM);
	out->entry = (struct vcpu_entry){0};
	assert_int_equal(boot_open(&opts, &boot), 0);
	assert_int_equal(boot_load(boot, &out->vm, &out->entry), 0);
	boot_close(boot);
	file_drop(&file);
	assert_int_equal(out->entry.mode, VCPU_LONG_64);
	assert_int_equal(mem_read(&out->vm.mem, out->entry.rsi, &out->params,
				  sizeof(out->params)), 0);
}
