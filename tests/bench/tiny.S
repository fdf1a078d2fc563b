/* SPDX-License-Identifier: MIT */
/*
 * The smallest PVH guest: one byte to the serial port, then off by ACPI's S5 (which QEMU's
 * microvm has not: there it halts).
 */
	.section .note, "a", @note
	.long 4, 4, 18 /* XEN_ELFNOTE_PHYS32_ENTRY */
	.asciz "Xen"
	.long _start

	.text
	.code32
	.globl _start
_start:
	mov $0x3f8, %dx
	mov $'!', %al
	outb %al, %dx
	mov $0x604, %dx
	mov $0x3400, %ax /* SLP_EN, SLP_TYP of S5 */
	outw %ax, %dx
1:	hlt
	jmp 1b
