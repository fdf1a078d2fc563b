/* SPDX-License-Identifier: MIT */
#include "net/bridge/state.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "util/util.h"

size_t bridge_state_format(const struct bridge_state *state, char *text)
{
	char address[CIDR_TEXT_BYTES];

	cidr_format(&state->address, address);
	return (size_t)snprintf(text, BRIDGE_STATE_BYTES,
				"netns %" PRIu64 "\nindex %d\naddress %s\ndid %u\n",
				state->netns, state->index, address, state->did);
}

/* What is after "KEY " in the next line, or NULL where that is another; `text` moves on. */
static const char *take_line(char **text, const char *key)
{
	char *line = strsep(text, "\n");
	size_t len = strlen(key);

	if (!line || !*text || strncmp(line, key, len) || line[len] != ' ')
		return NULL;
	return line + len + 1;
}

static int take_number(char **text, const char *key, uint64_t min, uint64_t max, uint64_t *out)
{
	const char *value = take_line(text, key);

	return value ? parse_uint(value, min, max, out) : -EINVAL;
}

static int take_address(char **text, const char *key, struct cidr *out)
{
	const char *value = take_line(text, key);

	return value && cidr_parse(value, out) == 0 && !cidr_unfit(out) ? 0 : -EINVAL;
}

int bridge_state_parse(const char *text, size_t len, struct bridge_state *out)
{
	char copy[BRIDGE_STATE_BYTES + 1], *rest = copy;
	uint64_t index, did;

	if (len > BRIDGE_STATE_BYTES || memchr(text, 0, len))
		return -EINVAL;
	memcpy(copy, text, len);
	copy[len] = 0;
	if (take_number(&rest, "netns", 0, UINT64_MAX, &out->netns) < 0 ||
	    take_number(&rest, "index", 1, INT_MAX, &index) < 0 ||
	    take_address(&rest, "address", &out->address) < 0 ||
	    take_number(&rest, "did", 0, BRIDGE_DID_ALL, &did) < 0 || *rest)
		return -EINVAL;
	out->index = (int)index;
	out->did = (unsigned int)did;
	return 0;
}
