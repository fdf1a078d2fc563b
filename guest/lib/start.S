/* SPDX-License-Identifier: MIT */
/*
 * From the PVH entry, and from SIPI, to C. Kept short: a host that shadows the guest's page
 * tables may emulate every instruction before 64-bit mode. For the same hosts each level of the
 * tables has the U bit, and accessed and dirty bits are set beforehand.
 *
 * No IDT: an exception is a triple fault, and the runner sees that no PASS came.
 */
#define PTE_TABLE 0x67 /* present, writable, user, accessed, dirty */
#define PTE_2M 0xE7    /* the same, and large */

#define CR0_START 0x80000011 /* PG, ET, PE */
#define CR4_PAE 0x20
#define EFER 0xC0000080
#define EFER_LME 0x100

#define TSS 0x18
#define TSS_BYTES (104 + PORTS / 8 + 1)
#define TSS_FREE 0x89 /* the type of one that is not busy */
#define PORTS 0x10000
#define USER_DATA 0x2B /* where Linux has them: such hosts may insist */
#define USER_CODE 0x33

#define STACK_BYTES 8192
#define AP_STACK_BYTES 2048 /* as lib/smp.c has it */
#define TRAMPOLINE 0x8000

	.section .note.pvh, "a", @note
	.balign 4
	.long 4, 4, 18 /* name and descriptor length, XEN_ELFNOTE_PHYS32_ENTRY */
	.asciz "Xen"
	.long start32

	.section .text.start, "ax"
	.code32
	.global start32
start32:
	mov $page_pml4, %eax
	mov %eax, %cr3
	mov $CR4_PAE, %eax
	mov %eax, %cr4
	mov $EFER, %ecx
	mov $EFER_LME, %eax
	xor %edx, %edx
	wrmsr
	mov $CR0_START, %eax
	mov %eax, %cr0
	lgdt gdt_pointer
	ljmp $8, $start64

	.code64
start64:
	mov $boot_stack_end, %esp
	mov %ebx, %edi
	call set_data_segments
	call guest_start
1:	hlt
	jmp 1b

set_data_segments:
	mov $16, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	ret

/*
 * void become_user(void): IRET to the caller, at CPL 3; the TSS opens the ports. One TSS does for
 * all processors, one after the other: nothing is ever stored there, but LTR wants it not busy.
 */
	.global become_user
become_user:
	movb $TSS_FREE, gdt_tss + 5
	mov $tss, %eax
	mov %ax, gdt_tss + 2
	shr $16, %eax
	mov %al, gdt_tss + 4
	mov %ah, gdt_tss + 7
	mov $TSS, %eax
	ltr %ax
	pop %rcx
	mov %rsp, %rax
	push $USER_DATA
	push %rax
	push $2
	push $USER_CODE
	push %rcx
	iretq

	.weak ap_main, ap_stacks /* guests without lib/smp.c */
ap_start64:
	mov $1, %eax
	lock xadd %eax, ap_ticket
	inc %eax
	imul $AP_STACK_BYTES, %eax, %eax
	add ap_stacks, %eax
	mov %eax, %esp
	call set_data_segments
	call ap_main
1:	hlt
	jmp 1b

/* Copied to TRAMPOLINE: SIPI starts it in real mode with CS = TRAMPOLINE >> 4. */
	.code16
	.global trampoline, trampoline_end
trampoline:
	xor %ax, %ax
	mov %ax, %ds
	lgdtl TRAMPOLINE + trampoline_gdt_pointer - trampoline
	mov $page_pml4, %eax
	mov %eax, %cr3
	mov $CR4_PAE, %eax
	mov %eax, %cr4
	mov $EFER, %ecx
	mov $EFER_LME, %eax
	xor %edx, %edx
	wrmsr
	mov $CR0_START, %eax
	mov %eax, %cr0
	ljmpl $8, $ap_start64
	.balign 4
trampoline_gdt_pointer:
	.word gdt_end - gdt - 1
	.long gdt
trampoline_end:

	.section .data
	.balign 8
gdt:
	.quad 0
	.quad 0x00AF9B000000FFFF /* 64-bit code */
	.quad 0x00CF93000000FFFF /* data */
gdt_tss:
	.quad (TSS_FREE << 40) + TSS_BYTES - 1, 0
	.quad 0x00CFF3000000FFFF /* user data */
	.quad 0x00AFFB000000FFFF /* user 64-bit code */
gdt_end:
gdt_pointer:
	.word gdt_end - gdt - 1
	.long gdt
/* All zero but for the offset of the ports' bitmap, and the byte behind it. */
	.balign 8
tss:
	.fill 102, 1, 0
	.word 104
	.fill PORTS / 8, 1, 0
	.byte 0xFF
	.balign 4
ap_ticket:
	.long 0

/* The first 4 GiB onto themselves; lib.c maps more where a test wants it. */
	.balign 4096
	.global page_pdpt
page_pml4:
	.quad page_pdpt + PTE_TABLE
	.fill 511, 8, 0
page_pdpt:
	.quad page_pds + PTE_TABLE
	.quad page_pds + 0x1000 + PTE_TABLE
	.quad page_pds + 0x2000 + PTE_TABLE
	.quad page_pds + 0x3000 + PTE_TABLE
	.fill 508, 8, 0
page_pds:
	.set page, 0
	.rept 2048
	.quad page + PTE_2M
	.set page, page + 0x200000
	.endr

	.section .bss
	.balign 16
	.fill STACK_BYTES, 1, 0
boot_stack_end:

	.section .note.GNU-stack, "", @progbits
