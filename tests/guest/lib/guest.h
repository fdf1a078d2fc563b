/* SPDX-License-Identifier: MIT */
/*
 * A guest of a few hundred lines, in 64-bit mode, without interrupts: it polls. Each guest is
 * one guest_NAME.c with guest_main, which checks one property. It ends by pass or fail; a
 * guest that returns has passed.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

void guest_main(void);

/*
 * Go on at CPL 3, with access to the ports: no MSRs from there on. A host that has no
 * virtualization hardware runs user code as it is, and emulates every instruction of CPL 0.
 */
void become_user(void);

/* --- the end --- */
_Noreturn void pass(void);
_Noreturn void fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
_Noreturn void power_off(void);

#define CHECK(cond) \
	do { \
		if (!(cond)) \
			fail("%s:%d: %s", __FILE_NAME__, __LINE__, #cond); \
	} while (0)
/* Unsigned and 64 bits wide. */
#define CHECK_EQ(a, b) \
	do { \
		uint64_t a_ = (a), b_ = (b); \
		if (a_ != b_) \
			fail("%s:%d: %s is 0x%lx, not 0x%lx (%s)", __FILE_NAME__, __LINE__, #a, \
			     a_, b_, #b); \
	} while (0)

/* --- text --- */
#define COM1 0x3F8
/* %s %c %d %u %x, with l; %0Nx pads. */
void print(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
int serial_getc(void); /* waits */

/* The number after `name=` on the command line, or `otherwise`; decimal or 0x. */
uint64_t param(const char *name, uint64_t otherwise);
/* Whether the word stands there. */
bool flag(const char *word);

/* --- memory --- */
void *memset(void *to, int byte, size_t len);
void *memcpy(void *to, const void *from, size_t len);
int memcmp(const void *a, const void *b, size_t len);
size_t strlen(const char *s);
/* Zeroed, never freed; `align` is a power of two. */
void *alloc(size_t len, size_t align);
/* Map the GiB at `gpa` onto itself, 4 GiB and above, below 512 GiB. */
void map_gib(uint64_t gpa);

/* --- the processor --- */
static inline void outb(uint16_t port, uint8_t value)
{
	__asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline void outw(uint16_t port, uint16_t value)
{
	__asm__ volatile("outw %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline void outl(uint16_t port, uint32_t value)
{
	__asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline uint8_t inb(uint16_t port)
{
	uint8_t value;

	__asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port) : "memory");
	return value;
}

static inline uint16_t inw(uint16_t port)
{
	uint16_t value;

	__asm__ volatile("inw %1, %0" : "=a"(value) : "Nd"(port) : "memory");
	return value;
}

static inline uint32_t inl(uint16_t port)
{
	uint32_t value;

	__asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port) : "memory");
	return value;
}

static inline uint64_t rdmsr(uint32_t msr)
{
	uint32_t lo, hi;

	__asm__ volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(msr) : "memory");
	return (uint64_t)hi << 32 | lo;
}

static inline void wrmsr(uint32_t msr, uint64_t value)
{
	__asm__ volatile("wrmsr"
			 :
			 : "c"(msr), "a"((uint32_t)value), "d"((uint32_t)(value >> 32))
			 : "memory");
}

struct cpuid {
	uint32_t eax, ebx, ecx, edx;
};

static inline struct cpuid cpuid(uint32_t leaf, uint32_t subleaf)
{
	struct cpuid r;

	__asm__ volatile("cpuid"
			 : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx)
			 : "a"(leaf), "c"(subleaf));
	return r;
}

static inline uint64_t rdtsc(void)
{
	uint32_t lo, hi;

	__asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi));
	return (uint64_t)hi << 32 | lo;
}

static inline void pause(void)
{
	__asm__ volatile("pause" : : : "memory");
}

/* --- MMIO: one instruction each, of the size named --- */
#define DEFINE_MMIO(bits) \
	static inline uint##bits##_t read##bits(uint64_t addr) \
	{ \
		return *(volatile uint##bits##_t *)addr; \
	} \
	static inline void write##bits(uint64_t addr, uint##bits##_t value) \
	{ \
		*(volatile uint##bits##_t *)addr = value; \
	}
DEFINE_MMIO(8)
DEFINE_MMIO(16)
DEFINE_MMIO(32)
DEFINE_MMIO(64)
