/* SPDX-License-Identifier: MIT */
#include "cmd/print.h"

#include <stdbool.h>
#include <stdio.h>

#include "util/util.h"

/* The length of the character, or 0: it is no UTF-8, and who knows what a terminal makes of it. */
static int character_bytes(const unsigned char *c)
{
	int len = c[0] < 0x80 ? 1 : c[0] < 0xc2 ? 0 : c[0] < 0xe0 ? 2 : c[0] < 0xf0 ? 3 : 4;

	for (int i = 1; i < len; i++)
		if ((c[i] & 0xc0) != 0x80)
			return 0;
	/* Longer than it need be, as a control character in disguise is; or beyond Unicode. */
	if ((c[0] == 0xe0 && c[1] < 0xa0) || (c[0] == 0xf0 && c[1] < 0x90) || c[0] > 0xf4)
		return 0;
	return len;
}

/* ASCII's, and those of ISO 8859. */
static bool is_control(const unsigned char *c)
{
	return c[0] < ' ' || c[0] == 0x7f || (c[0] == 0xc2 && c[1] < 0xa0);
}

int print_clean(const char *text)
{
	int n = 0;

	for (const unsigned char *c = (const unsigned char *)text; *c; n++) {
		int len = character_bytes(c);

		if (!len || is_control(c))
			putchar('?');
		else
			printf("%.*s", len, c);
		c += MAX(len, 1);
	}
	return n;
}

void print_padded(const char *text, int columns)
{
	int n = print_clean(text);

	printf("%*s", MAX(columns - n, 0), "");
}

/* What three digits are too few for goes to the next unit. */
static const char *scaled_text(uint64_t number, unsigned int step, const char *const units[],
				unsigned int count, char *out, size_t len)
{
	double value = (double)number;
	unsigned int i = 0;

	for (; value >= 999.5 && i + 1 < count; i++)
		value /= step;
	snprintf(out, len, "%.3g%s", value, units[i]);
	return out;
}

const char *size_text(uint64_t bytes, char *out, size_t len)
{
	static const char *const units[] = {" B", " KiB", " MiB", " GiB", " TiB", " PiB", " EiB"};

	return scaled_text(bytes, 1024, units, ARRAY_LEN(units), out, len);
}

const char *count_text(uint64_t count, char *out, size_t len)
{
	static const char *const units[] = {"", "k", "M", "G", "T", "P", "E"};

	return scaled_text(count, 1000, units, ARRAY_LEN(units), out, len);
}
