/* SPDX-License-Identifier: MIT */
/* `minivmm top`: what running machines count, by the second. */
#pragma once

#include <jansson.h>

#include "util/run_dir.h"

/* What a machine counted until now, as --stats=FILE has it; NULL: it does not count, or does not
 * answer us. */
json_t *top_ask(const struct run_found *found);

/* The difference of two reports, `seconds` apart, as text. */
void top_show(const json_t *before, const json_t *after, double seconds);
