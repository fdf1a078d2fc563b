/* SPDX-License-Identifier: MIT */
/* JSON for the programs' --json. */
#pragma once

#include <stdint.h>

#include <jansson.h>

/* `value` under `key`, which `object` takes over. NULL or what fails: exits. */
void json_put(json_t *object, const char *key, json_t *value);
/* At most INT64_MAX. */
void json_put_number(json_t *object, const char *key, uint64_t value);
/* What is no UTF-8 becomes '?'. */
void json_put_text(json_t *object, const char *key, const char *text);
json_t *json_text(const char *text);
/* On stdout, and lets go of it. */
void json_print(json_t *root);
