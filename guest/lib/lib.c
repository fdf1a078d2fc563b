/* SPDX-License-Identifier: MIT */
#include "guest/lib/guest.h"

#include <stdarg.h>

#include "guest/lib/cpu.h"
#include "guest/lib/io.h"
#include "vmm/layout.h"

#define PTE_2M 0xE7ull
#define PTE_TABLE 0x67ull
#define GIB 0x40000000ull

#define LSR_DR 0x01

/* The sleep type of S5 on QEMU's q35, which has PM1 control at the same port. */
#define Q35_S5_SLP_TYP 0
#define PM1_SLP_EN 0x2000
#define PM1_SLP_TYP_SHIFT 10

extern char guest_end[];
extern uint64_t page_pdpt[512];
void guest_start(uint64_t start_info);

/* The PVH start info, as far as we read it. */
struct start_info {
	uint32_t magic, version, flags, nr_modules;
	uint64_t modlist, cmdline;
};

static const char *cmdline = "";
static uint64_t heap;

/* --- memory --- */

void *memset(void *to, int byte, size_t len)
{
	void *start = to;

	__asm__ volatile("rep stosb" : "+D"(to), "+c"(len) : "a"(byte) : "memory");
	return start;
}

void *memcpy(void *to, const void *from, size_t len)
{
	void *start = to;

	__asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(len) : : "memory");
	return start;
}

int memcmp(const void *a, const void *b, size_t len)
{
	const uint8_t *x = a, *y = b;

	for (; len; len--, x++, y++)
		if (*x != *y)
			return *x - *y;
	return 0;
}

size_t strlen(const char *s)
{
	size_t len = 0;

	while (s[len])
		len++;
	return len;
}

void *alloc(size_t len, size_t align)
{
	void *block;

	if (!heap)
		heap = (uint64_t)guest_end;
	heap = (heap + align - 1) & ~(align - 1);
	block = (void *)heap;
	heap += len;
	return memset(block, 0, len);
}

void map_gib(uint64_t gpa)
{
	uint64_t *pd;

	gpa &= ~(GIB - 1);
	CHECK(gpa >= 4 * GIB && gpa < 512 * GIB);
	if (page_pdpt[gpa / GIB])
		return;
	pd = alloc(4096, 4096);
	for (unsigned int i = 0; i < 512; i++)
		pd[i] = (gpa + i * 0x200000ull) | PTE_2M;
	page_pdpt[gpa / GIB] = (uint64_t)pd | PTE_TABLE;
}

/* --- text --- */

static void put(char c)
{
	outb(COM1, (uint8_t)c);
}

static void put_text(const char *s)
{
	while (*s)
		put(*s++);
}

static void put_number(uint64_t value, unsigned int base, int width)
{
	char digits[24];
	int n = 0;

	do {
		digits[n++] = "0123456789abcdef"[value % base];
		value /= base;
	} while (value);
	while (n < width)
		digits[n++] = '0';
	while (n)
		put(digits[--n]);
}

static void put_signed(int64_t value)
{
	if (value < 0)
		put('-');
	put_number(value < 0 ? -(uint64_t)value : (uint64_t)value, 10, 0);
}

/* One conversion; returns where the format goes on. */
static const char *convert(const char *fmt, va_list *args)
{
	int width = 0;
	bool wide;

	while (*fmt >= '0' && *fmt <= '9')
		width = width * 10 + (*fmt++ - '0');
	wide = *fmt == 'l';
	fmt += wide;
	switch (*fmt) {
	case 's':
		put_text(va_arg(*args, const char *));
		break;
	case 'c':
		put((char)va_arg(*args, int));
		break;
	case 'd':
		put_signed(wide ? va_arg(*args, int64_t) : va_arg(*args, int));
		break;
	default:
		put_number(wide ? va_arg(*args, uint64_t) : va_arg(*args, unsigned int),
			   *fmt == 'x' ? 16 : 10, width);
	}
	return fmt + 1;
}

static void vprint(const char *fmt, va_list *args)
{
	while (*fmt) {
		if (*fmt == '%')
			fmt = convert(fmt + 1, args);
		else
			put(*fmt++);
	}
}

void print(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vprint(fmt, &args);
	va_end(args);
}

int serial_getc(void)
{
	while (!(inb(COM1 + 5) & LSR_DR))
		pause();
	return inb(COM1);
}

void serial_gets(char *line, size_t size)
{
	size_t len = 0;
	int c;

	while ((c = serial_getc()) != '\n') {
		CHECK(len + 1 < size);
		line[len++] = (char)c;
	}
	line[len] = '\0';
}

/* --- the command line --- */

void do_jobs(void (*do_job)(void))
{
	static char line[128];

	print("ready\n");
	for (serial_gets(line, sizeof(line)); line[0]; serial_gets(line, sizeof(line))) {
		cmdline = line;
		do_job();
	}
}

/* What follows `word`, where it stands as a word of its own or before '='; else NULL. */
static const char *find_word(const char *word)
{
	size_t len = strlen(word);
	const char *at = cmdline;

	while (*at) {
		if (memcmp(at, word, len) == 0 && (at[len] == '=' || at[len] == ' ' || !at[len]))
			return at + len;
		while (*at && *at != ' ')
			at++;
		while (*at == ' ')
			at++;
	}
	return NULL;
}

bool flag(const char *word)
{
	return find_word(word);
}

static int digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

uint64_t param(const char *name, uint64_t otherwise)
{
	const char *at = find_word(name);
	uint64_t value = 0;
	int base = 10;

	if (!at || *at != '=')
		return otherwise;
	at++;
	if (at[0] == '0' && at[1] == 'x') {
		base = 16;
		at += 2;
	}
	for (; digit(*at) >= 0; at++)
		value = value * base + digit(*at);
	return value;
}

/* --- the end --- */

_Noreturn void power_off(void)
{
	outw(LAYOUT_PORT_PM1_CNT, PM1_SLP_EN | LAYOUT_S5_SLP_TYP << PM1_SLP_TYP_SHIFT);
	outw(LAYOUT_PORT_PM1_CNT, PM1_SLP_EN | Q35_S5_SLP_TYP << PM1_SLP_TYP_SHIFT);
	for (;;)
		pause();
}

_Noreturn void pass(void)
{
	print("PASS\n");
	power_off();
}

_Noreturn void fail(const char *fmt, ...)
{
	va_list args;

	print("FAIL: ");
	va_start(args, fmt);
	vprint(fmt, &args);
	va_end(args);
	print("\n");
	power_off();
}

void guest_start(uint64_t start_info)
{
	const struct start_info *info = (const void *)start_info;

	if (info->cmdline)
		cmdline = (const char *)info->cmdline;
	guest_main();
	pass();
}
