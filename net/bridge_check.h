/* SPDX-License-Identifier: MIT */
/* What stops a bridge's traffic without a word. */
#pragma once

/*
 * Say, in a line each, what about bridge `name` or its host will keep frames from guests on it. As
 * far as we may look; what cannot be looked at is passed over. Changes nothing.
 */
void bridge_check(const char *name);
