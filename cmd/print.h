/* SPDX-License-Identifier: MIT */
/* Text for a terminal, of what others chose. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Print UTF-8, and '?' for what is none or a terminal would obey. How many characters it made. */
int print_clean(const char *text);
/* And spaces up to so many columns. */
void print_padded(const char *text, int columns);
/* "1.21 GiB", three digits of it; returns `out`. */
const char *size_text(uint64_t bytes, char *out, size_t len);
/* "1.21M", in thousands; returns `out`. */
const char *count_text(uint64_t count, char *out, size_t len);
