/* SPDX-License-Identifier: MIT */
/* A device's registers, behind ports and in memory: one instruction each, of the size named. */
#pragma once

#include <stdint.h>

/* --- ports --- */
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

/* --- MMIO --- */
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
