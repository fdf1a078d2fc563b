/* SPDX-License-Identifier: MIT */
#include "boot/aml.h"

#include <string.h>

/* Opcodes (ACPI 6.5, 20.2). */
enum {
	OP_ZERO = 0x00,
	OP_ONE = 0x01,
	OP_NAME = 0x08,
	OP_BYTE = 0x0A,
	OP_WORD = 0x0B,
	OP_DWORD = 0x0C,
	OP_QWORD = 0x0E,
	OP_SCOPE = 0x10,
	OP_BUFFER = 0x11,
	OP_PACKAGE = 0x12,
	OP_METHOD = 0x14,
	OP_EXT = 0x5B,
	OP_EXT_DEVICE = 0x82,
	OP_IF = 0xA0,
};

/* Resource descriptors (6.4.2, 6.4.3): small ones with their length in the low bits. */
enum {
	RES_IRQ_NOFLAGS = 0x22,
	RES_IO = 0x47,
	RES_END = 0x79,
	RES_MEMORY32_FIXED = 0x86,
	RES_DWORD_SPACE = 0x87,
	RES_WORD_SPACE = 0x88,
};

enum {
	SPACE_MEMORY = 0,
	SPACE_IO = 1,
	SPACE_BUS = 2,
};

#define IO_DECODE16 1
#define MEMORY_WRITABLE 1
#define SPACE_MIN_MAX_FIXED 0x0C
#define SPACE_IO_ENTIRE 3

void aml_init(struct aml *aml, void *buf, size_t cap)
{
	*aml = (struct aml){.buf = buf, .cap = cap};
}

void aml_append(struct aml *aml, const void *data, size_t len)
{
	if (len > aml->cap - aml->len) {
		aml->overflow = true;
		return;
	}
	memcpy(aml->buf + aml->len, data, len);
	aml->len += len;
}

void aml_byte(struct aml *aml, uint8_t value)
{
	aml_append(aml, &value, 1);
}

static void word(struct aml *aml, uint16_t value)
{
	aml_append(aml, &value, sizeof(value));
}

static void dword(struct aml *aml, uint32_t value)
{
	aml_append(aml, &value, sizeof(value));
}

void aml_name_string(struct aml *aml, const char *name)
{
	char segment[4] = {'_', '_', '_', '_'};

	if (*name == '\\')
		aml_byte(aml, (uint8_t)*name++);
	for (int i = 0; i < 4 && name[i]; i++)
		segment[i] = name[i];
	aml_append(aml, segment, sizeof(segment));
}

size_t aml_scope_begin(struct aml *aml, const char *name)
{
	size_t start;

	aml_byte(aml, OP_SCOPE);
	start = aml->len;
	aml_name_string(aml, name);
	return start;
}

size_t aml_device_begin(struct aml *aml, const char *name)
{
	size_t start;

	aml_byte(aml, OP_EXT);
	aml_byte(aml, OP_EXT_DEVICE);
	start = aml->len;
	aml_name_string(aml, name);
	return start;
}

size_t aml_method_begin(struct aml *aml, const char *name, uint8_t flags)
{
	size_t start;

	aml_byte(aml, OP_METHOD);
	start = aml->len;
	aml_name_string(aml, name);
	aml_byte(aml, flags);
	return start;
}

size_t aml_package_begin(struct aml *aml, uint8_t elements)
{
	size_t start;

	aml_byte(aml, OP_PACKAGE);
	start = aml->len;
	aml_byte(aml, elements);
	return start;
}

size_t aml_if_begin(struct aml *aml)
{
	aml_byte(aml, OP_IF);
	return aml->len;
}

/*
 * PkgLength (20.2.4) counts itself and what follows it: 6 bits in one byte, or 4 bits and up
 * to three bytes more, whose number is in the top two bits.
 */
static size_t encode_length(uint8_t *out, size_t content)
{
	size_t extra, value;

	if (content + 1 < 1u << 6) {
		out[0] = (uint8_t)(content + 1);
		return 1;
	}
	for (extra = 1; extra < 3 && content + 1 + extra >= 1u << (4 + 8 * extra); extra++)
		;
	value = content + 1 + extra;
	out[0] = (uint8_t)(extra << 6 | (value & 0xF));
	for (size_t i = 0; i < extra; i++)
		out[1 + i] = (uint8_t)(value >> (4 + 8 * i));
	return 1 + extra;
}

void aml_end(struct aml *aml, size_t start)
{
	uint8_t length[4];
	size_t content, n;

	if (aml->overflow)
		return;
	content = aml->len - start;
	n = encode_length(length, content);
	if (n > aml->cap - aml->len) {
		aml->overflow = true;
		return;
	}
	memmove(aml->buf + start + n, aml->buf + start, content);
	memcpy(aml->buf + start, length, n);
	aml->len += n;
}

void aml_name(struct aml *aml, const char *name)
{
	aml_byte(aml, OP_NAME);
	aml_name_string(aml, name);
}

void aml_int(struct aml *aml, uint64_t value)
{
	if (value <= 1) {
		aml_byte(aml, value ? OP_ONE : OP_ZERO);
	} else if (value <= UINT8_MAX) {
		aml_byte(aml, OP_BYTE);
		aml_byte(aml, (uint8_t)value);
	} else if (value <= UINT16_MAX) {
		aml_byte(aml, OP_WORD);
		word(aml, (uint16_t)value);
	} else if (value <= UINT32_MAX) {
		aml_byte(aml, OP_DWORD);
		dword(aml, (uint32_t)value);
	} else {
		aml_byte(aml, OP_QWORD);
		aml_append(aml, &value, sizeof(value));
	}
}

static uint8_t hex_digit(char c)
{
	return (uint8_t)(c <= '9' ? c - '0' : c - 'A' + 10);
}

/* Three letters of five bits each, then four hexadecimal digits (19.3.4); big endian. */
void aml_eisa_id(struct aml *aml, const char *id)
{
	uint32_t letters = (uint32_t)(id[0] - '@') << 10 | (uint32_t)(id[1] - '@') << 5 |
			   (uint32_t)(id[2] - '@');

	aml_byte(aml, OP_DWORD);
	aml_byte(aml, (uint8_t)(letters >> 8));
	aml_byte(aml, (uint8_t)letters);
	aml_byte(aml, (uint8_t)(hex_digit(id[3]) << 4 | hex_digit(id[4])));
	aml_byte(aml, (uint8_t)(hex_digit(id[5]) << 4 | hex_digit(id[6])));
}

void aml_buffer(struct aml *aml, const void *data, uint8_t len)
{
	size_t start;

	aml_byte(aml, OP_BUFFER);
	start = aml->len;
	aml_int(aml, len);
	aml_append(aml, data, len);
	aml_end(aml, start);
}

/* The buffer's size comes before its content: two bytes are kept free for it. */
size_t aml_resources_begin(struct aml *aml)
{
	size_t start;

	aml_name(aml, "_CRS");
	aml_byte(aml, OP_BUFFER);
	start = aml->len;
	aml_byte(aml, OP_WORD);
	word(aml, 0);
	return start;
}

void aml_resources_end(struct aml *aml, size_t start)
{
	uint16_t size;

	aml_byte(aml, RES_END);
	aml_byte(aml, 0); /* checksum: none */
	if (aml->overflow)
		return;
	size = (uint16_t)(aml->len - start - 3);
	memcpy(aml->buf + start + 1, &size, sizeof(size));
	aml_end(aml, start);
}

void aml_res_io(struct aml *aml, uint16_t base, uint8_t len)
{
	aml_byte(aml, RES_IO);
	aml_byte(aml, IO_DECODE16);
	word(aml, base);
	word(aml, base);
	aml_byte(aml, 1); /* alignment */
	aml_byte(aml, len);
}

void aml_res_irq(struct aml *aml, unsigned int line)
{
	aml_byte(aml, RES_IRQ_NOFLAGS);
	word(aml, (uint16_t)(1u << line));
}

void aml_res_memory32(struct aml *aml, uint32_t base, uint32_t len)
{
	aml_byte(aml, RES_MEMORY32_FIXED);
	word(aml, 9);
	aml_byte(aml, MEMORY_WRITABLE);
	dword(aml, base);
	dword(aml, len);
}

static void word_space(struct aml *aml, uint8_t type, uint8_t flags, uint16_t first,
		       uint16_t last)
{
	aml_byte(aml, RES_WORD_SPACE);
	word(aml, 13);
	aml_byte(aml, type);
	aml_byte(aml, SPACE_MIN_MAX_FIXED);
	aml_byte(aml, flags);
	word(aml, 0); /* granularity */
	word(aml, first);
	word(aml, last);
	word(aml, 0); /* translation */
	word(aml, (uint16_t)(last - first + 1));
}

void aml_res_window_bus(struct aml *aml, uint16_t first, uint16_t last)
{
	word_space(aml, SPACE_BUS, 0, first, last);
}

void aml_res_window_io(struct aml *aml, uint16_t first, uint16_t last)
{
	word_space(aml, SPACE_IO, SPACE_IO_ENTIRE, first, last);
}

void aml_res_window_memory32(struct aml *aml, uint32_t first, uint32_t last)
{
	aml_byte(aml, RES_DWORD_SPACE);
	word(aml, 23);
	aml_byte(aml, SPACE_MEMORY);
	aml_byte(aml, SPACE_MIN_MAX_FIXED);
	aml_byte(aml, MEMORY_WRITABLE);
	dword(aml, 0);
	dword(aml, first);
	dword(aml, last);
	dword(aml, 0);
	dword(aml, last - first + 1);
}
