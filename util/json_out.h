/* SPDX-License-Identifier: MIT */
/* JSON as it is written, for minivmm itself, which a library would start later. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct json_out {
	FILE *to;
	bool more; /* something is there already: a comma comes first */
};

/* `key` is NULL in an array and at the top. */
void json_out_open(struct json_out *out, const char *key, char bracket);
/* '}' or ']', as was opened. */
void json_out_close(struct json_out *out, char bracket);
void json_out_number(struct json_out *out, const char *key, uint64_t value);
/* ASCII stays; what is none becomes '?'. */
void json_out_text(struct json_out *out, const char *key, const char *text);
void json_out_bool(struct json_out *out, const char *key, bool value);
