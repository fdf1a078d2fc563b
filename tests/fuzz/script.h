/* SPDX-License-Identifier: MIT */
/* Reads a fuzzer's input as a script: operations and their arguments, zeroes past its end. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct script {
	const uint8_t *at;
	size_t left;
};

static inline void script_bytes(struct script *script, void *buf, size_t len)
{
	size_t n = len < script->left ? len : script->left;

	memset(buf, 0, len);
	if (n)
		memcpy(buf, script->at, n);
	script->at += n;
	script->left -= n;
}

static inline uint8_t script_u8(struct script *script)
{
	uint8_t value;

	script_bytes(script, &value, sizeof(value));
	return value;
}

static inline uint16_t script_u16(struct script *script)
{
	uint16_t value;

	script_bytes(script, &value, sizeof(value));
	return value;
}

static inline uint32_t script_u32(struct script *script)
{
	uint32_t value;

	script_bytes(script, &value, sizeof(value));
	return value;
}
