/* SPDX-License-Identifier: MIT */
/*
 * Starting the kernel inside of a bzImage without its unpacking code: unpacked here, which is
 * faster, and put where that code might have put it, at random (kernel:
 * arch/x86/boot/compressed/kaslr.c).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct boot_payload;
struct bzimage;
struct mem;

struct direct {
	bool loaded;        /* else: only its own code knows how */
	bool kaslr;         /* the kernel may place the rest of itself at random, too */
	uint64_t entry_gpa; /* 64-bit */
};

/* Between `image`'s own place and `top`. 0 or -errno, which logs; so does what it can not do. */
int direct_load(struct direct *direct, const struct bzimage *image,
		const struct boot_payload *payload, const struct mem *mem, uint64_t top);
