/* SPDX-License-Identifier: MIT */
#include "util/run_entry.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "util/util.h"

/* The keys of a line; one list to write and to read by. */
enum kind {
	KIND_TEXT, /* left out where empty */
	KIND_U32,
	KIND_U64,
	KIND_MAC, /* left out where zero */
};

struct field {
	const char *key;
	enum kind kind;
	size_t offset;
	size_t size;
};

#define FIELD(type, kind, member)                                                                  \
	{#member, kind, offsetof(struct type, member), sizeof(((struct type *)0)->member)}

static const struct field vm_fields[] = {
	FIELD(run_entry, KIND_TEXT, name),
	FIELD(run_entry, KIND_U32, pid),
	FIELD(run_entry, KIND_U64, start),
	FIELD(run_entry, KIND_U64, netns),
};

static const struct field nic_fields[] = {
	FIELD(run_nic, KIND_TEXT, name),
	FIELD(run_nic, KIND_TEXT, type),
	FIELD(run_nic, KIND_TEXT, interface),
	FIELD(run_nic, KIND_TEXT, bridge),
	FIELD(run_nic, KIND_TEXT, model),
	FIELD(run_nic, KIND_TEXT, path),
	FIELD(run_nic, KIND_MAC, mac),
	FIELD(run_nic, KIND_MAC, address),
	FIELD(run_nic, KIND_U32, index),
	FIELD(run_nic, KIND_U32, queues),
	FIELD(run_nic, KIND_U32, mtu),
};

#define VALUE_BYTES_MAX 256 /* with the NUL; the longest of the fields' sizes */

/* --- writing --- */

struct out {
	char *buf;
	size_t size, len; /* len >= size: it did not fit */
};

static void put(struct out *out, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void put(struct out *out, const char *fmt, ...)
{
	va_list args;
	int n;

	if (out->len >= out->size)
		return;
	va_start(args, fmt);
	n = vsnprintf(out->buf + out->len, out->size - out->len, fmt, args);
	va_end(args);
	out->len += (size_t)n;
}

static void put_text(struct out *out, const char *text, size_t size)
{
	for (size_t i = 0; i < size && text[i]; i++) {
		unsigned char c = (unsigned char)text[i];

		put(out, c <= ' ' || c == '%' || c >= 0x7f ? "%%%02x" : "%c", c);
	}
}

static void put_field(struct out *out, const struct field *field, const void *from)
{
	const uint8_t *value = (const uint8_t *)from + field->offset;
	uint64_t u64;
	uint32_t u32;

	switch (field->kind) {
	case KIND_TEXT:
		if (!*value)
			return;
		put(out, " %s=", field->key);
		put_text(out, (const char *)value, field->size);
		break;
	case KIND_U32:
		memcpy(&u32, value, sizeof(u32));
		put(out, " %s=%u", field->key, u32);
		break;
	case KIND_U64:
		memcpy(&u64, value, sizeof(u64));
		put(out, " %s=%llu", field->key, (unsigned long long)u64);
		break;
	case KIND_MAC:
		if (run_mac(value))
			put(out, " %s=%02x:%02x:%02x:%02x:%02x:%02x", field->key, value[0],
			    value[1], value[2], value[3], value[4], value[5]);
		break;
	}
}

static void put_line(struct out *out, const char *word, const struct field *fields,
		     unsigned int count, const void *from)
{
	put(out, "%s", word);
	for (unsigned int i = 0; i < count; i++)
		put_field(out, &fields[i], from);
	put(out, "\n");
}

int run_entry_format(const struct run_entry *entry, char *buf, size_t size)
{
	struct out out = {.buf = buf, .size = size};

	put(&out, "%s\n", RUN_VERSION);
	put_line(&out, "vm", vm_fields, ARRAY_LEN(vm_fields), entry);
	for (unsigned int i = 0; i < entry->nic_count; i++)
		put_line(&out, "nic", nic_fields, ARRAY_LEN(nic_fields), &entry->nics[i]);
	return out.len < size ? (int)out.len : -ENOSPC;
}

/* --- reading --- */

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int hex_pair(const char *text, const char *end)
{
	int high = end - text < 2 ? -1 : hex_digit(text[0]);
	int low = high < 0 ? -1 : hex_digit(text[1]);

	return low < 0 ? -1 : high << 4 | low;
}

/* [from, end) without its escapes, as a string. */
static int unescape(const char *from, const char *end, char *out, size_t size)
{
	size_t n = 0;

	while (from < end) {
		int c = (unsigned char)*from++;

		if (c <= ' ' || c >= 0x7f)
			return -EINVAL;
		if (c == '%') {
			c = hex_pair(from, end);
			from += c < 0 ? 0 : 2;
		}
		if (c <= 0 || n + 1 >= size)
			return -EINVAL;
		out[n++] = (char)c;
	}
	out[n] = 0;
	return 0;
}

static int parse_mac(const char *text, uint8_t mac[6])
{
	const char *end = text + strlen(text);

	for (int i = 0; i < 6; i++, text += 3) {
		int byte = hex_pair(text, end);

		if (byte < 0 || text[2] != (i < 5 ? ':' : 0))
			return -EINVAL;
		mac[i] = (uint8_t)byte;
	}
	return 0;
}

static int parse_value(const struct field *field, const char *value, void *to)
{
	uint8_t *out = (uint8_t *)to + field->offset;
	size_t len = strlen(value);
	uint64_t number;
	uint32_t u32;
	int r;

	if (field->kind == KIND_MAC)
		return parse_mac(value, out);
	if (field->kind == KIND_TEXT) {
		if (len >= field->size)
			return -EINVAL;
		memset(out, 0, field->size);
		memcpy(out, value, len);
		return 0;
	}
	r = parse_uint(value, 0, field->kind == KIND_U32 ? UINT32_MAX : UINT64_MAX, &number);
	if (r)
		return -EINVAL;
	u32 = (uint32_t)number;
	memcpy(out, field->kind == KIND_U32 ? (void *)&u32 : &number, field->size);
	return 0;
}

/* One "key=value", of which the key may be unknown. */
static int parse_pair(const char *from, const char *end, const struct field *fields,
		      unsigned int count, void *to)
{
	const char *equals = memchr(from, '=', (size_t)(end - from));
	char value[VALUE_BYTES_MAX];

	if (!equals)
		return -EINVAL;
	for (unsigned int i = 0; i < count; i++) {
		size_t len = strlen(fields[i].key);

		if (len != (size_t)(equals - from) || memcmp(from, fields[i].key, len) != 0)
			continue;
		if (unescape(equals + 1, end, value, sizeof(value)) < 0)
			return -EINVAL;
		return parse_value(&fields[i], value, to);
	}
	return 0;
}

/* The pairs of a line, each behind one space. */
static int parse_pairs(const char *from, const char *end, const struct field *fields,
		       unsigned int count, void *to)
{
	while (from < end) {
		const char *space = ++from < end ? memchr(from, ' ', (size_t)(end - from)) : NULL;
		const char *stop = space ? space : end;

		if (parse_pair(from, stop, fields, count, to) < 0)
			return -EINVAL;
		from = stop;
	}
	return 0;
}

static bool begins(const char *line, const char *end, const char *word)
{
	size_t len = strlen(word);

	return (size_t)(end - line) >= len && memcmp(line, word, len) == 0;
}

static int parse_line(const char *line, const char *end, struct run_entry *out)
{
	if (begins(line, end, "vm "))
		return parse_pairs(line + 2, end, vm_fields, ARRAY_LEN(vm_fields), out);
	if (!begins(line, end, "nic "))
		return 0;
	if (out->nic_count == RUN_NICS_MAX)
		return -EINVAL;
	return parse_pairs(line + 3, end, nic_fields, ARRAY_LEN(nic_fields),
			   &out->nics[out->nic_count++]);
}

int run_entry_parse(const char *text, size_t len, struct run_entry *out)
{
	const char *end = text + strnlen(text, len), *line = text, *newline;

	memset(out, 0, sizeof(*out));
	if (!begins(text, end, RUN_VERSION "\n"))
		return begins(text, end, "minivmm ") ? -EPROTONOSUPPORT : -EINVAL;
	for (line += strlen(RUN_VERSION "\n"); line < end; line = newline + 1) {
		newline = memchr(line, '\n', (size_t)(end - line));
		if (!newline || parse_line(line, newline, out) < 0)
			return -EINVAL;
	}
	return out->pid ? 0 : -EINVAL;
}
