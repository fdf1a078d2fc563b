/* SPDX-License-Identifier: MIT */
/*
 * What `minivmm bridge` believes of its own file, which root reads back: if it is taken, it is
 * sound, and comes out as the same when written.
 */
#include <stdlib.h>
#include <string.h>

#include "net/bridge/state.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void check(const struct bridge_state *state)
{
	char text[BRIDGE_STATE_BYTES];
	struct bridge_state again;

	if (state->index < 1 || state->did > BRIDGE_DID_ALL || cidr_unfit(&state->address))
		abort();
	if (bridge_state_parse(text, bridge_state_format(state, text), &again) < 0)
		abort();
	if (again.netns != state->netns || again.index != state->index || again.did != state->did ||
	    !cidr_equal(&again.address, &state->address))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	char *text = malloc(len + !len); /* its end is watched */
	struct bridge_state state;

	if (!text)
		abort();
	memcpy(text, data, len);
	if (bridge_state_parse(text, len, &state) == 0)
		check(&state);
	free(text);
	return 0;
}
