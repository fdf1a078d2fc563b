/* SPDX-License-Identifier: MIT */
#include "cmd/print.h"

#include <stdio.h>

#include "util/util.h"

/* Control characters: ASCII's, and those of ISO 8859, as UTF-8 has them. */
static int control_bytes(const unsigned char *text)
{
	if (*text < ' ' || *text == 0x7f)
		return 1;
	return text[0] == 0xc2 && text[1] >= 0x80 && text[1] < 0xa0 ? 2 : 0;
}

int print_clean(const char *text)
{
	int n = 0;

	for (const unsigned char *c = (const unsigned char *)text; *c;) {
		int control = control_bytes(c);

		n += (*c & 0xc0) != 0x80; /* not the rest of a character */
		putchar(control ? '?' : *c);
		c += MAX(control, 1);
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
