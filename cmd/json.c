/* SPDX-License-Identifier: MIT */
#include "cmd/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/log.h"
#include "util/util.h"

static void *need(void *memory)
{
	if (memory)
		return memory;
	log_error("out of memory");
	exit(1);
}

void json_put(json_t *object, const char *key, json_t *value)
{
	if (json_object_set_new(object, key, need(value)) < 0)
		need(NULL);
}

void json_put_number(json_t *object, const char *key, uint64_t value)
{
	json_put(object, key, json_integer((json_int_t)MIN(value, (uint64_t)INT64_MAX)));
}

json_t *json_text(const char *text)
{
	json_t *value = json_string(text);
	char *copy;

	if (value)
		return value;
	copy = need(strdup(text));
	for (char *c = copy; *c; c++)
		if (*c & 0x80)
			*c = '?';
	value = need(json_string(copy));
	free(copy);
	return value;
}

void json_put_text(json_t *object, const char *key, const char *text)
{
	json_put(object, key, json_text(text));
}

void json_print(json_t *root)
{
	json_dumpf(root, stdout, JSON_INDENT(4));
	putchar('\n');
	json_decref(root);
}
