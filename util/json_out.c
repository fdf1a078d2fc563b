/* SPDX-License-Identifier: MIT */
#include "util/json_out.h"

#include <inttypes.h>

static void put_string(FILE *to, const char *text)
{
	putc('"', to);
	for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
		if (*c == '"' || *c == '\\')
			putc('\\', to);
		if (*c < ' ')
			fprintf(to, "\\u%04x", *c);
		else
			putc(*c < 0x7f ? *c : '?', to);
	}
	putc('"', to);
}

static void begin(struct json_out *out, const char *key)
{
	if (out->more)
		putc(',', out->to);
	out->more = true;
	if (!key)
		return;
	put_string(out->to, key);
	putc(':', out->to);
}

void json_out_open(struct json_out *out, const char *key, char bracket)
{
	begin(out, key);
	putc(bracket, out->to);
	out->more = false;
}

void json_out_close(struct json_out *out, char bracket)
{
	putc(bracket, out->to);
	out->more = true;
}

void json_out_number(struct json_out *out, const char *key, uint64_t value)
{
	begin(out, key);
	fprintf(out->to, "%" PRIu64, value);
}

void json_out_text(struct json_out *out, const char *key, const char *text)
{
	begin(out, key);
	put_string(out->to, text);
}

void json_out_bool(struct json_out *out, const char *key, bool value)
{
	begin(out, key);
	fputs(value ? "true" : "false", out->to);
}
