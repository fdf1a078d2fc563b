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
/* Waits for a line, without its end; fails where that does not fit. */
void serial_gets(char *line, size_t size);

/* The number after `name=` on the command line, or `otherwise`; decimal or 0x. */
uint64_t param(const char *name, uint64_t otherwise);
/* Whether the word stands there. */
bool flag(const char *word);
/* Say "ready"; then each line from the console is a job's command line, an empty one the end. */
void do_jobs(void (*do_job)(void));

/* --- memory --- */
void *memset(void *to, int byte, size_t len);
void *memcpy(void *to, const void *from, size_t len);
int memcmp(const void *a, const void *b, size_t len);
size_t strlen(const char *s);
/* Zeroed, never freed; `align` is a power of two. */
void *alloc(size_t len, size_t align);
/* Map the GiB at `gpa` onto itself, 4 GiB and above, below 512 GiB. */
void map_gib(uint64_t gpa);
