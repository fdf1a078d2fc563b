/* SPDX-License-Identifier: MIT */
/* The guests' files, as they were built. */
	.section .rodata
	.macro guest name
	.balign 16
	.global bench_guest_\name, bench_guest_\name\()_end
bench_guest_\name:
	.incbin "guest_\name\().elf"
bench_guest_\name\()_end:
	.endm

	guest blk_rate
	guest exits
	guest irq
	guest net_rate
	guest ram

	.section .note.GNU-stack, "", @progbits
