/* SPDX-License-Identifier: MIT */
/* For the tests of boot/direct.c: a kernel is made, packed into a bzImage, and that is loaded. */
#pragma once

#include "tests/unit/test_boot.h"

#include <asm/bootparam.h>

#include "boot/boot.h"

#define RAM MIB(256)
#define LINK MIB(16)
#define ALIGN MIB(2)
#define INIT_SIZE MIB(4)
#define SECTS 4
#define CODE_OFFSET ((SECTS + 1) * 512)
#define PAYLOAD 0x400 /* in the code */
#define IMAGE_MAX KIB(256)

/* The kernel: two segments, with what is to be moved in the second. */
#define SEG0 0x1000
#define SEG1 0x2000
#define SEG1_BYTES 0x800
#define SEG1_MEM 0x1000
#define SEG1_GPA (LINK + 0x3000)
#define SPAN 0x4000
#define ENTRY 0x40
#define VIRT (0xFFFFFFFF80000000u)
#define AT64 0x103 /* not aligned, as they come */
#define AT_SUB 0x200
#define AT_ADD 0x300

struct relocs {
	uint32_t words[16];
	unsigned int count;
	bool inverse; /* AT_SUB is in them */
};

struct kernel {
	uint8_t bytes[KIB(64)];
	size_t len;
	bool inverse;
};

struct packed {
	uint8_t bytes[IMAGE_MAX];
	size_t len;
};

struct loaded {
	struct vm vm;
	struct vcpu_entry entry;
	struct boot_params params;
};

uint32_t address(uint32_t offset);
struct relocs good_relocs(void);
void kernel_make(struct kernel *kernel, struct relocs relocs);

/* As the kernel's build does it. */
typedef void pack_fn(struct packed *packed, const struct kernel *kernel);
#define PACKERS 5
extern pack_fn *const packers[PACKERS];
pack_fn pack_lz4, pack_zstd;
void end_with_length(struct packed *packed, size_t packed_len, size_t len);

/* Into a machine that is the caller's to finish; of `opts` only the kernel is set here. */
void kernel_load(struct loaded *out, const struct packed *packed, struct boot_options opts);
